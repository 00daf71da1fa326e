// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/handler.hpp"
#include "runtime/blocking_pool.hpp"
#include "runtime/metrics.hpp"
#include "runtime/options.hpp"
#include "services/authentication/argon2id.hpp"

namespace flexi::services::authentication {

struct PasswordHasherOptions {
  std::string algorithm = "bcrypt";           ///< of new hashes: bcrypt or argon2id; both are verified, whichever it is
  std::int64_t cost = 12;                     ///< bcrypt's: each step doubles the time of a login, and of every guess
  std::int64_t argon2_memory_kib = 19 * 1024;  ///< Source: OWASP Password Storage Cheat Sheet (19 MiB, 2 passes, 1 lane)
  std::int64_t argon2_iterations = 2;
  std::int64_t argon2_lanes = 1;
  std::int64_t max_memory_kib = 256 * 1024;  ///< that passwords hashed at once may take together
  std::int64_t threads = 0;        ///< passwords checked at once; 0: one less than there are cores, at least one, and as many as have memory
  std::int64_t queue_limit = 128;  ///< logins that may wait; one more is `overloaded`

  Argon2Cost argon2_cost() const { return {argon2_memory_kib, argon2_iterations, argon2_lanes}; }
  bool uses_argon2() const { return algorithm == "argon2id"; }
  void describe(runtime::OptionVisitor& visitor);
  runtime::Problems validate() const;
};

/// bcrypt and Argon2id on threads of their own, which give way to all other threads of the process.
/// Lifetime/threads: any thread; outlives its calls
class PasswordHasher {
 public:
  /// bcrypt ignores what follows. Argon2id would not, but a user's password must not depend on a setting.
  static constexpr std::size_t kMaxPasswordBytes = 72;

  PasswordHasher(PasswordHasherOptions options, runtime::Metrics& metrics);
  ~PasswordHasher();

  /// @param password at most kMaxPasswordBytes, without NUL
  /// @return a new hash of the configured algorithm with a salt of its own; overloaded, deadline_exceeded
  core::awaitable<core::Result<std::string>> hash(std::string password, core::CallContext context);
  /// Always computes one hash: with the hash's own algorithm and cost, or, where `hash` is none, with the configured ones.
  /// @return whether the password is the hash's; overloaded, deadline_exceeded
  core::awaitable<core::Result<bool>> verify(std::string password, std::string hash, core::CallContext context);
  /// Whether `hash` is what hash() would make now: the configured algorithm at the configured cost.
  bool is_current(std::string_view hash) const;

 private:
  /// Memory that hashes under way may take together: a job waits for its share on the pool's thread.
  class Memory;
  const PasswordHasherOptions options_;
  std::unique_ptr<Memory> memory_;
  runtime::Metrics::Counter checks_;
  runtime::BlockingPool pool_;
};

}  // namespace flexi::services::authentication
