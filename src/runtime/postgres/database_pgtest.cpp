// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <arpa/inet.h>

#include "core/timestamp.hpp"
#include "runtime/postgres/database_fixture.hpp"

namespace flexi::runtime::postgres {
namespace {

using namespace std::chrono_literals;
using core::ErrorKind;

constexpr Statement kEcho{"echo", "SELECT $1::text"};
constexpr Statement kDivide{"divide", "SELECT 100 / $1::bigint"};
constexpr Statement kKeep{"keep", "INSERT INTO kept(n) VALUES ($1::bigint) RETURNING n"};
constexpr Statement kCount{"count", "SELECT count(*) FROM kept"};
constexpr Statement kUnknown{"unknown", "SELECT * FROM nothing_of_that_name"};
constexpr Statement kTimes{"times", "SELECT $1::timestamp, '2022-03-14 00:00:00'::timestamp, 'infinity'::timestamp, NULL::timestamp, true, (-5)::smallint, $2::text[]"};

struct PostgresDatabase : ::testing::Test {
  void SetUp() override {
    if (auto why = flexi::testing::PostgreSql::missing()) GTEST_SKIP() << *why;
    fixture.emplace();
  }
  void open() { open(fixture->options()); }
  void open(PostgresOptions options) {
    fixture->open(std::move(options), {{.component = "kept", .steps = {{1, "CREATE TABLE kept(n bigint)"}}}});
    ASSERT_TRUE(fixture->becomes(""));
  }
  core::Result<Rows> read(const Statement& statement, std::vector<Value> values, core::CallContext context = {}) {
    return fixture->wait(fixture->database().read({&statement, std::move(values)}, context));
  }
  core::Result<std::vector<Rows>> keep(std::vector<std::int64_t> numbers) {
    std::vector<Query> queries;
    for (auto n : numbers) queries.push_back({&kKeep, {number(n)}});
    return fixture->wait(fixture->database().write(std::move(queries), {}));
  }
  std::int64_t kept() { return read(kCount, {}).value().integer(0, 0); }
  std::optional<DatabaseFixture> fixture;
};

TEST_F(PostgresDatabase, AnswersAreWhatWasAsked) {
  open();
  EXPECT_EQ(read(kEcho, {text("Zoë '; DROP --")}).value().text(0, 0), "Zoë '; DROP --");
  EXPECT_TRUE(read(kEcho, {{.null = true}}).value().is_null(0, 0));
  const auto at = core::from_unix_micros(1'700'000'000'123'456);
  auto row = read(kTimes, {time(at), text_array({"x", "y\"z"})}).value();
  EXPECT_EQ(row.time(0, 0), at);
  EXPECT_EQ(row.time(0, 1), core::from_unix_micros(1'647'216'000'000'000));
  EXPECT_GT(row.time(0, 2), at);
  EXPECT_EQ(row.time(0, 3), core::Timestamp{});
  EXPECT_EQ(row.integer(0, 4), 1);
  EXPECT_EQ(row.integer(0, 5), -5);
}

TEST_F(PostgresDatabase, AnErrorFailsAloneAmongTheReadsOfABatch) {
  open();
  std::vector<core::awaitable<core::Result<Rows>>> works;
  for (int i = 0; i < 1000; ++i) works.push_back(fixture->database().read({&kDivide, {number(i % 10)}}, {}));
  auto futures = fixture->start_all(std::move(works));
  for (int i = 0; i < 1000; ++i) {
    auto answer = futures[i].get();
    if (i % 10 == 0) {
      ASSERT_FALSE(answer);
      EXPECT_EQ(answer.error().kind, ErrorKind::invalid_argument);
    } else {
      ASSERT_TRUE(answer) << answer.error().detail;
      EXPECT_EQ(answer.value().integer(0, 0), 100 / (i % 10));
    }
  }
}

TEST_F(PostgresDatabase, AStatementThatCantBePreparedHarmsNoOther) {
  open();
  for (int round = 0; round < 3; ++round) {
    std::vector<core::awaitable<core::Result<Rows>>> works;
    for (int i = 0; i < 30; ++i) works.push_back(fixture->database().read(i % 3 ? Query{&kEcho, {text(std::to_string(i))}} : Query{&kUnknown}, {}));
    auto futures = fixture->start_all(std::move(works));
    for (int i = 0; i < 30; ++i) {
      auto answer = futures[i].get();
      if (i % 3) EXPECT_EQ(answer.value().text(0, 0), std::to_string(i));
      else EXPECT_EQ(answer.error().message, "the database lacks a table or a column");
    }
  }
}

TEST_F(PostgresDatabase, AWriteIsWholeOrNotAtAll) {
  open();
  ASSERT_TRUE(keep({1, 2, 3}));
  EXPECT_EQ(kept(), 3);
  std::vector<Query> queries;
  queries.push_back({&kKeep, {number(4)}});
  queries.push_back({&kDivide, {number(0)}});
  auto failed = fixture->wait(fixture->database().write(std::move(queries), {}));
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().sent, core::Sent::no);
  EXPECT_EQ(kept(), 3);
}

TEST_F(PostgresDatabase, WhatWasPreparedMayGoOrChangeBehindItsBack) {
  open();
  auto everywhere = [&](const char* sql) {
    // DISCARD can only be said by the session itself: the server's own way to it is a table that has changed.
    fixture->fresh.run(sql);
  };
  static constexpr Statement kAll{"all_kept", "SELECT * FROM kept"};
  ASSERT_TRUE(read(kAll, {}));
  everywhere("ALTER TABLE kept ALTER COLUMN n TYPE text");
  auto after = read(kAll, {});
  EXPECT_TRUE(after) << after.error().detail;
  EXPECT_TRUE(read(kAll, {}));
}

TEST_F(PostgresDatabase, CallsOfEveryShardAreAnswered) {
  open();
  std::vector<core::awaitable<core::Result<Rows>>> works;
  for (int i = 0; i < 5000; ++i) works.push_back(fixture->database().read({&kEcho, {text(std::to_string(i))}}, {}));
  auto futures = fixture->start_all(std::move(works));
  for (int i = 0; i < 5000; ++i) EXPECT_EQ(futures[i].get().value().text(0, 0), std::to_string(i));
}

TEST_F(PostgresDatabase, AConnectionCutInMidStatementIsUnavailableAndIsMadeAgain) {
  open();
  flexi::testing::PgConnection other(fixture->fresh.dsn());
  other.run("BEGIN; LOCK TABLE kept");
  std::vector<core::awaitable<core::Result<std::vector<Rows>>>> works;
  for (int i = 0; i < 3; ++i) {
    std::vector<Query> queries;
    queries.push_back({&kKeep, {number(i)}});
    works.push_back(fixture->database().write(std::move(queries), {}));
  }
  auto futures = fixture->start_all(std::move(works));
  while (fixture->fresh.run("SELECT count(*) FROM pg_locks WHERE NOT granted") == "0") std::this_thread::yield();
  other.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'flexiconnect' AND datname = current_database()");
  for (auto& future : futures) {
    auto answer = future.get();
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().kind, ErrorKind::unavailable);
    EXPECT_EQ(answer.error().message, "the connection to the database was lost");
  }
  other.run("COMMIT");
  EXPECT_TRUE(keep({7})) << "over a new connection";
  EXPECT_EQ(kept(), 1);
}

TEST_F(PostgresDatabase, ASlowStatementIsGivenUpAndHoldsNothingUp) {
  auto options = fixture->options();
  options.statement_timeout = 300ms;
  open(options);
  flexi::testing::PgConnection other(fixture->fresh.dsn());
  other.run("BEGIN; LOCK TABLE kept IN SHARE MODE");
  auto late = keep({1});
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().kind, ErrorKind::deadline_exceeded);
  EXPECT_EQ(late.error().sent, core::Sent::no);
  EXPECT_EQ(kept(), 0) << "reads go on";
  other.run("COMMIT");
  EXPECT_TRUE(keep({1}));
}

TEST_F(PostgresDatabase, WhoLeavesOrIsLateHoldsNothingUp) {
  auto options = fixture->options();
  options.statement_timeout = 60s;
  open(options);
  flexi::testing::PgConnection other(fixture->fresh.dsn());
  other.run("BEGIN; LOCK TABLE kept");
  auto count = fixture->database().read({&kCount}, {});
  EXPECT_FALSE(fixture->wait_until_late(std::move(count), 20ms)) << "cancelled";
  // Its deadline counts, too, where nobody cancels it.
  EXPECT_EQ(read(kCount, {}, core::CallContext::with_timeout(200ms)).error().kind, ErrorKind::deadline_exceeded);
  EXPECT_EQ(read(kCount, {}, core::CallContext::with_timeout(0ms)).error().kind, ErrorKind::deadline_exceeded);
  // The connection is held up by statements that nobody waits for: it is given up long before statement_timeout.
  auto next = read(kEcho, {text("x")}, core::CallContext::with_timeout(20s));
  ASSERT_TRUE(next) << next.error().message;
  EXPECT_EQ(next.value().text(0, 0), "x");
  other.run("COMMIT");
  EXPECT_EQ(kept(), 0);
}

TEST_F(PostgresDatabase, OneMoreThanTheQueueTakesIsOverloaded) {
  auto options = fixture->options();
  options.queue_limit = 20;
  options.pipeline_depth = 4;
  open(options);
  flexi::testing::PgConnection other(fixture->fresh.dsn());
  other.run("BEGIN; LOCK TABLE kept IN SHARE MODE");
  std::vector<core::awaitable<core::Result<std::vector<Rows>>>> works;
  for (int i = 0; i < 30; ++i) {
    std::vector<Query> queries;
    queries.push_back({&kKeep, {number(i)}});
    works.push_back(fixture->database().write(std::move(queries), {}));
  }
  auto futures = fixture->start_all(std::move(works));
  int overloaded = 0, ready = 0;
  while (ready < 10)  // the ten that are too many are answered at once
    for (ready = 0; auto& future : futures) ready += future.wait_for(1ms) == std::future_status::ready;
  EXPECT_EQ(kept(), 0) << "reads go on";
  other.run("COMMIT");
  for (auto& future : futures) {
    auto answer = future.get();
    if (answer) continue;
    ++overloaded;
    EXPECT_EQ(answer.error().kind, ErrorKind::overloaded);
    EXPECT_TRUE(answer.error().retry_after);
  }
  EXPECT_EQ(overloaded, 10);
  EXPECT_EQ(kept(), 20);
}

TEST_F(PostgresDatabase, AWrongPasswordIsSaidInWordsAndNotTriedHot) {
  auto options = fixture->options();
  options.dsn += " password=wrong";
  options.max_reconnect_delay = 5s;
  fixture->open(options);
  ASSERT_TRUE(fixture->becomes("the database refuses the login: look at user and password of postgres.dsn"));
  auto refused = read(kEcho, {text("x")});
  EXPECT_EQ(refused.error().kind, ErrorKind::unavailable);
  EXPECT_EQ(refused.error().detail.find("wrong"), std::string::npos);
  EXPECT_EQ(refused.error().detail.find("auth.c"), std::string::npos) << refused.error().detail;
  const auto before = fixture->metrics.counter("flexi_postgres_connect_failures_total", "").value();
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(read(kEcho, {text("x")}));
  EXPECT_EQ(fixture->metrics.counter("flexi_postgres_connect_failures_total", "").value(), before);
}

TEST_F(PostgresDatabase, AWrongNameAnAbsentServerAndAnUnknownHostAreUnavailable) {
  auto options = fixture->options();
  options.dsn = fixture->fresh.server().dsn("dbname=not_there");
  fixture->open(options);
  EXPECT_TRUE(fixture->becomes("the database that postgres.dsn names does not exist"));
  fixture->close();
  options.dsn = "host=127.0.0.1 port=1 user=u dbname=d";
  fixture->open(options);
  EXPECT_TRUE(fixture->becomes("the database can't be reached"));
  fixture->close();
  options.dsn = "host=no-such-host.invalid user=u dbname=d";
  fixture->open(options);
  EXPECT_TRUE(fixture->becomes("the database can't be reached"));
}

/// Accepts connections and says nothing, as a frozen server does.
struct Mute {
  int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  std::string port;
  Mute() {
    ::sockaddr_in address{};
    address.sin_family = AF_INET, address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ::socklen_t length = sizeof address;
    if (::bind(socket, reinterpret_cast<::sockaddr*>(&address), length) || ::listen(socket, 100) || ::getsockname(socket, reinterpret_cast<::sockaddr*>(&address), &length))
      throw std::runtime_error("no socket");
    port = std::to_string(ntohs(address.sin_port));
  }
  ~Mute() { ::close(socket); }
};

TEST_F(PostgresDatabase, OfSeveralHostsTheFirstThatAnswersServes) {
  Mute mute;
  auto options = fixture->options();
  options.connect_timeout = 700ms;
  const auto dsn = fixture->fresh.dsn();
  const auto port = dsn.substr(dsn.find("port=") + 5, 5);
  options.dsn = dsn + " host=127.0.0.1,127.0.0.1,localhost port=1," + mute.port + "," + port + " target_session_attrs=read-write";
  open(options);
  EXPECT_TRUE(read(kEcho, {text("x")}));
}

TEST_F(PostgresDatabase, TlsIsWhatTheDsnSays) {
  const std::string folder = std::getenv("FLEXI_TEST_PG_TLS");
  auto options = fixture->options();
  options.dsn = fixture->fresh.dsn("host=localhost sslmode=verify-full sslrootcert=" + folder + "/ca.pem");
  open(options);
  EXPECT_EQ(fixture->fresh.run("SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'flexiconnect' AND "
                               "datname = current_database()"), "t");
  fixture->close();
  options.dsn = fixture->fresh.dsn("host=localhost sslmode=verify-full sslrootcert=" + folder + "/other-ca.pem");
  fixture->open(options);
  EXPECT_TRUE(fixture->becomes("the database can't be reached"));
  EXPECT_NE(read(kEcho, {text("x")}).error().detail.find("certificate verify failed"), std::string::npos);
  fixture->close();
  options.dsn = fixture->fresh.dsn("host=127.0.0.1 sslmode=verify-full sslrootcert=" + folder + "/ca.pem");
  fixture->open(options);
  EXPECT_TRUE(fixture->becomes("the database can't be reached")) << "a certificate for another name";
}

TEST_F(PostgresDatabase, AsManyConnectionsAsAllowedAndNoMore) {
  auto options = fixture->options();
  options.connections = 4;
  open(options);
  for (int round = 0; round < 5; ++round) {
    std::vector<core::awaitable<core::Result<Rows>>> works;
    for (int i = 0; i < 1000; ++i) works.push_back(fixture->database().read({&kEcho, {text("x")}}, {}));
    for (auto& future : fixture->start_all(std::move(works))) EXPECT_TRUE(future.get());
  }
  const auto open_now = std::stoi(fixture->fresh.run("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'flexiconnect' AND datname = current_database()"));
  EXPECT_GE(open_now, 2);
  EXPECT_LE(open_now, 4);
}

}  // namespace
}  // namespace flexi::runtime::postgres
