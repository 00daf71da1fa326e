// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace flexi::core {

/// What the caller can do about a failure. A closed list: every transport maps every kind (docs/errors.md).
enum class ErrorKind {
  invalid_argument,    ///< mend the request
  unauthenticated,     ///< sign in
  permission_denied,   ///< ask an administrator
  not_found,           ///< look elsewhere
  conflict,            ///< the id is taken by something else
  overloaded,          ///< come back later: a limit was reached
  unavailable,         ///< try another way or later
  deadline_exceeded,   ///< allow more time; it may have been done
  cancelled,           ///< the caller went away
  unimplemented,       ///< no such action or way here
  internal,            ///< a bug: report it
};

inline constexpr ErrorKind kAllErrorKinds[] = {
    ErrorKind::invalid_argument, ErrorKind::unauthenticated, ErrorKind::permission_denied, ErrorKind::not_found,
    ErrorKind::conflict,         ErrorKind::overloaded,      ErrorKind::unavailable,       ErrorKind::deadline_exceeded,
    ErrorKind::cancelled,        ErrorKind::unimplemented,   ErrorKind::internal};

/// The kind's name as it stands in logs, metrics and on the wire, e.g. "invalid_argument".
std::string_view to_string(ErrorKind kind);
std::optional<ErrorKind> error_kind_from(std::string_view name);

/// Whether a request that failed may have reached its destination all the same.
enum class Sent { no, maybe };

struct Error {
  ErrorKind kind = ErrorKind::internal;
  std::string message;  ///< may be shown to a stranger
  std::string detail;   ///< for the log only, never sent to a caller
  std::optional<std::chrono::milliseconds> retry_after{};
  Sent sent = Sent::no;  ///< `maybe`: only an idempotent request may be tried another way
  /// The peer's handler said so, so the way to it works: no fault of the way, and another would lead to the same answer.
  /// Set by every transport's client on what its peer answered; never on a failure of its own (not reached, broken, late).
  bool answered = false;
  std::string way{};  ///< the last way that was tried, as Reply::way; empty: none was. Set by the broker
};

// One maker per kind keeps the places that fail short: `return core::not_found("no such mail");`
Error invalid_argument(std::string message, std::string detail = {});
Error unauthenticated(std::string message, std::string detail = {});
Error permission_denied(std::string message, std::string detail = {});
Error not_found(std::string message, std::string detail = {});
Error conflict(std::string message, std::string detail = {});
Error overloaded(std::string message, std::string detail = {});
Error unavailable(std::string message, std::string detail = {});
Error deadline_exceeded(std::string message, std::string detail = {});
Error cancelled(std::string message, std::string detail = {});
Error unimplemented(std::string message, std::string detail = {});
Error internal(std::string message, std::string detail = {});

/// True where another try, or another way, can succeed: overloaded, unavailable, deadline_exceeded.
bool is_transient(ErrorKind kind);
/// True where nobody took the message, so that it is not the message's fault: its service is away, or says that its database
/// is. Where its destination may have had it, it may be what that died of.
bool is_untaken(const Error& error);

}  // namespace flexi::core
