// SPDX-License-Identifier: Apache-2.0
#include "stores/sqlite/user_store.hpp"

#include "core/timestamp.hpp"

namespace flexi::stores::sqlite {

namespace {

using runtime::sqlite::Atomicity;
using runtime::sqlite::Connection;
using runtime::sqlite::Database;
using runtime::sqlite::Statement;

// Columns as the contract names them. AUTOINCREMENT: a deleted user's id never becomes somebody else's.
constexpr runtime::sqlite::Migration kMigrations[] = {
    {1,
     "CREATE TABLE users(id INTEGER PRIMARY KEY AUTOINCREMENT, email TEXT NOT NULL UNIQUE, first_name TEXT NOT NULL DEFAULT '', "
     "last_name TEXT NOT NULL DEFAULT '', password TEXT NOT NULL, user_active INTEGER NOT NULL DEFAULT 0, "
     "created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL);"
     "CREATE INDEX users_by_folded_email ON users(lower(email));"}};

#define FLEXI_USER_COLUMNS "id, email, first_name, last_name, password, user_active, created_at, updated_at"

std::int64_t now_micros() { return core::to_unix_micros(std::chrono::system_clock::now()); }

core::User read_user(const Statement& row) {
  return {.id = row.integer(0),
          .email = row.text(1),
          .first_name = row.text(2),
          .last_name = row.text(3),
          .password_hash = row.text(4),
          .active = row.integer(5) != 0,
          .created_at = core::from_unix_micros(row.integer(6)),
          .updated_at = core::from_unix_micros(row.integer(7))};
}

core::Error no_such_user() { return core::not_found("no such user"); }

bool same_account(const core::User& a, const core::User& b) {
  return a.id == b.id && a.email == b.email && a.first_name == b.first_name && a.last_name == b.last_name && a.password_hash == b.password_hash &&
         a.active == b.active && core::to_unix_micros(a.created_at) == core::to_unix_micros(b.created_at) &&
         core::to_unix_micros(a.updated_at) == core::to_unix_micros(b.updated_at);
}

/// Runs a statement that must touch one user.
core::Result<void> touch_one(Connection& connection, Statement& statement) {
  if (auto done = statement.run(); !done) {
    if (done.error().kind != core::ErrorKind::conflict) return done.error();
    return core::conflict("a user with this e-mail exists already", done.error().detail);
  }
  if (connection.changes() == 0) return no_such_user();
  return core::ok();
}

class SqliteUserStore final : public core::UserStore {
 public:
  explicit SqliteUserStore(Database& database) : database_(database) {}

  core::awaitable<core::Result<std::vector<core::User>>> list(core::CallContext context) override {
    auto job = [](Connection& connection) -> core::Result<std::vector<core::User>> {
      std::vector<core::User> users;
      auto rows = connection.use("SELECT " FLEXI_USER_COLUMNS " FROM users ORDER BY last_name, first_name, id");
      for (;;) {
        FLEXI_TRY(auto found, rows.step());
        if (!found) return users;
        users.push_back(read_user(rows));
      }
    };
    return database_.read(job, std::move(context));
  }

  core::awaitable<core::Result<core::User>> find_by_email(std::string email, core::CallContext context) override {
    auto job = [email = std::move(email)](Connection& connection) -> core::Result<core::User> {
      // One query whether or not the user exists, so that both take the same time. Two rows tell unique from ambiguous.
      auto rows = connection.use("SELECT " FLEXI_USER_COLUMNS " FROM users WHERE lower(email) = lower(?1) ORDER BY email = ?1 DESC LIMIT 2");
      rows.bind(1, email);
      FLEXI_TRY(auto found, rows.step());
      if (!found) return no_such_user();
      auto user = read_user(rows);
      if (user.email == email) return user;
      FLEXI_TRY(auto ambiguous, rows.step());
      if (ambiguous) return no_such_user();
      return user;
    };
    return database_.read(std::move(job), std::move(context));
  }

  core::awaitable<core::Result<core::User>> find(std::int64_t id, core::CallContext context) override {
    auto job = [id](Connection& connection) -> core::Result<core::User> {
      auto row = connection.use("SELECT " FLEXI_USER_COLUMNS " FROM users WHERE id = ?1");
      row.bind(1, id);
      FLEXI_TRY(auto found, row.step());
      if (!found) return no_such_user();
      return read_user(row);
    };
    return database_.read(job, std::move(context));
  }

  core::awaitable<core::Result<core::User>> insert(core::User user, core::CallContext context) override {
    auto job = [user = std::move(user)](Connection& connection) -> core::Result<core::User> {
      const auto now = now_micros();
      auto insert = connection.use("INSERT INTO users(email, first_name, last_name, password, user_active, created_at, updated_at) "
                                   "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?6)");
      insert.bind(1, user.email).bind(2, user.first_name).bind(3, user.last_name).bind(4, user.password_hash);
      insert.bind(5, std::int64_t{user.active}).bind(6, now);
      FLEXI_TRY(touch_one(connection, insert));
      auto stored = user;
      stored.id = connection.last_insert_rowid();
      stored.created_at = stored.updated_at = core::from_unix_micros(now);
      return stored;
    };
    return database_.write(Atomicity::single_statement, std::move(job), std::move(context));
  }

  core::awaitable<core::Result<core::Restored>> restore(core::User user, core::CallContext context) override {
    if (user.id <= 0) co_return core::invalid_argument("an account's id must be above 0");
    auto job = [user = std::move(user)](Connection& connection) -> core::Result<core::Restored> {
      auto there = connection.use("SELECT " FLEXI_USER_COLUMNS " FROM users WHERE id = ?1");
      there.bind(1, user.id);
      FLEXI_TRY(auto found, there.step());
      if (found) {
        if (same_account(read_user(there), user)) return core::Restored::same;
        return core::conflict("another account has this id");
      }
      // AUTOINCREMENT goes on from the largest id that was ever there, given or made.
      auto insert = connection.use("INSERT INTO users(" FLEXI_USER_COLUMNS ") VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");
      insert.bind(1, user.id).bind(2, user.email).bind(3, user.first_name).bind(4, user.last_name).bind(5, user.password_hash);
      insert.bind(6, std::int64_t{user.active}).bind(7, core::to_unix_micros(user.created_at)).bind(8, core::to_unix_micros(user.updated_at));
      FLEXI_TRY(touch_one(connection, insert));
      return core::Restored::added;
    };
    co_return co_await database_.write(Atomicity::single_statement, std::move(job), std::move(context));
  }

  core::awaitable<core::Result<void>> update(core::User user, core::CallContext context) override {
    auto job = [user = std::move(user)](Connection& connection) -> core::Result<void> {
      auto update = connection.use("UPDATE users SET email = ?2, first_name = ?3, last_name = ?4, user_active = ?5, updated_at = ?6 WHERE id = ?1");
      update.bind(1, user.id).bind(2, user.email).bind(3, user.first_name).bind(4, user.last_name);
      update.bind(5, std::int64_t{user.active}).bind(6, now_micros());
      return touch_one(connection, update);
    };
    return database_.write(Atomicity::single_statement, std::move(job), std::move(context));
  }

  core::awaitable<core::Result<void>> set_password_hash(std::int64_t id, std::string hash, core::CallContext context) override {
    auto job = [id, hash = std::move(hash)](Connection& connection) -> core::Result<void> {
      auto update = connection.use("UPDATE users SET password = ?2, updated_at = ?3 WHERE id = ?1");
      update.bind(1, id).bind(2, hash).bind(3, now_micros());
      return touch_one(connection, update);
    };
    return database_.write(Atomicity::single_statement, std::move(job), std::move(context));
  }

  core::awaitable<core::Result<void>> replace_password_hash(std::int64_t id, std::string expected, std::string hash, core::CallContext context) override {
    auto job = [id, expected = std::move(expected), hash = std::move(hash)](Connection& connection) -> core::Result<void> {
      auto update = connection.use("UPDATE users SET password = ?3, updated_at = ?4 WHERE id = ?1 AND password = ?2");
      update.bind(1, id).bind(2, expected).bind(3, hash).bind(4, now_micros());
      FLEXI_TRY(update.run());
      if (connection.changes() == 1) return core::ok();
      auto row = connection.use("SELECT 1 FROM users WHERE id = ?1");
      row.bind(1, id);
      FLEXI_TRY(auto found, row.step());
      if (!found) return no_such_user();
      return core::conflict("the password has been changed meanwhile");
    };
    return database_.write(Atomicity::single_statement, std::move(job), std::move(context));
  }

  core::awaitable<core::Result<void>> remove(std::int64_t id, core::CallContext context) override {
    auto job = [id](Connection& connection) -> core::Result<void> {
      auto remove = connection.use("DELETE FROM users WHERE id = ?1");
      remove.bind(1, id);
      return touch_one(connection, remove);
    };
    return database_.write(Atomicity::single_statement, job, std::move(context));
  }

 private:
  Database& database_;
};

}  // namespace

core::Result<std::unique_ptr<core::UserStore>> open_user_store(Database& database) {
  FLEXI_TRY(database.migrate("users", kMigrations));
  return std::unique_ptr<core::UserStore>(std::make_unique<SqliteUserStore>(database));
}

}  // namespace flexi::stores::sqlite
