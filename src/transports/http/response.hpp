// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "core/error.hpp"

namespace flexi::transports::http {

inline constexpr std::string_view kJsonType = "application/json";
inline constexpr std::string_view kStreamEnd = ": end\n\n";  ///< of an event stream whose source has ended
inline constexpr std::string_view kTextType = "text/plain; charset=utf-8";

/// One answer before it is written. Views live until append_response has returned.
struct Answer {
  int status = 200;
  std::string_view content_type = kJsonType;
  std::string headers{};  ///< further header lines, each with its CRLF
  std::string body{};
  bool no_content = false;  ///< 204 and 304: neither body nor Content-Length
  bool streams = false;     ///< the body follows and ends with the connection

  void header(std::string_view name, std::string_view value) { headers.append(name).append(": ").append(value).append("\r\n"); }
};

/// How the request asked, which shapes the answer.
struct Framing {
  bool keep_alive = true;
  bool http_1_0 = false;
  bool head = false;  ///< the header of the answer, without its body
};

/// Appends the answer in one piece. Source: RFC 9112
/// @param date "Date" header's value
void append_response(std::string& out, const Answer& answer, Framing framing, std::string_view date);
/// "Tue, 24 Nov 2026 09:30:00 GMT". Source: RFC 9110 section 5.6.7
std::string http_date();
std::string_view reason_phrase(int status);

/// This transport's column of docs/errors.md.
int status_of(core::ErrorKind kind);
/// The kind that a status means where the peer is not one of ours.
core::ErrorKind kind_of_status(int status);
/// The contract's envelope, X-Flexi-Error and Retry-After.
Answer error_answer(const core::Error& error, int status);
/// The same for what HTTP itself refuses.
Answer refusal(int status, std::string_view message);

}  // namespace flexi::transports::http
