// SPDX-License-Identifier: Apache-2.0
#include "stores/postgres/user_store.hpp"

#include <limits>

#include "core/timestamp.hpp"
#include "stores/postgres/migrations.hpp"

namespace flexi::stores::postgres {

namespace {

using core::awaitable, core::CallContext, core::Result, core::User;
using runtime::postgres::Database, runtime::postgres::Query, runtime::postgres::Rows, runtime::postgres::Statement;
using runtime::postgres::number, runtime::postgres::text, runtime::postgres::time, runtime::postgres::truth;

#define FLEXI_USER_COLUMNS "id, email, first_name, last_name, password, user_active, created_at, updated_at"

// The index is by lower(email): every condition on an e-mail names it, the exact ones, too.
constexpr Statement kList{"flexi_users_list", R"(
  SELECT id, email, first_name, last_name, password, user_active, created_at, updated_at FROM public.users
  ORDER BY coalesce(last_name, '') COLLATE "C", coalesce(first_name, '') COLLATE "C", id)"};
constexpr Statement kFind{"flexi_users_find", "SELECT " FLEXI_USER_COLUMNS " FROM public.users WHERE id = $1::bigint"};
// One statement whether or not the user exists, so that both take the same time. Two rows tell unique from ambiguous.
constexpr Statement kFindByEmail{"flexi_users_find_by_email", R"(
  SELECT id, email, first_name, last_name, password, user_active, created_at, updated_at FROM public.users
  WHERE lower(email) = lower($1::text) ORDER BY (email = $1::text) DESC, id LIMIT 2)"};
// No unique rule guards e-mails in the contract's table, and none can be added where they repeat. Who writes one holds this lock until its
// transaction ends, and looks in a statement of its own, which sees what was committed before the lock was got.
constexpr Statement kLockEmail{"flexi_users_lock_email", "SELECT pg_advisory_xact_lock(hashtextextended('flexi.users.email:' || $1::text, 0))"};
constexpr Statement kInsert{"flexi_users_insert", R"(
  INSERT INTO public.users(email, first_name, last_name, password, user_active, created_at, updated_at)
  SELECT $1::text, $2::text, $3::text, $4::text, $5::boolean::integer, $6::timestamp, $6::timestamp
  WHERE NOT EXISTS (SELECT FROM public.users WHERE lower(email) = lower($1::text) AND email = $1::text) RETURNING id)"};
// What reads as empty, or as active, stays what it is: NULL, or another number.
constexpr Statement kUpdate{"flexi_users_update", R"(
  WITH taken AS (SELECT FROM public.users WHERE lower(email) = lower($2::text) AND email = $2::text AND id <> $1::bigint),
  done AS (
    UPDATE public.users SET
      email = CASE WHEN coalesce(email, '') = $2::text THEN email ELSE $2::text END,
      first_name = CASE WHEN coalesce(first_name, '') = $3::text THEN first_name ELSE $3::text END,
      last_name = CASE WHEN coalesce(last_name, '') = $4::text THEN last_name ELSE $4::text END,
      user_active = CASE WHEN (coalesce(user_active, 0) <> 0) = $5::boolean THEN user_active ELSE $5::boolean::integer END,
      updated_at = $6::timestamp
    WHERE id = $1::bigint AND (coalesce(email, '') = $2::text OR NOT EXISTS (SELECT FROM taken)) RETURNING id)
  SELECT (SELECT count(*) FROM done), EXISTS (SELECT FROM public.users WHERE id = $1::bigint))"};
constexpr Statement kSetPassword{"flexi_users_set_password", R"(
  UPDATE public.users SET password = $2::text, updated_at = $3::timestamp WHERE id = $1::bigint)"};
constexpr Statement kReplacePassword{"flexi_users_replace_password", R"(
  WITH done AS (UPDATE public.users SET password = $3::text, updated_at = $4::timestamp WHERE id = $1::bigint AND password = $2::text RETURNING id)
  SELECT (SELECT count(*) FROM done), EXISTS (SELECT FROM public.users WHERE id = $1::bigint))"};
constexpr Statement kRemove{"flexi_users_remove", "DELETE FROM public.users WHERE id = $1::bigint"};
constexpr Statement kLockRestores{"flexi_users_lock_restores", "SELECT pg_advisory_xact_lock(hashtextextended('flexi.users.restore', 0))"};
constexpr Statement kRestore{"flexi_users_restore", R"(
  INSERT INTO public.users(id, email, first_name, last_name, password, user_active, created_at, updated_at)
  SELECT $1::integer, $2::text, $3::text, $4::text, $5::text, $6::boolean::integer, $7::timestamp, $8::timestamp
  WHERE NOT EXISTS (SELECT FROM public.users WHERE id = $1::integer) AND
    ($2::text = '' OR NOT EXISTS (SELECT FROM public.users WHERE lower(email) = lower($2::text) AND email = $2::text)) RETURNING id)"};
// The sequence that the id's default names, or that the column owns.
#define FLEXI_ID_SEQUENCE                                                                                                                       \
  "(SELECT coalesce(pg_get_serial_sequence('public.users', 'id')::regclass, substring(pg_get_expr(d.adbin, d.adrelid) from "                    \
  "'nextval\\(''(.*)''::regclass\\)')::regclass) AS seq FROM pg_attribute a LEFT JOIN pg_attrdef d "                                               \
  "ON d.adrelid = a.attrelid AND d.adnum = a.attnum "                                                                                             \
  "WHERE a.attrelid = 'public.users'::regclass AND a.attname = 'id') s "
constexpr Statement kMoveSequence{"flexi_users_move_sequence", "SELECT setval(seq, $1::bigint) FROM " FLEXI_ID_SEQUENCE
                                                               "WHERE seq IS NOT NULL AND coalesce(pg_sequence_last_value(seq), 0) < $1::bigint"};
constexpr Statement kMoveSequenceBeyondAll{"flexi_users_move_sequence_beyond_all",
                                           "SELECT setval(seq, (SELECT max(id) FROM public.users)) FROM " FLEXI_ID_SEQUENCE
                                           "WHERE seq IS NOT NULL AND coalesce(pg_sequence_last_value(seq), 0) < (SELECT max(id) FROM public.users)"};

core::Timestamp now() { return core::from_unix_micros(core::to_unix_micros(std::chrono::system_clock::now())); }

User read_user(const Rows& rows, int row) {
  return {.id = rows.integer(row, 0),
          .email = std::string(rows.text(row, 1)),
          .first_name = std::string(rows.text(row, 2)),
          .last_name = std::string(rows.text(row, 3)),
          .password_hash = std::string(rows.text(row, 4)),
          .active = rows.integer(row, 5) != 0,
          .created_at = rows.time(row, 6),
          .updated_at = rows.time(row, 7)};
}

bool same_account(const User& a, const User& b) {
  return a.id == b.id && a.email == b.email && a.first_name == b.first_name && a.last_name == b.last_name && a.password_hash == b.password_hash &&
         a.active == b.active && core::to_unix_micros(a.created_at) == core::to_unix_micros(b.created_at) &&
         core::to_unix_micros(a.updated_at) == core::to_unix_micros(b.updated_at);
}

core::Error no_such_user() { return core::not_found("no such user"); }
core::Error email_taken() { return core::conflict("a user with this e-mail exists already"); }
core::Error no_text() { return core::invalid_argument("text must be UTF-8 without NUL"); }

bool is_text(const User& user) {
  for (auto* each : {&user.email, &user.first_name, &user.last_name, &user.password_hash})
    if (!runtime::postgres::is_text(*each)) return false;
  return true;
}

class PostgresUserStore final : public core::UserStore {
 public:
  explicit PostgresUserStore(Database& database) : database_(database) {}

  awaitable<Result<std::vector<User>>> list(CallContext context) override {
    auto rows = co_await database_.read({&kList}, std::move(context));
    if (!rows) co_return rows.error();
    std::vector<User> users;
    for (int i = 0; i < rows.value().size(); ++i) users.push_back(read_user(rows.value(), i));
    co_return users;
  }

  awaitable<Result<User>> find_by_email(std::string email, CallContext context) override {
    // What is no text is nobody's; nor is "", which is how NULL reads. The look-up is made all the same.
    const bool possible = !email.empty() && runtime::postgres::is_text(email);
    Query query{&kFindByEmail};
    query.values.push_back(text(possible ? email : std::string()));
    auto rows = co_await database_.read(std::move(query), std::move(context));
    if (!rows) co_return rows.error();
    const int found = rows.value().size();
    if (!possible || found == 0) co_return no_such_user();
    const bool exact = rows.value().text(0, 1) == email;
    if (found > 1 && (!exact || rows.value().text(1, 1) == email)) co_return no_such_user();  // ambiguous
    co_return read_user(rows.value(), 0);
  }

  awaitable<Result<User>> find(std::int64_t id, CallContext context) override {
    Query query{&kFind};
    query.values.push_back(number(id));
    auto rows = co_await database_.read(std::move(query), std::move(context));
    if (!rows) co_return rows.error();
    if (rows.value().size() == 0) co_return no_such_user();
    co_return read_user(rows.value(), 0);
  }

  awaitable<Result<User>> insert(User user, CallContext context) override {
    if (!is_text(user)) co_return no_text();
    user.created_at = user.updated_at = now();
    auto rows = co_await database_.write(insertion(user), context);
    if (!rows && rows.error().kind == core::ErrorKind::conflict) {
      // Either a unique rule of the operator's own, or the table was filled with ids that its sequence does not know of: it is moved beyond
      // them, once.
      auto moved = co_await database_.write(one({&kMoveSequenceBeyondAll}), context);
      if (!moved) co_return moved.error();
      rows = co_await database_.write(insertion(user), context);
    }
    if (!rows) co_return as_taken(rows.error());
    if (rows.value()[1].size() == 0) co_return email_taken();
    user.id = rows.value()[1].integer(0, 0);
    co_return user;
  }

  awaitable<Result<core::Restored>> restore(User user, CallContext context) override {
    if (user.id <= 0) co_return core::invalid_argument("an account's id must be above 0");
    if (user.id > std::numeric_limits<std::int32_t>::max())
      co_return core::invalid_argument("an account's id must be at most 2147483647 in PostgreSQL");
    if (!is_text(user)) co_return no_text();
    std::vector<Query> queries(5);
    queries[0] = lock(user.email);
    queries[1] = {&kLockRestores};
    queries[2] = {&kRestore, {number(user.id), text(user.email), text(user.first_name), text(user.last_name), text(user.password_hash),
                              truth(user.active), time(user.created_at), time(user.updated_at)}};
    queries[3] = {&kMoveSequence, {number(user.id)}};
    queries[4] = {&kFind, {number(user.id)}};
    auto rows = co_await database_.write(std::move(queries), std::move(context));
    if (!rows) co_return as_taken(rows.error());
    if (rows.value()[2].size() == 1) co_return core::Restored::added;
    const auto& there = rows.value()[4];
    if (there.size() == 0) co_return email_taken();
    if (same_account(read_user(there, 0), user)) co_return core::Restored::same;
    co_return core::conflict("another account has this id");
  }

  awaitable<Result<void>> update(User user, CallContext context) override {
    if (!is_text(user)) co_return no_text();
    std::vector<Query> queries(2);
    queries[0] = lock(user.email);
    queries[1] = {&kUpdate, {number(user.id), text(user.email), text(user.first_name), text(user.last_name), truth(user.active), time(now())}};
    auto rows = co_await database_.write(std::move(queries), std::move(context));
    if (!rows) co_return as_taken(rows.error());
    const auto& said = rows.value()[1];
    if (said.integer(0, 0) > 0) co_return core::ok();
    if (said.integer(0, 1) == 0) co_return no_such_user();
    co_return email_taken();
  }

  awaitable<Result<void>> set_password_hash(std::int64_t id, std::string hash, CallContext context) override {
    if (!runtime::postgres::is_text(hash)) co_return no_text();
    Query query{&kSetPassword, {number(id), text(std::move(hash)), time(now())}};
    co_return co_await touch_one(std::move(query), std::move(context));
  }

  awaitable<Result<void>> replace_password_hash(std::int64_t id, std::string expected, std::string hash, CallContext context) override {
    if (!runtime::postgres::is_text(hash)) co_return no_text();
    Query query{&kReplacePassword, {number(id), text(std::move(expected)), text(std::move(hash)), time(now())}};
    auto rows = co_await database_.write(one(std::move(query)), std::move(context));
    if (!rows) co_return rows.error();
    const auto& said = rows.value().front();
    if (said.integer(0, 0) > 0) co_return core::ok();
    if (said.integer(0, 1) == 0) co_return no_such_user();
    co_return core::conflict("the password has been changed meanwhile");
  }

  awaitable<Result<void>> remove(std::int64_t id, CallContext context) override {
    Query query{&kRemove, {number(id)}};
    co_return co_await touch_one(std::move(query), std::move(context));
  }

 private:
  static std::vector<Query> one(Query query) {
    std::vector<Query> queries;
    queries.push_back(std::move(query));
    return queries;
  }
  static Query lock(const std::string& email) { return {&kLockEmail, {text(email)}}; }
  static std::vector<Query> insertion(const User& user) {
    std::vector<Query> queries(2);
    queries[0] = lock(user.email);
    queries[1] = {&kInsert, {text(user.email), text(user.first_name), text(user.last_name), text(user.password_hash), truth(user.active),
                             time(user.created_at)}};
    return queries;
  }
  /// A unique rule of the operator's own is kept, too.
  static core::Error as_taken(core::Error error) {
    if (error.kind != core::ErrorKind::conflict) return error;
    return core::conflict("a user with this e-mail exists already", error.detail);
  }
  awaitable<Result<void>> touch_one(Query query, CallContext context) {
    auto rows = co_await database_.write(one(std::move(query)), std::move(context));
    if (!rows) co_return rows.error();
    if (rows.value().front().touched() == 0) co_return no_such_user();
    co_return core::ok();
  }

  Database& database_;
};

void tell_of_duplicates(const Rows& rows, runtime::LogSink& log) {
  const auto equal = rows.integer(0, 0), by_case = rows.integer(0, 1);
  if (equal + by_case == 0) return;
  log.warning("accounts share an e-mail: who signs in with it is refused as unknown, unless one of them is written exactly so",
              {{"emails_of_several_accounts", equal}, {"emails_that_differ_by_case_only", by_case}});
}

}  // namespace

std::unique_ptr<core::UserStore> open_user_store(Database& database) {
  runtime::postgres::Schema schema{.component = "users"};
  schema.steps.push_back({1, migration("0001_users.sql")});
  schema.check = "SELECT " FLEXI_USER_COLUMNS " FROM public.users LIMIT 0";
  // Not unique: it can be made whatever is in the table.
  schema.indexes.push_back({.name = "flexi_users_by_lower_email", .on = "public.users (lower(email))"});
  schema.notices.push_back({.sql = "SELECT count(*) FILTER (WHERE equal), count(*) FILTER (WHERE NOT equal) FROM "
                                   "(SELECT count(*) > count(DISTINCT email) AS equal FROM public.users WHERE email <> '' GROUP BY lower(email) HAVING count(*) > 1) shared",
                            .tell = tell_of_duplicates});
  database.add(std::move(schema));
  return std::make_unique<PostgresUserStore>(database);
}

}  // namespace flexi::stores::postgres
