// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/beast/http/message.hpp>
#include <boost/beast/http/string_body.hpp>
#include <string_view>

#include "transports/http/routes.hpp"

namespace flexi::transports::http {

/// Looks for the end of a header in a buffer that grows, and for what Beast would take but a proxy in front might read
/// otherwise. Source: RFC 9112 section 2.2 (line ends), 5.2 (obs-fold)
class HeaderScanner {
 public:
  enum class Found { nothing, end, malformed };
  Found scan(std::string_view buffer);
  std::size_t header_size() const { return line_; }  ///< after `end`
  std::string_view problem() const { return problem_; }
  void reset() { *this = HeaderScanner(); }

 private:
  std::size_t line_ = 0;  ///< where the current line begins
  std::size_t seen_ = 0;  ///< no line end before this
  std::string_view problem_{};
};

/// What the server wants of a request's header. Views into the message that it was read from.
struct Head {
  Method method = Method::other;
  std::string_view path, query;
  bool http_1_0 = false;
  bool keep_alive = true;
  bool expects_continue = false;
  bool forwarded = false;  ///< came through a proxy
  std::string_view host, origin, content_type, authorization, if_none_match, accept_encoding, fetch_site, fetch_mode;
  std::string_view idempotency_key, via, ack, timeout_ms, traceparent, accepted_at, hops, flexi_id, process_key, preflight_method, client;
  std::string_view forwarded_for;  ///< of several lines the last: the nearest proxy's
};

/// @param problem what is wrong and what would be right; untouched when all is well
/// @return        0, or the status to refuse with
int read_head(const boost::beast::http::request<boost::beast::http::string_body>& message, Head& head, std::string_view& problem);

}  // namespace flexi::transports::http
