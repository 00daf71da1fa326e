// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>

#include "core/user_store.hpp"
#include "runtime/log_sink.hpp"
#include "services/authentication/password_hasher.hpp"

namespace flexi::services::authentication {

struct AuthenticationOptions {
  PasswordHasherOptions passwords{};
  std::chrono::milliseconds entry_timeout{2000};  ///< how long a login waits for its own log entry, at most

  void describe(runtime::OptionVisitor& visitor);
  runtime::Problems validate() const;
};

/// A user as the contract shows it; without the password.
std::string to_json(const core::User& user);

/// Answers "auth", "users.list" and "users.get". Every refused login gets the same text after the same work: one look-up,
/// then one password check, whether the user is unknown or inactive, or the password wrong or empty.
/// Lifetime/threads: any thread; its collaborators outlive it
class AuthenticationService final : public core::Handler {
 public:
  /// @param logger takes the entry that each login leaves; null: none is left. Its failing never fails a login
  AuthenticationService(core::UserStore& users, PasswordHasher& hasher, core::Handler* logger, runtime::LogSink& log, AuthenticationOptions options)
      : users_(users), hasher_(hasher), logger_(logger), log_(log), options_(options) {}

  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override;

 private:
  core::awaitable<core::Result<core::Reply>> log_in(core::Credentials credentials, core::CallContext context);
  core::awaitable<core::Result<core::Reply>> list_users(core::CallContext context);
  core::awaitable<core::Result<core::Reply>> get_user(core::Json params, core::CallContext context);
  core::awaitable<void> leave_entry(std::string email, core::CallContext context);

  core::UserStore& users_;
  PasswordHasher& hasher_;
  core::Handler* logger_;
  runtime::LogSink& log_;
  AuthenticationOptions options_;
};

}  // namespace flexi::services::authentication
