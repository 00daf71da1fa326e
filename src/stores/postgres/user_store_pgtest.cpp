// SPDX-License-Identifier: Apache-2.0
#include "stores/postgres/user_store.hpp"

#include <gtest/gtest.h>

#include "core/timestamp.hpp"
#include "runtime/postgres/database_fixture.hpp"

namespace flexi::stores::postgres {
namespace {

using core::ErrorKind;

/// The contract's table, as the reference makes it: its sequence belongs to nobody, and nothing is unique but the id.
constexpr const char* kContractsTable =
    "CREATE SEQUENCE public.user_id_seq START WITH 1 INCREMENT BY 1 NO MINVALUE NO MAXVALUE CACHE 1;"
    "CREATE TABLE public.users (id integer DEFAULT nextval('public.user_id_seq'::regclass) NOT NULL, email character varying(255), "
    "first_name character varying(255), last_name character varying(255), password character varying(60), user_active integer DEFAULT 0, "
    "created_at timestamp without time zone, updated_at timestamp without time zone);"
    "ALTER TABLE ONLY public.users ADD CONSTRAINT users_pkey PRIMARY KEY (id);";

struct PostgresUsers : ::testing::Test {
  void SetUp() override {
    if (auto why = flexi::testing::PostgreSql::missing()) GTEST_SKIP() << *why;
    fixture.emplace();
  }
  void open() {
    fixture->close();
    database.emplace(fixture->options(), fixture->shards.executor(0), runtime::LogSink::none(), fixture->metrics);
    store = open_user_store(*database);
    database->start();
  }
  void TearDown() override {
    if (database) fixture->shards.run(database->stop());
    store.reset();
    database.reset();
  }
  template <class T>
  T wait(core::awaitable<T> work) {
    return fixture->wait(std::move(work));
  }
  std::string run(const std::string& sql) { return fixture->fresh.run(sql); }
  std::string found(std::string email) {
    auto user = wait(store->find_by_email(std::move(email), {}));
    return user ? std::to_string(user.value().id) : std::string(core::to_string(user.error().kind));
  }
  std::optional<runtime::postgres::DatabaseFixture> fixture;
  std::optional<runtime::postgres::Database> database;
  std::unique_ptr<core::UserStore> store;
};

TEST_F(PostgresUsers, AnEmailMatchesExactlyFirstThenWithoutCaseWhereUnique) {
  run(std::string(kContractsTable) + "INSERT INTO users(id, email) VALUES (1, 'Ann@example.com'), (2, 'twice@example.com'), (3, 'twice@example.com'), "
                                     "(4, 'Case@example.com'), (5, 'case@example.com'), (6, NULL), (7, ''), (8, NULL)");
  open();
  EXPECT_EQ(found("ann@EXAMPLE.com"), "1");
  EXPECT_EQ(found("twice@example.com"), "not_found") << "nobody can tell which";
  EXPECT_EQ(found("Case@example.com"), "4");
  EXPECT_EQ(found("case@example.com"), "5");
  EXPECT_EQ(found("CASE@example.com"), "not_found");
  EXPECT_EQ(found(""), "not_found");
  EXPECT_EQ(found(std::string("Ann@example.com\0x", 17)), "not_found");
  EXPECT_EQ(found("\xff@example.com"), "not_found");
}

TEST_F(PostgresUsers, NullReadsAsEmptyAndStaysWhatItWas) {
  run(std::string(kContractsTable) + "INSERT INTO users(id) VALUES (3), (4); INSERT INTO users(id, email, user_active) VALUES (5, 'a@b', NULL), (6, 'c@d', 7)");
  open();
  auto user = wait(store->find(3, {})).value();
  EXPECT_EQ(user.email + user.first_name + user.last_name + user.password_hash, "");
  EXPECT_FALSE(user.active);
  EXPECT_EQ(user.created_at, core::Timestamp{});
  EXPECT_EQ(wait(store->list({})).value().size(), 4u);
  user.first_name = "Ann";
  ASSERT_TRUE(wait(store->update(user, {}))) << "another account without an e-mail is no duplicate";
  EXPECT_EQ(run("SELECT (email IS NULL)::text || (last_name IS NULL)::text || first_name FROM users WHERE id = 3"), "truetrueAnn");
  auto active = wait(store->find(6, {})).value();
  EXPECT_TRUE(active.active);
  ASSERT_TRUE(wait(store->update(active, {})));
  EXPECT_EQ(run("SELECT user_active FROM users WHERE id = 6"), "7");
  active.active = false;
  ASSERT_TRUE(wait(store->update(active, {})));
  EXPECT_EQ(run("SELECT user_active FROM users WHERE id = 6"), "0");
  EXPECT_FALSE(wait(store->find(5, {})).value().active);
}

TEST_F(PostgresUsers, OneOfTwoEqualAccountsCanBeChangedAllTheSame) {
  run(std::string(kContractsTable) + "INSERT INTO users(id, email, user_active) VALUES (1, 'a@b', 1), (2, 'a@b', 1)");
  open();
  auto user = wait(store->find(2, {})).value();
  user.active = false;
  EXPECT_TRUE(wait(store->update(user, {})));
  user.email = "c@d";
  EXPECT_TRUE(wait(store->update(user, {})));
  EXPECT_EQ(found("a@b"), "1");
  user.email = "a@b";
  EXPECT_EQ(wait(store->update(user, {})).error().kind, ErrorKind::conflict);
}

TEST_F(PostgresUsers, AnEmailThatAnotherProcessIsWritingIsWaitedForAndThenTaken) {
  open();
  const auto mine = wait(store->insert({.email = "mine@b"}, {})).value();
  auto moved = mine;
  moved.email = "a@b";
  flexi::testing::PgConnection other(fixture->fresh.dsn());
  for (bool insert : {true, false}) {
    other.run("BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('flexi.users.email:a@b', 0)); INSERT INTO users(email) VALUES ('a@b')");
    auto write = [](core::UserStore& users, core::User user, bool adds) -> core::awaitable<core::Result<void>> {
      if (!adds) co_return co_await users.update(user, {});
      auto added = co_await users.insert(user, {});
      if (!added) co_return added.error();
      co_return core::ok();
    };
    std::vector<core::awaitable<core::Result<void>>> works;
    works.push_back(write(*store, moved, insert));
    auto answers = fixture->start_all(std::move(works));
    while (answers[0].wait_for(std::chrono::milliseconds(10)) != std::future_status::ready && run("SELECT count(*) FROM pg_locks WHERE NOT granted") == "0") {
    }
    other.run("COMMIT");
    auto answer = answers[0].get();
    ASSERT_FALSE(answer) << "twice the same e-mail";
    EXPECT_EQ(answer.error().kind, ErrorKind::conflict);
    other.run("DELETE FROM users WHERE email = 'a@b'");
  }
}

TEST_F(PostgresUsers, ASequenceThatKnowsNothingOfTheRowsIsMovedBeyondThem) {
  run(std::string(kContractsTable) + "INSERT INTO users(id, email) VALUES (1, 'a@b'), (2, 'c@d'), (5, 'e@f')");
  open();
  auto added = wait(store->insert({.email = "new@b"}, {}));
  ASSERT_TRUE(added) << added.error().detail;
  EXPECT_EQ(added.value().id, 6);
  EXPECT_EQ(wait(store->insert({.email = "new@b"}, {})).error().kind, ErrorKind::conflict);
}

TEST_F(PostgresUsers, AUniqueRuleOfTheOperatorsOwnIsAConflict) {
  run(std::string(kContractsTable) + "CREATE UNIQUE INDEX of_his_own ON users(lower(email))");
  open();
  ASSERT_TRUE(wait(store->insert({.email = "a@b"}, {})));
  EXPECT_EQ(wait(store->insert({.email = "A@b"}, {})).error().kind, ErrorKind::conflict);
}

TEST_F(PostgresUsers, IdsOfAnyKindAreGivenAndRestored) {
  run("CREATE TABLE public.users (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, email text, first_name text, last_name text, password text, user_active smallint, "
      "created_at timestamptz, updated_at timestamptz)");
  open();
  const auto at = core::from_unix_micros(1'500'000'000'123'456);
  core::User brought{.id = 50, .email = "a@b", .password_hash = "h", .created_at = at, .updated_at = at};
  EXPECT_EQ(wait(store->restore(brought, {})).value(), core::Restored::added);
  EXPECT_EQ(wait(store->restore(brought, {})).value(), core::Restored::same);
  EXPECT_EQ(wait(store->insert({.email = "c@d"}, {})).value().id, 51);
  EXPECT_EQ(run("SELECT created_at AT TIME ZONE 'UTC' FROM users WHERE id = 50"), "2017-07-14 02:40:00.123456");
}

TEST_F(PostgresUsers, AccountsWithoutAnEmailAreRestoredEach) {
  open();
  EXPECT_TRUE(wait(store->restore({.id = 3}, {})));
  EXPECT_TRUE(wait(store->restore({.id = 4}, {})));
  EXPECT_EQ(wait(store->restore({.id = std::int64_t{1} << 31}, {})).error().kind, ErrorKind::invalid_argument);
}

TEST_F(PostgresUsers, WhatDoesNotFitIsRefusedInWords) {
  open();
  const auto id = wait(store->insert({.email = "a@b"}, {})).value().id;
  auto refused = wait(store->set_password_hash(id, std::string(61, 'x'), {}));
  EXPECT_EQ(refused.error().kind, ErrorKind::invalid_argument);
  EXPECT_EQ(wait(store->insert({.email = std::string(256, 'x')}, {})).error().kind, ErrorKind::invalid_argument);
  EXPECT_EQ(wait(store->insert({.email = std::string("a\0b", 3)}, {})).error().kind, ErrorKind::invalid_argument);
  EXPECT_EQ(wait(store->find(std::int64_t{1} << 40, {})).error().kind, ErrorKind::not_found);
}

TEST_F(PostgresUsers, TheLookUpUsesTheIndex) {
  open();
  ASSERT_TRUE(wait(store->list({})));
  while (run("SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE relname = 'flexi_users_by_lower_email' AND indisvalid") == "0")
    std::this_thread::yield();
  run("INSERT INTO users(email) SELECT 'user' || n || '@example.com' FROM generate_series(1, 20000) n; ANALYZE users");
  ASSERT_EQ(found("USER77@example.com"), "77");
  EXPECT_NE(run("EXPLAIN (FORMAT JSON) SELECT * FROM users WHERE lower(email) = lower('x'::text) ORDER BY (email = 'x'::text) DESC, id LIMIT 2").find("flexi_users_by_lower_email"),
            std::string::npos);
}

}  // namespace
}  // namespace flexi::stores::postgres
