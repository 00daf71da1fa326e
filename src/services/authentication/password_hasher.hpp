// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/handler.hpp"
#include "runtime/blocking_pool.hpp"
#include "runtime/metrics.hpp"
#include "runtime/options.hpp"

namespace flexi::services::authentication {

struct PasswordHasherOptions {
  std::int64_t cost = 12;          ///< of new hashes: each step doubles the time of a login, and of every guess
  std::int64_t threads = 0;        ///< passwords checked at once; 0: one less than there are cores, at least one
  std::int64_t queue_limit = 128;  ///< logins that may wait; one more is `overloaded`

  void describe(runtime::OptionVisitor& visitor);
  runtime::Problems validate() const;
};

/// True for a whole bcrypt string as crypt(3) writes it, with a cost that may be asked of this machine (4 to 16).
/// Anything else would make crypt(3) fall back to DES, or fail.
bool is_bcrypt(std::string_view hash);

/// bcrypt on threads of its own, which give way to all other threads of the process.
/// Lifetime/threads: any thread; outlives its calls
class PasswordHasher {
 public:
  static constexpr std::size_t kMaxPasswordBytes = 72;  ///< bcrypt ignores what follows

  PasswordHasher(PasswordHasherOptions options, runtime::Metrics& metrics);

  /// @param password at most kMaxPasswordBytes, without NUL
  /// @return a new "$2b$" string with a salt of its own; overloaded, deadline_exceeded
  core::awaitable<core::Result<std::string>> hash(std::string password, core::CallContext context);
  /// Always computes one bcrypt: at the hash's own cost, or, where `hash` is not one, at the configured cost.
  /// @return whether the password is the hash's; overloaded, deadline_exceeded
  core::awaitable<core::Result<bool>> verify(std::string password, std::string hash, core::CallContext context);

 private:
  PasswordHasherOptions options_;
  std::string dummy_;  ///< a well-formed hash of nobody's password, at the configured cost
  runtime::Metrics::Counter checks_;
  runtime::BlockingPool pool_;
};

}  // namespace flexi::services::authentication
