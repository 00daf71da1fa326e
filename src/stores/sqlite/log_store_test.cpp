// SPDX-License-Identifier: Apache-2.0
#include "stores/sqlite/log_store.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/timestamp.hpp"
#include "stores/sqlite/log_index.hpp"
#include "stores/sqlite/log_search.hpp"
#include "stores/sqlite/store_fixture.hpp"

namespace flexi::stores::sqlite {
namespace {

using runtime::sqlite::Connection;
using testing::ElementsAre;
using testing::IsEmpty;

struct SqliteLogs : testing::Test, StoreFixture {
  void SetUp() override { open(); }

  core::Timestamp at(std::int64_t seconds) { return core::from_unix_micros(1'700'000'000'000'000 + seconds * 1'000'000); }
  core::Result<core::Appended> add(std::int64_t second, std::string name, std::string data) {
    return wait(logs().append({core::MessageId::generate(), std::move(name), std::move(data), at(second), at(second)}, {}));
  }
  /// Many entries in one transaction, one a second, "filler <n>".
  void fill(int count, std::int64_t first_second, std::string word = "filler") {
    ASSERT_TRUE(database().write_now([&](Connection& connection) -> core::Result<void> {
      for (int i = 0; i < count; ++i) {
        const auto id = core::MessageId::generate().str();
        const auto data = word + " " + std::to_string(i);
        const auto time = core::to_unix_micros(at(first_second + i));
        auto insert = connection.use("INSERT INTO log_entries(id, name, data, created_at, updated_at) VALUES(?1, 'bulk', ?2, ?3, ?3)");
        insert.bind(1, id).bind(2, data).bind(3, time);
        FLEXI_TRY(insert.run());
      }
      return core::ok();
    }));
  }
  LogIndexState state() {
    LogIndexState result;
    EXPECT_TRUE(database().write_now([&](Connection& connection) -> core::Result<void> {
      FLEXI_TRY(result, read_index_state(connection));
      return core::ok();
    }));
    return result;
  }
  void keep_up(LogStoreOptions options = {}) {
    bool more = true;
    for (int step = 0; more && step < 10000; ++step)
      ASSERT_TRUE(database().write_now([&](Connection& connection) -> core::Result<void> {
        more = LogUpkeep(options)(connection);
        return core::ok();
      }));
    ASSERT_FALSE(more);
  }
  std::vector<std::string> search(std::string q, std::optional<std::string> name = {}) {
    core::LogQuery query;
    query.q = std::move(q);
    query.name = std::move(name);
    auto page = wait(logs().list(query, {}));
    std::vector<std::string> found;
    if (!page) return {std::string(core::to_string(page.error().kind)) + ": " + page.error().message + page.error().detail};
    for (auto& record : page.value().records) found.push_back(record.data);
    return found;
  }
};

TEST_F(SqliteLogs, FindsWordsTheSameWithAndWithoutTheIndex) {
  ASSERT_TRUE(add(1, "Web-Shop", "Order 17 was shipped to Málaga"));
  ASSERT_TRUE(add(2, "mail", "order 18 failed: \"no such user\""));
  ASSERT_TRUE(add(3, "mail", std::string("nul\0word and 注文 19", 21)));
  // Enough newer entries that the quick look at the newest can't answer.
  for (int round = 0; round < 3; ++round) {
    SCOPED_TRACE(round == 0 ? "newest entries" : round == 1 ? "not indexed" : "indexed");
    if (round == 1) fill(1500, 100);
    if (round == 2) keep_up();
    if (round == 2) EXPECT_EQ(state().indexed, state().newest);
    EXPECT_THAT(search("ORDER"), ElementsAre("order 18 failed: \"no such user\"", "Order 17 was shipped to Málaga"));
    EXPECT_THAT(search("malaga shop"), ElementsAre("Order 17 was shipped to Málaga"));
    EXPECT_THAT(search("web-shop"), ElementsAre("Order 17 was shipped to Málaga"));
    EXPECT_THAT(search("shop-web"), IsEmpty());
    EXPECT_THAT(search("ship"), IsEmpty());
    EXPECT_THAT(search("ship*"), ElementsAre("Order 17 was shipped to Málaga"));
    EXPECT_THAT(search("ord* fail*"), ElementsAre("order 18 failed: \"no such user\""));
    EXPECT_THAT(search("注文"), testing::SizeIs(1));
    EXPECT_THAT(search("word nul"), testing::SizeIs(1));
    EXPECT_THAT(search(std::string("nul\0word", 8)), testing::SizeIs(1));
    EXPECT_THAT(search("order", "mail"), ElementsAre("order 18 failed: \"no such user\""));
    EXPECT_THAT(search("", "Web-Shop"), ElementsAre("Order 17 was shipped to Málaga"));
    EXPECT_THAT(search("", "web-shop"), IsEmpty());
    EXPECT_THAT(search("", "!!"), IsEmpty());
  }
}

TEST_F(SqliteLogs, ATraceIsFoundWithAndWithoutItsIndexUntilRetentionTakesIt) {
  const auto trace = core::TraceContext::begin().trace_id;
  const auto now = std::chrono::system_clock::now();
  core::LogRecord record{core::MessageId::generate(), "n", "wanted", now - std::chrono::hours(2), now};
  record.trace_id = trace;
  ASSERT_TRUE(wait(logs().append(record, {})));
  const auto found = [&] { return wait(logs().list({.trace = trace}, {})).value().records.size(); };
  const auto indexed = [&] {
    std::int64_t count = 0;
    EXPECT_TRUE(database().write_now([&](Connection& connection) -> core::Result<void> {
      auto row = connection.use("SELECT count(*) FROM log_traces");
      FLEXI_TRY(row.step());
      count = row.integer(0);
      return core::ok();
    }));
    return count;
  };
  fill(25000, 10);  // beyond what a search reads one by one
  EXPECT_EQ(indexed(), 0);
  EXPECT_EQ(found(), 1u);
  keep_up();
  EXPECT_EQ(indexed(), 1) << "entries without a trace are not in it";
  EXPECT_EQ(found(), 1u);
  keep_up({.retention_age = std::chrono::hours(1)});
  EXPECT_EQ(indexed(), 0);
  EXPECT_EQ(found(), 0u);
}

TEST_F(SqliteLogs, CountsWhatItStoresAndHowOftenItCameAgain) {
  auto book = std::move(runtime::sqlite::LedgerBook::open(database()).value());
  auto counted = std::move(open_log_store(database(), {}, book.get()).value());
  core::LogRecord record{core::MessageId::generate(), "n", "d", at(0), at(0)};
  record.via = core::Via::http;
  EXPECT_EQ(wait(counted->append(record, {})).value(), core::Appended::stored);
  EXPECT_EQ(wait(counted->append(record, {})).value(), core::Appended::duplicate);
  auto other = record;
  other.data = "another";
  EXPECT_EQ(wait(counted->append(other, {})).error().kind, core::ErrorKind::conflict);
  EXPECT_EQ(wait(counted->find(record.id, {})).value().duplicates, 1u);
  EXPECT_FALSE(wait(logs().find(record.id, {})).value().duplicates) << "nobody counts for this one";
  auto lines = wait(book->accounts({})).value().front().lines;
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0].action, "log");
  EXPECT_EQ(lines[0].way, "http");
  EXPECT_EQ(lines[0].accepted, 1);
  EXPECT_EQ(lines[0].stored, 1);
  EXPECT_EQ(lines[0].duplicates, 1);
}

TEST_F(SqliteLogs, WhatWasMovedHereIsCountedNowhere) {
  auto book = std::move(runtime::sqlite::LedgerBook::open(database()).value());
  auto counted = std::move(open_log_store(database(), {}, book.get()).value());
  core::LogRecord record{core::MessageId::generate(), "n", "d", at(0), at(1)};
  record.moved = true;
  EXPECT_EQ(wait(counted->append(record, {})).value(), core::Appended::stored);
  EXPECT_EQ(wait(counted->append(record, {})).value(), core::Appended::duplicate);
  EXPECT_EQ(wait(counted->find(record.id, {})).value().duplicates, 0u);
  EXPECT_EQ(wait(counted->count({})).value(), 1u);
  const auto accounts = wait(book->accounts({})).value();
  for (auto& account : accounts)
    for (auto& line : account.lines) EXPECT_TRUE(line.empty()) << line.way;
}

TEST_F(SqliteLogs, EntriesOfAnOlderProgramAreReadAsTheyAre) {
  fill(10, 10);
  keep_up();
  auto page = wait(logs().list({.limit = 1}, {})).value();
  EXPECT_EQ(page.records[0].hops, "");
  EXPECT_EQ(page.records[0].trace_id, core::TraceId{});
  EXPECT_TRUE(wait(logs().find(page.records[0].id, {})));
}

TEST_F(SqliteLogs, NothingInAQueryIsSyntax) {
  ASSERT_TRUE(add(1, "n", "a OR b AND c NOT NEAR(x) name:y"));
  ASSERT_TRUE(add(2, "n", "other"));
  for (int round = 0; round < 2; ++round) {
    for (auto q : {"OR", "AND", "NOT", "NEAR(x)", "name:y", "a OR b", "\"a\"", "'c'", "^a", "+a", "{a}", "-a", "a\"b\"\"", "NEAR(", "a OR OR b"})
      EXPECT_THAT(search(q), testing::Each(testing::Not(testing::HasSubstr("invalid")))) << q;
    EXPECT_THAT(search("a NOT b"), testing::SizeIs(1));
    EXPECT_THAT(search("name : other"), IsEmpty());
    for (auto q : {"*", "\"", "\"\"\"", "'; DROP TABLE log_entries; --x", "()", "...", ":", "^*"}) EXPECT_THAT(search(q), IsEmpty()) << q;
    fill(1500, 100);
    keep_up();
  }
  std::string words;
  for (int i = 0; i < 65; ++i) words += "w" + std::to_string(i) + " ";
  EXPECT_THAT(search(words)[0], testing::StartsWith("invalid_argument"));
}

TEST_F(SqliteLogs, ASearchIsCompleteBeyondWhatItReadsOneByOne) {
  ASSERT_TRUE(add(0, "first", "needle one"));
  fill(25000, 10);
  ASSERT_TRUE(add(1, "late", "needle two"));  // out of order in time, newest by arrival
  EXPECT_THAT(search("needle"), ElementsAre("needle two", "needle one"));
  EXPECT_GE(state().indexed, state().newest - 20000);
  EXPECT_LT(state().indexed, state().newest);
  EXPECT_EQ(search("filler").size(), 50u);
}

TEST_F(SqliteLogs, APassedDeadlineEndsALongSearch) {
  fill(30000, 10);
  core::LogQuery query;
  query.name = "!!";  // no word in it, so that every entry must be read
  auto page = wait(logs().list(query, core::CallContext::with_timeout(std::chrono::milliseconds(1))));
  ASSERT_FALSE(page);
  EXPECT_EQ(page.error().kind, core::ErrorKind::deadline_exceeded);
  EXPECT_TRUE(wait(logs().list(query, {})));
}

TEST_F(SqliteLogs, PagesThroughASearchWithoutGapOrRepetition) {
  for (int round = 0; round < 2; ++round) {
    if (round == 0) fill(3000, 10, "even");
    if (round == 1) keep_up();
    core::LogQuery query;
    query.q = "even";
    query.limit = 499;
    std::vector<std::string> seen;
    do {
      auto page = wait(logs().list(query, {}));
      ASSERT_TRUE(page);
      for (auto& record : page.value().records) seen.push_back(record.data);
      query.cursor = page.value().next;
    } while (!query.cursor.empty() && seen.size() < 5000);
    ASSERT_EQ(seen.size(), 3000u);
    for (int i = 0; i < 3000; ++i) ASSERT_EQ(seen[i], "even " + std::to_string(2999 - i));
  }
}

TEST_F(SqliteLogs, APageOfLongEntriesEndsEarlyAndGoesOn) {
  for (int i = 0; i < 6; ++i) ASSERT_TRUE(add(i, "long", std::string(600'000, static_cast<char>('a' + i))));
  core::LogQuery query;
  std::string seen;
  int pages = 0;
  do {
    auto page = wait(logs().list(query, {}));
    ASSERT_TRUE(page);
    EXPECT_LE(page.value().records.size(), 3u);
    for (auto& record : page.value().records) seen += record.data[0];
    query.cursor = page.value().next;
    ++pages;
  } while (!query.cursor.empty() && pages < 10);
  EXPECT_EQ(seen, "fedcba");
  EXPECT_EQ(pages, 2);
}

TEST_F(SqliteLogs, APageIsCutByWhatItTakesAsJson) {
  for (int i = 0; i < 12; ++i) ASSERT_TRUE(add(i, "control", std::string(170'000, '\x01')));  // six bytes each
  core::LogQuery query;
  std::size_t seen = 0;
  do {
    auto page = wait(logs().list(query, {}));
    ASSERT_TRUE(page);
    ASSERT_FALSE(page.value().records.empty());
    EXPECT_LE(page.value().records.size() * 170'000 * 6, std::size_t{2} << 20);
    seen += page.value().records.size();
    query.cursor = page.value().next;
  } while (!query.cursor.empty() && seen < 20);
  EXPECT_EQ(seen, 12u);
}

TEST_F(SqliteLogs, RetentionByAgeHidesAtOnceAndRemovesInIdleTime) {
  close();
  log_options.retention_age = std::chrono::hours(1);
  open();
  ASSERT_TRUE(add(1, "old", "old entry"));
  fill(500, 10);
  const auto now = std::chrono::system_clock::now();
  ASSERT_TRUE(wait(logs().append({core::MessageId::generate(), "new", "new entry", now, now}, {})));
  EXPECT_THAT(search(""), ElementsAre("new entry"));
  keep_up(log_options);
  EXPECT_EQ(state().newest, 502);
  close();
  log_options = {};
  open();
  EXPECT_THAT(search(""), ElementsAre("new entry"));
  EXPECT_THAT(search("filler"), IsEmpty());
}

TEST_F(SqliteLogs, SaysFromWhenOnItKnowsAllIds) {
  close();
  log_options.retention_age = std::chrono::hours(1);
  open();
  const auto now = std::chrono::system_clock::now();
  const auto hidden = core::MessageId::generate();
  ASSERT_TRUE(wait(logs().append({hidden, "old", "old entry", now - std::chrono::hours(2), now}, {})));
  auto known = wait(logs().known({hidden}, {})).value();
  EXPECT_EQ(known.ids.size(), 1u) << "nobody lists it, but it came";
  EXPECT_GE(known.kept_since, now - std::chrono::hours(1));
  close();
  log_options = {.retention_max_bytes = 50000};
  open();
  known = wait(logs().known({}, {})).value();
  EXPECT_EQ(core::to_unix_micros(known.kept_since), core::to_unix_micros(now - std::chrono::hours(2))) << "the oldest that is left";
}

TEST_F(SqliteLogs, RetentionBySizeRemovesTheOldest) {
  fill(1000, 10);
  keep_up({.retention_max_bytes = 50000});
  core::LogQuery query;
  query.limit = 500;
  auto left = wait(logs().list(query, {})).value().records;
  EXPECT_GT(left.size(), 200u);
  EXPECT_LT(left.size(), 300u);  // some 200 bytes each
  EXPECT_EQ(left.front().data, "filler 999");
  EXPECT_EQ(left.back().data, "filler " + std::to_string(1000 - left.size()));
  EXPECT_THAT(search("10"), IsEmpty());
}

TEST_F(SqliteLogs, AfterEverythingWasRemovedNewEntriesAreFound) {
  fill(300, 10);
  keep_up({.retention_age = std::chrono::hours(1)});
  EXPECT_EQ(state().indexed, 0);
  ASSERT_TRUE(add(1, "again", "from the start"));
  EXPECT_EQ(state().newest, 1);
  keep_up();
  EXPECT_THAT(search("start"), ElementsAre("from the start"));
  ASSERT_TRUE(database().write_now([](Connection& connection) { return connection.execute("INSERT INTO log_fts(log_fts, rank) VALUES('integrity-check', 1)"); }));
}

TEST_F(SqliteLogs, TheDatabasesIdleTimeBuildsTheIndex) {
  database().set_idle_work(LogUpkeep(log_options));
  ASSERT_TRUE(add(1, "n", "some words"));
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (state().indexed != 1 && std::chrono::steady_clock::now() < give_up) std::this_thread::yield();
  EXPECT_EQ(state().indexed, 1);
}

TEST(LogCursor, IsReadBackOrRefused) {
  for (LogPosition position : {LogPosition{0, 0}, LogPosition{-5, 7}, LogPosition{}, LogPosition{1'700'000'000'000'000, 123456}})
    EXPECT_EQ(from_cursor(to_cursor(position)).value(), position);
  for (auto garbage : {"", "x", "50", "-0000000000000010000000000000001", "0000000000000001000000000000000g", "00000000000000010000000000000001 ",
                       "0000000000000001f000000000000001"})
    EXPECT_FALSE(from_cursor(garbage)) << garbage;
}

TEST(LogStoreOptions, NamesEveryProblem) {
  EXPECT_TRUE(LogStoreOptions{}.validate().empty());
  EXPECT_EQ((LogStoreOptions{std::chrono::milliseconds(-1), -1}.validate().size()), 2u);
}

}  // namespace
}  // namespace flexi::stores::sqlite
