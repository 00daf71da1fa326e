// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "runtime/postgres/database_fixture.hpp"

namespace flexi::runtime::postgres {
namespace {

using namespace std::chrono_literals;

constexpr Statement kCount{"count", "SELECT count(*) FROM public.things"};

struct PostgresSchema : ::testing::Test {
  void SetUp() override {
    if (auto why = flexi::testing::PostgreSql::missing()) GTEST_SKIP() << *why;
    fixture.emplace();
  }
  static Schema things(std::vector<Migration> more = {}) {
    Schema schema{.component = "things", .steps = {{1, "CREATE TABLE public.things(id integer, name text)"}, {2, "INSERT INTO public.things VALUES (1, 'first')"}}};
    schema.steps.insert(schema.steps.end(), more.begin(), more.end());
    schema.check = "SELECT id, name FROM public.things LIMIT 0";
    schema.indexes = {{"things_by_name", "public.things (lower(name))"}};
    return schema;
  }
  std::string run(const std::string& sql) { return fixture->fresh.run(sql); }
  bool comes_to(const std::string& sql, const std::string& wanted) {
    const auto until = std::chrono::steady_clock::now() + 20s;
    while (run(sql) != wanted)
      if (std::chrono::steady_clock::now() > until) return false;
    return true;
  }
  static constexpr const char* kIndex = "SELECT coalesce((SELECT indisvalid::text FROM pg_index WHERE indexrelid = to_regclass('public.things_by_name')), 'none')";
  std::optional<DatabaseFixture> fixture;
};

TEST_F(PostgresSchema, StepsAreAppliedOnceInOrderAndRecorded) {
  for (int i = 0; i < 3; ++i) {
    fixture->open(fixture->options(), {things()});
    ASSERT_TRUE(fixture->becomes(""));
    EXPECT_EQ(fixture->wait(fixture->database().read({&kCount}, {})).value().integer(0, 0), 1);
    fixture->close();
  }
  EXPECT_EQ(run("SELECT string_agg(component || version, ' ' ORDER BY version) FROM public.flexi_migrations"), "things1 things2");
  fixture->open(fixture->options(), {things({{3, "INSERT INTO public.things VALUES (2, 'second'); INSERT INTO public.things VALUES (3, 'third')"}})});
  ASSERT_TRUE(fixture->becomes(""));
  EXPECT_EQ(run("SELECT count(*) FROM public.things"), "3");
  fixture->close();
  // An older version of the program works on with a newer one's tables.
  fixture->open(fixture->options(), {things()});
  EXPECT_TRUE(fixture->becomes(""));
}

TEST_F(PostgresSchema, AStepThatFailsLeavesNothingAndIsTriedAgain) {
  run("CREATE TABLE public.in_the_way(n integer)");
  fixture->open(fixture->options(), {things({{3, "INSERT INTO public.things VALUES (2, 'second'); CREATE TABLE public.in_the_way(n integer)"}})});
  ASSERT_TRUE(fixture->becomes("the database's tables can't be made or used: see the log"));
  EXPECT_EQ(run("SELECT count(*) FROM public.things"), "1");
  EXPECT_EQ(fixture->wait(fixture->database().read({&kCount}, {})).error().kind, core::ErrorKind::unavailable);
  run("DROP TABLE public.in_the_way");
  EXPECT_TRUE(fixture->becomes("")) << "no restart is needed";
  EXPECT_EQ(run("SELECT count(*) FROM public.things"), "2");
}

TEST_F(PostgresSchema, ARoleThatMayOnlyUseTheTablesIsEnoughOnceTheyAreThere) {
  const auto role = fixture->fresh.name() + "_role";
  run("CREATE ROLE " + role + " LOGIN PASSWORD 'p'");
  auto options = fixture->options();
  options.dsn += " user=" + role + " password=p";
  fixture->open(options, {things()});
  EXPECT_TRUE(fixture->becomes("the database refuses: its role lacks a privilege, which its owner must grant"));
  fixture->close();
  fixture->open(fixture->options(), {things()});
  ASSERT_TRUE(fixture->becomes(""));
  fixture->close();
  run("GRANT SELECT ON public.things, public.flexi_migrations TO " + role);
  fixture->open(options, {things()});
  EXPECT_TRUE(fixture->becomes(""));
  fixture->close();
  run("DROP OWNED BY " + role + "; DROP ROLE " + role);
}

TEST_F(PostgresSchema, AnIndexIsMadeBehindTheStartWithoutHoldingWritesUp) {
  fixture->open(fixture->options(), {things()});
  ASSERT_TRUE(fixture->becomes(""));
  ASSERT_TRUE(comes_to(kIndex, "true"));
  fixture->close();
  run("DROP INDEX public.things_by_name");
  // Somebody's transaction that has written keeps CREATE INDEX CONCURRENTLY waiting: the store works, and others write on.
  flexi::testing::PgConnection other(fixture->fresh.dsn());
  other.run("BEGIN; INSERT INTO public.things VALUES (9, 'open')");
  fixture->open(fixture->options(), {things()});
  ASSERT_TRUE(fixture->becomes(""));
  ASSERT_TRUE(comes_to("SELECT count(*) FROM pg_stat_progress_create_index", "1"));
  run("INSERT INTO public.things VALUES (10, 'meanwhile')");
  other.run("COMMIT");
  EXPECT_TRUE(comes_to(kIndex, "true"));
}

TEST_F(PostgresSchema, AnIndexThatBrokeOffIsMadeAgain) {
  fixture->open(fixture->options(), {things()});
  ASSERT_TRUE(comes_to(kIndex, "true"));
  fixture->close();
  run("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'public.things_by_name'::regclass");
  fixture->open(fixture->options(), {things()});
  EXPECT_TRUE(comes_to(kIndex, "true"));
}

TEST_F(PostgresSchema, ManyProcessesMayStartAtOnce) {
  std::vector<std::unique_ptr<Metrics>> figures;
  std::vector<std::unique_ptr<Database>> databases;
  std::atomic<int> well = 0;
  for (int i = 0; i < 8; ++i) {
    databases.push_back(std::make_unique<Database>(fixture->options(), fixture->shards.executor(0), LogSink::none(), *figures.emplace_back(std::make_unique<Metrics>()),
                                                   [&](const core::Error* error) { well += error == nullptr; }));
    databases.back()->add(things());
  }
  for (auto& database : databases) database->start();
  const auto until = std::chrono::steady_clock::now() + 20s;
  while (well < 8 && std::chrono::steady_clock::now() < until) std::this_thread::yield();
  EXPECT_EQ(well, 8);
  EXPECT_TRUE(comes_to(kIndex, "true"));
  for (auto& database : databases) fixture->shards.run(database->stop());
  EXPECT_EQ(run("SELECT count(*) FROM public.things"), "1");
  EXPECT_EQ(run("SELECT count(*) FROM public.flexi_migrations"), "2");
}

TEST_F(PostgresSchema, ADatabaseThatIsMadeAnewUnderneathIsFilledAgain) {
  fixture->open(fixture->options(), {things()});
  ASSERT_TRUE(fixture->becomes(""));
  ASSERT_TRUE(comes_to(kIndex, "true"));
  run("DROP TABLE public.things, public.flexi_migrations");
  EXPECT_EQ(fixture->wait(fixture->database().read({&kCount}, {})).error().kind, core::ErrorKind::unavailable);
  EXPECT_TRUE(comes_to("SELECT coalesce(to_regclass('public.things')::text, '')", "things"));
  EXPECT_TRUE(comes_to(kIndex, "true"));
}

}  // namespace
}  // namespace flexi::runtime::postgres
