// SPDX-License-Identifier: Apache-2.0
#include "core/error.hpp"

#include <utility>

namespace flexi::core {

std::string_view to_string(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::invalid_argument: return "invalid_argument";
    case ErrorKind::unauthenticated: return "unauthenticated";
    case ErrorKind::permission_denied: return "permission_denied";
    case ErrorKind::not_found: return "not_found";
    case ErrorKind::conflict: return "conflict";
    case ErrorKind::overloaded: return "overloaded";
    case ErrorKind::unavailable: return "unavailable";
    case ErrorKind::deadline_exceeded: return "deadline_exceeded";
    case ErrorKind::cancelled: return "cancelled";
    case ErrorKind::unimplemented: return "unimplemented";
    case ErrorKind::internal: return "internal";
  }
  return "internal";
}

std::optional<ErrorKind> error_kind_from(std::string_view name) {
  for (auto kind : kAllErrorKinds)
    if (to_string(kind) == name) return kind;
  return std::nullopt;
}

namespace {
Error make(ErrorKind kind, std::string message, std::string detail) {
  Error error;
  error.kind = kind;
  error.message = std::move(message);
  error.detail = std::move(detail);
  return error;
}
}  // namespace

Error invalid_argument(std::string message, std::string detail) { return make(ErrorKind::invalid_argument, std::move(message), std::move(detail)); }
Error unauthenticated(std::string message, std::string detail) { return make(ErrorKind::unauthenticated, std::move(message), std::move(detail)); }
Error permission_denied(std::string message, std::string detail) { return make(ErrorKind::permission_denied, std::move(message), std::move(detail)); }
Error not_found(std::string message, std::string detail) { return make(ErrorKind::not_found, std::move(message), std::move(detail)); }
Error conflict(std::string message, std::string detail) { return make(ErrorKind::conflict, std::move(message), std::move(detail)); }
Error overloaded(std::string message, std::string detail) { return make(ErrorKind::overloaded, std::move(message), std::move(detail)); }
Error unavailable(std::string message, std::string detail) { return make(ErrorKind::unavailable, std::move(message), std::move(detail)); }
Error deadline_exceeded(std::string message, std::string detail) { return make(ErrorKind::deadline_exceeded, std::move(message), std::move(detail)); }
Error cancelled(std::string message, std::string detail) { return make(ErrorKind::cancelled, std::move(message), std::move(detail)); }
Error unimplemented(std::string message, std::string detail) { return make(ErrorKind::unimplemented, std::move(message), std::move(detail)); }
Error internal(std::string message, std::string detail) { return make(ErrorKind::internal, std::move(message), std::move(detail)); }

bool is_transient(ErrorKind kind) {
  return kind == ErrorKind::overloaded || kind == ErrorKind::unavailable || kind == ErrorKind::deadline_exceeded;
}

bool is_untaken(const Error& error) {
  return error.sent == Sent::no && (error.kind == ErrorKind::unavailable || error.kind == ErrorKind::overloaded);
}

}  // namespace flexi::core
