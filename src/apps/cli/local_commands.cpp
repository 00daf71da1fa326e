// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/local_commands.hpp"

#include <filesystem>
#include <iostream>

#include "apps/cli/client_commands.hpp"
#include "apps/cli/secret.hpp"
#include "apps/data_directory.hpp"
#include "runtime/json.hpp"
#include "runtime/shards.hpp"
#include "runtime/sqlite/database.hpp"
#include "services/authentication/authentication_service.hpp"
#include "services/authentication/user_administration.hpp"
#include "stores/postgres/user_store.hpp"
#include "stores/sqlite/user_store.hpp"

namespace flexi::apps::cli {

namespace authentication = services::authentication;
using core::Result;
using What = UsersOptions::What;

namespace {

Result<void> print(const std::vector<core::User>& users, bool json) {
  if (json) {
    runtime::JsonWriter writer;
    writer.begin_array();
    for (auto& user : users) writer.raw(authentication::to_json(user));
    std::cout << writer.end_array().take() << "\n";
    return core::ok();
  }
  for (auto& user : users)
    std::cout << user.id << "  " << user.email << "  " << user.first_name << " " << user.last_name << (user.active ? "" : "  (disabled)") << "\n";
  return core::ok();
}

Result<void> done(const char* what, const core::User& user, bool json) {
  if (json) return print({user}, true);
  std::cout << what << " " << user.email << "\n";
  return core::ok();
}

core::awaitable<Result<void>> administer(authentication::UserAdministration& administration, UsersOptions options, std::string password) {
  const core::CallContext context = core::CallContext::with_timeout(std::chrono::seconds(30));
  switch (options.what) {
    case What::list: {
      auto users = co_await administration.list(context);
      if (!users) co_return users.error();
      co_return print(users.value(), options.json);
    }
    case What::add: {
      authentication::NewUser user;
      user.email = options.email;
      user.first_name = options.first_name;
      user.last_name = options.last_name;
      user.password = std::move(password);
      auto added = co_await administration.add(std::move(user), context);
      if (!added) co_return added.error();
      co_return done("added", added.value(), options.json);
    }
    case What::enable: {
      auto changed = co_await administration.enable(options.email, context);
      if (!changed) co_return changed.error();
      co_return done("enabled", changed.value(), options.json);
    }
    case What::disable: {
      auto changed = co_await administration.disable(options.email, context);
      if (!changed) co_return changed.error();
      co_return done("disabled", changed.value(), options.json);
    }
    case What::remove: {
      auto removed = co_await administration.remove(options.email, context);
      if (!removed) co_return removed.error();
      co_return done("deleted", removed.value(), options.json);
    }
    case What::reset_password: {
      auto changed = co_await administration.reset_password(options.email, std::move(password), context);
      if (!changed) co_return changed.error();
      co_return done("password changed of", changed.value(), options.json);
    }
  }
  co_return core::internal("unknown users command");
}

core::awaitable<void> administer_into(authentication::UserAdministration& administration, UsersOptions options, std::string password,
                                      std::optional<Result<void>>& result) {
  result.emplace(co_await administer(administration, std::move(options), std::move(password)));
}

/// The folder of a server: an account in any other is one that nobody finds.
Result<DataDirectory> folder_of(const Settings& settings, const UsersOptions& options) {
  auto directory = DataDirectory::open_shared(settings.data_dir, options.create);
  if (directory || directory.error().kind != core::ErrorKind::not_found) return directory;
  std::error_code ignored;
  const auto looked_at = std::filesystem::absolute(settings.data_dir, ignored).lexically_normal().string();
  const auto alone = Settings::of(Role::authentication).data_dir;
  std::string message = "there is no FlexiConnect data in " + looked_at + ": name the server's folder with --data-dir (or FLEXI_DATA_DIR)";
  if (std::filesystem::exists(alone, ignored)) message += ", an authentication service alone keeps " + alone;
  if (options.what == What::add) message += "; or make a new one with --create";
  return core::not_found(message);
}

Result<authentication::PasswordPolicy> policy_of(const authentication::AuthenticationOptions& options) {
  authentication::PasswordPolicy policy(options.min_password_length);
  if (!options.common_passwords_file.empty()) {
    FLEXI_TRY(policy.add_common(options.common_passwords_file));
  }
  return policy;
}

/// Where PostgreSQL keeps the users, they are administered there.
Result<void> run_in_postgres(const Settings& settings, const UsersOptions& options) {
  runtime::LogSink log(runtime::LogLevel::error, runtime::LogFormat::automatic);
  runtime::Metrics metrics;
  runtime::Shards shards(1);
  runtime::postgres::Database database(settings.postgres, shards.executor(0), log, metrics);
  const auto users = stores::postgres::open_user_store(database);
  authentication::PasswordHasher hasher(settings.authentication.passwords, metrics);
  FLEXI_TRY(const auto policy, policy_of(settings.authentication));
  authentication::UserAdministration administration(*users, hasher, policy);
  std::string password;
  if (options.what == What::add || options.what == What::reset_password) {
    FLEXI_TRY(password, read_new_password());
  }
  database.start();
  std::optional<Result<void>> result;
  shards.run(administer_into(administration, options, std::move(password), result));
  shards.run(database.stop());
  return *result;
}

Result<void> run(const Settings& settings, const UsersOptions& options) {
  if (settings.has_postgres()) return run_in_postgres(settings, options);
  FLEXI_TRY(auto directory, folder_of(settings, options));
  runtime::LogSink log(runtime::LogLevel::error, runtime::LogFormat::automatic);
  runtime::Metrics metrics;
  runtime::sqlite::DatabaseOptions database_options;
  database_options.path = directory.database_file();
  FLEXI_TRY(auto database, runtime::sqlite::Database::open(database_options, log, metrics));
  FLEXI_TRY(auto users, stores::sqlite::open_user_store(*database));
  authentication::PasswordHasher hasher(settings.authentication.passwords, metrics);
  FLEXI_TRY(const auto policy, policy_of(settings.authentication));
  authentication::UserAdministration administration(*users, hasher, policy);
  std::string password;
  if (options.what == What::add || options.what == What::reset_password) {
    FLEXI_TRY(password, read_new_password());
  }
  runtime::Shards shards(1);
  std::optional<Result<void>> result;
  shards.run(administer_into(administration, options, std::move(password), result));
  return *result;
}

}  // namespace

int users(const Settings& settings, const UsersOptions& options) {
  auto result = run(settings, options);
  if (result) return exit_ok;
  std::cerr << "flexiconnect: " << result.error().message << "\n";
  // What the database said explains a failure of ours; to a refusal it adds nothing.
  const bool refused = result.error().kind != core::ErrorKind::internal && result.error().kind != core::ErrorKind::unavailable;
  if (!refused && !result.error().detail.empty()) std::cerr << "  " << result.error().detail << "\n";
  return exit_refused;
}

}  // namespace flexi::apps::cli
