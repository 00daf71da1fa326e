// SPDX-License-Identifier: Apache-2.0
#include "transports/grpc/status.hpp"

#include <charconv>

namespace flexi::transports::grpc {

using core::ErrorKind;

Code code_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::invalid_argument: return Code::invalid_argument;
    case ErrorKind::unauthenticated: return Code::unauthenticated;
    case ErrorKind::permission_denied: return Code::permission_denied;
    case ErrorKind::not_found: return Code::not_found;
    case ErrorKind::conflict: return Code::already_exists;
    case ErrorKind::overloaded: return Code::resource_exhausted;
    case ErrorKind::unavailable: return Code::unavailable;
    case ErrorKind::deadline_exceeded: return Code::deadline_exceeded;
    case ErrorKind::cancelled: return Code::cancelled;
    case ErrorKind::unimplemented: return Code::unimplemented;
    case ErrorKind::internal: return Code::internal;
  }
  return Code::internal;
}

ErrorKind kind_of(Code code) {
  switch (code) {
    case Code::cancelled: return ErrorKind::cancelled;
    case Code::invalid_argument:
    case Code::out_of_range: return ErrorKind::invalid_argument;
    case Code::deadline_exceeded: return ErrorKind::deadline_exceeded;
    case Code::not_found: return ErrorKind::not_found;
    case Code::already_exists:
    case Code::failed_precondition: return ErrorKind::conflict;
    case Code::permission_denied: return ErrorKind::permission_denied;
    case Code::resource_exhausted: return ErrorKind::overloaded;
    case Code::unimplemented: return ErrorKind::unimplemented;
    case Code::unavailable: return ErrorKind::unavailable;
    case Code::unauthenticated: return ErrorKind::unauthenticated;
    default: return ErrorKind::internal;
  }
}

Status to_status(const core::Error& error) { return {code_of(error.kind), error.message, {}}; }

core::Error to_error(const Status& status, core::Sent sent) {
  core::Error error{.kind = kind_of(status.code), .message = status.message, .sent = sent};
  if (error.message.empty()) error.message = "the service answered gRPC status " + std::to_string(static_cast<int>(status.code));
  return error;
}

Code code_from_wire(std::string_view text) {
  if (text.size() == 1 && text[0] == '0') return Code::ok;
  unsigned number = 99;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (ec != std::errc() || end != text.data() + text.size() || number > 16) return Code::unknown;
  return static_cast<Code>(number);
}

Code code_from_http(int status) {
  switch (status) {
    case 400: return Code::internal;
    case 401: return Code::unauthenticated;
    case 403: return Code::permission_denied;
    case 404: return Code::unimplemented;
    case 429:
    case 502:
    case 503:
    case 504: return Code::unavailable;
    default: return Code::unknown;
  }
}

// RFC 9113 section 7 names the numbers.
Code code_from_reset(std::uint32_t http2_error) {
  switch (http2_error) {
    case 0x7: return Code::unavailable;          // REFUSED_STREAM
    case 0x8: return Code::cancelled;            // CANCEL
    case 0xb: return Code::resource_exhausted;   // ENHANCE_YOUR_CALM
    case 0xc: return Code::permission_denied;    // INADEQUATE_SECURITY
    default: return Code::internal;
  }
}

std::string percent_encode(std::string_view message) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  out.reserve(message.size());
  for (unsigned char c : message) {
    if (c >= 0x20 && c <= 0x7e && c != '%') out += static_cast<char>(c);
    else (out += '%', out += kHex[c >> 4], out += kHex[c & 15]);
  }
  return out;
}

std::string percent_decode(std::string_view text) {
  const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; };
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && digit(text[i + 1]) >= 0 && digit(text[i + 2]) >= 0) {
      out += static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2]));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace flexi::transports::grpc
