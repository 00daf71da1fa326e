// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <string>
#include <vector>

#include "core/user_store.hpp"
#include "runtime/log_sink.hpp"
#include "runtime/task_scope.hpp"
#include "services/authentication/lockout.hpp"
#include "services/authentication/password_hasher.hpp"
#include "services/authentication/tokens.hpp"
#include "services/authentication/user_actions.hpp"

namespace flexi::services::authentication {

struct AuthenticationOptions {
  PasswordHasherOptions passwords{};
  LockoutOptions lockout{};
  std::int64_t min_password_length = 8;   ///< characters of a new password
  std::string common_passwords_file{};    ///< beside those that are known by rule, one a line
  bool wide_password_column = false;      ///< the migration that makes room for Argon2id has been run
  std::string token_key_file{};           ///< empty: no tokens, except where everything is one process
  std::chrono::milliseconds token_lifetime{60 * 60 * 1'000};
  std::string token_issuer = "flexiconnect";
  std::vector<std::string> administrators{};     ///< e-mails of the users who may administer
  std::chrono::milliseconds entry_timeout{2000};  ///< how long a login waits for its own log entry, at most

  TokenOptions token_options() const { return {token_issuer, token_lifetime}; }
  void describe(runtime::OptionVisitor& visitor);
  runtime::Problems validate() const;
  /// What the contract's own table, with its varchar(60), can't hold.
  runtime::Problems validate_for_contract_table() const;
};

/// What the service works with; all of it outlives the service.
struct AuthenticationParts {
  core::UserStore& users;
  PasswordHasher& hasher;
  const PasswordPolicy& policy;
  runtime::LogSink& log;
  runtime::Metrics& metrics;
  boost::asio::any_io_executor executor;  ///< where hashes are renewed behind the logins
  core::Handler* logger = nullptr;        ///< takes the entry that each login leaves; null: none is left. Its failing never fails a login
  const Tokens* tokens = nullptr;         ///< null: none are given, and none is valid
  Lockout::Now now = Lockout::Clock::now;
};

/// Answers "auth", "me.get" and "users.…". Every refused login gets the same text after the same work: one look-up, then one
/// password check, whether the user is unknown, inactive or locked out, or the password wrong or empty.
/// Lifetime/threads: any thread; stop() on the executor before it is destroyed
class AuthenticationService final : public core::Handler {
 public:
  AuthenticationService(AuthenticationParts parts, AuthenticationOptions options);

  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override;
  /// Ends what runs behind the logins.
  core::awaitable<void> stop();

 private:
  core::awaitable<core::Result<core::Reply>> log_in(core::Credentials credentials, core::CallContext context);
  core::awaitable<core::Result<core::Reply>> whose(core::Json params, core::CallContext context);
  core::awaitable<void> leave_entry(std::string email, core::CallContext context);
  /// @param known the account; empty: there is none
  void note_failure(Lockout::Attempt& attempt, const std::string& known, const std::string& client);
  void renew_behind(std::int64_t id, std::string password, std::string old_hash);
  core::awaitable<void> renew(std::int64_t id, std::string password, std::string old_hash);
  void add_token(core::Reply& reply, const core::User& user);
  bool is_administrator(const core::User& user) const;

  AuthenticationParts parts_;
  const AuthenticationOptions options_;
  UserActions user_actions_;
  Lockout lockout_;
  runtime::Metrics::Counter succeeded_, failed_, locked_, renewed_;
  std::atomic<int> renewals_{0};
  runtime::TaskScope scope_;
  bool stopping_ = false;  ///< on the executor
};

}  // namespace flexi::services::authentication
