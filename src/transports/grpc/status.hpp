// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/error.hpp"

namespace flexi::transports::grpc {

/// Source: https://grpc.github.io/grpc/core/md_doc_statuscodes.html
enum class Code {
  ok = 0,
  cancelled = 1,
  unknown = 2,
  invalid_argument = 3,
  deadline_exceeded = 4,
  not_found = 5,
  already_exists = 6,
  permission_denied = 7,
  resource_exhausted = 8,
  failed_precondition = 9,
  aborted = 10,
  out_of_range = 11,
  unimplemented = 12,
  internal = 13,
  unavailable = 14,
  data_loss = 15,
  unauthenticated = 16,
};

/// How a call ended.
struct Status {
  Code code = Code::ok;
  std::string message{};  ///< as it is; the wire percent-encodes it
  std::string details{};  ///< a serialized google.rpc.Status for grpc-status-details-bin; empty: there is none

  bool ok() const { return code == Code::ok; }
};

/// This transport's column of docs/errors.md.
Code code_of(core::ErrorKind kind);
/// The kind that tells a caller the same. Codes that no kind stands for: unknown, aborted, data_loss → internal;
/// failed_precondition → conflict; out_of_range → invalid_argument.
core::ErrorKind kind_of(Code code);
/// kind and message; never the detail. retry_after is the codec's.
Status to_status(const core::Error& error);
core::Error to_error(const Status& status, core::Sent sent);

// --- the wire ---

/// A number over 16 is unknown, as the protocol asks; text that is no number, too.
Code code_from_wire(std::string_view text);
/// What an HTTP status says where a peer answered without grpc-status.
/// Source: https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md
Code code_from_http(int status);
/// What an HTTP/2 error code of RST_STREAM or GOAWAY says. Source: PROTOCOL-HTTP2.md "Errors"
Code code_from_reset(std::uint32_t http2_error);
/// Percent-encoding of grpc-message: all but space to '~' without '%'.
std::string percent_encode(std::string_view message);
/// Invalid escapes stay as they are, as the protocol asks.
std::string percent_decode(std::string_view text);

}  // namespace flexi::transports::grpc
