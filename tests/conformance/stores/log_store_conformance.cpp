// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <ctime>
#include <set>

#include "core/timestamp.hpp"
#include "store_under_test.hpp"

namespace flexi::conformance {
namespace {

using core::Appended, core::ErrorKind;

core::Timestamp at(std::int64_t seconds) { return core::from_unix_micros(1'700'000'000'123'456 + seconds * 1'000'000); }

struct LogStoreConformance : StoreTest {
  core::Result<Appended> add(core::MessageId id, std::string name, std::string data, core::Timestamp time = at(0)) {
    return wait(store->logs().append({std::move(id), std::move(name), std::move(data), time, time}, {}));
  }
  core::Result<core::LogPage> list(core::LogQuery query = {}) { return wait(store->logs().list(std::move(query), {})); }
};
INSTANTIATE_TEST_SUITE_P(AllStores, LogStoreConformance, testing::ValuesIn(all_stores_that(&StoreKind::keeps_logs)), kind_name);

TEST_P(LogStoreConformance, WhatWasWrittenIsReadBackInUtc) {
  ::setenv("TZ", "Asia/Tokyo", 1);
  ::tzset();
  const auto id = core::MessageId::generate();
  EXPECT_EQ(add(id, "event", "something").value(), Appended::stored);
  for (int round = 0; round < 2; ++round) {
    auto page = list();
    ASSERT_TRUE(page);
    ASSERT_EQ(page.value().records.size(), 1u);
    auto& record = page.value().records[0];
    EXPECT_EQ(record.id, id);
    EXPECT_EQ(record.name, "event");
    EXPECT_EQ(record.data, "something");
    EXPECT_EQ(core::to_rfc3339(record.created_at), "2023-11-14T22:13:20.123456Z");
    EXPECT_EQ(record.updated_at, record.created_at);
    EXPECT_TRUE(page.value().next.empty());
    store->close();
    ASSERT_TRUE(store->open());
  }
}

TEST_P(LogStoreConformance, AnEntryIsFoundByItsIdWithItsTraceAndHops) {
  const auto id = core::MessageId::parse("~admin~order-17").value();
  const auto trace = core::TraceContext::begin().trace_id;
  core::LogRecord record{id, "n", "d", at(0), at(1)};
  record.trace_id = trace;
  record.hops = "broker@1700000000123456 broker>amqp@1700000000123460 logger@1700000000999999";
  record.via = core::Via::amqp;
  ASSERT_TRUE(wait(store->logs().append(record, {})));
  ASSERT_TRUE(add(core::MessageId::generate(), "n", "without"));
  for (int round = 0; round < 2; ++round) {
    auto found = wait(store->logs().find(id, {}));
    ASSERT_TRUE(found);
    EXPECT_EQ(found.value().record.id, id);
    EXPECT_EQ(found.value().record.data, "d");
    EXPECT_EQ(found.value().record.created_at, at(0));
    EXPECT_EQ(found.value().record.updated_at, at(1));
    EXPECT_EQ(found.value().record.trace_id, trace);
    EXPECT_EQ(found.value().record.hops, record.hops);
    EXPECT_EQ(found.value().record.via, core::Via::amqp);
    auto listed = list().value().records;
    ASSERT_EQ(listed.size(), 2u);
    EXPECT_EQ(listed[0].trace_id, core::TraceId{});
    EXPECT_EQ(listed[0].hops, "");
    EXPECT_EQ(listed[1].trace_id, trace);
    EXPECT_EQ(listed[1].hops, record.hops);
    store->close();
    ASSERT_TRUE(store->open());
  }
  for (auto unknown : {"admin", "~admin~order-1", "~admin~order-170", "'", "%"})
    if (auto other = core::MessageId::parse(unknown)) EXPECT_EQ(wait(store->logs().find(other.value(), {})).error().kind, ErrorKind::not_found) << unknown;
}

TEST_P(LogStoreConformance, SaysWhichOfManyIdsItHas) {
  std::vector<core::MessageId> asked, stored;
  for (int i = 0; i < 1000; ++i) {
    asked.push_back(core::MessageId::generate());
    if (i % 100 == 7) stored.push_back(asked.back());
  }
  for (auto& id : stored) ASSERT_TRUE(add(id, "n", "d"));
  ASSERT_TRUE(add(core::MessageId::generate(), "n", "nobody asks for this one"));
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(wait(store->logs().known(asked, {})).value().ids, stored);
    EXPECT_EQ(wait(store->logs().known({}, {})).value().ids.size(), 0u);
    EXPECT_EQ(wait(store->logs().known(stored, {})).value().kept_since, core::Timestamp{}) << "nothing is ever removed";
    store->close();
    ASSERT_TRUE(store->open());
  }
  asked.push_back(core::MessageId::generate());
  EXPECT_EQ(wait(store->logs().known(asked, {})).error().kind, ErrorKind::invalid_argument);
}

TEST_P(LogStoreConformance, ATraceFindsItsEntriesAmongOthers) {
  const auto wanted = core::TraceContext::begin().trace_id, other = core::TraceContext::begin().trace_id;
  for (int i = 0; i < 40; ++i) {
    core::LogRecord record{core::MessageId::generate(), i % 8 ? "even" : "odd", "entry " + std::to_string(i), at(i), at(i)};
    record.trace_id = i % 4 == 0 ? wanted : other;
    ASSERT_TRUE(wait(store->logs().append(std::move(record), {})));
  }
  auto all = list({.trace = wanted, .limit = 500}).value();
  ASSERT_EQ(all.records.size(), 10u);
  EXPECT_EQ(all.records.front().data, "entry 36");
  EXPECT_EQ(list({.name = "odd", .trace = wanted}).value().records.size(), 5u);
  EXPECT_EQ(list({.q = "entry 36", .trace = wanted}).value().records.size(), 1u);
  EXPECT_EQ(list({.q = "37", .trace = wanted}).value().records.size(), 0u);
  EXPECT_EQ(list({.since = at(30), .until = at(36), .trace = wanted}).value().records.size(), 1u);
  EXPECT_EQ(list({.trace = core::TraceContext::begin().trace_id}).value().records.size(), 0u);
  std::set<std::string> seen;
  core::LogQuery query{.trace = wanted, .limit = 3};
  do {
    auto page = list(query).value();
    for (auto& record : page.records) EXPECT_TRUE(seen.insert(record.data).second);
    query.cursor = page.next;
  } while (!query.cursor.empty());
  EXPECT_EQ(seen.size(), 10u);
}

TEST_P(LogStoreConformance, TheSameIdAgainIsADuplicateOrAConflict) {
  const auto id = core::MessageId::generate();
  ASSERT_TRUE(add(id, "n", "d"));
  EXPECT_EQ(add(id, "n", "d", at(5)).value(), Appended::duplicate);
  EXPECT_EQ(add(id, "n", "other").error().kind, ErrorKind::conflict);
  EXPECT_EQ(add(id, "other", "d").error().kind, ErrorKind::conflict);
  auto records = list().value().records;
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].created_at, at(0));
}

TEST_P(LogStoreConformance, WhatIsMovedHereIsThereOnceAsItWas) {
  core::LogRecord record{core::MessageId::generate(), "moved", "a", at(0), at(1)};
  record.hops = "broker@1700000000123456";
  record.via = core::Via::grpc;
  record.moved = true;
  const auto append = [&] { return wait(store->logs().append(record, {})); };
  EXPECT_EQ(append().value(), Appended::stored);
  EXPECT_EQ(append().value(), Appended::duplicate);
  const auto found = wait(store->logs().find(record.id, {})).value();
  EXPECT_EQ(found.record.data, "a");
  EXPECT_EQ(found.record.created_at, at(0));
  EXPECT_EQ(found.record.updated_at, at(1));
  EXPECT_EQ(found.record.hops, record.hops);
  EXPECT_EQ(found.record.via, record.via);
  EXPECT_EQ(found.duplicates.value_or(0), 0u) << "it came once";
  record.data = "b";
  EXPECT_EQ(append().error().kind, ErrorKind::conflict);
}

TEST_P(LogStoreConformance, OfManyWhoWriteTheSameIdOneWins) {
  const auto id = core::MessageId::generate();
  std::vector<core::awaitable<core::Result<Appended>>> racers;
  for (int i = 0; i < 30; ++i) racers.push_back(store->logs().append({id, "n", i % 2 ? "odd" : "even", at(0), at(0)}, {}));
  int stored = 0, duplicates = 0, conflicts = 0;
  for (auto& result : wait_all(std::move(racers))) {
    if (!result) conflicts += result.error().kind == ErrorKind::conflict;
    else ++(result.value() == Appended::stored ? stored : duplicates);
  }
  EXPECT_EQ(stored, 1);
  EXPECT_EQ(duplicates, 14);
  EXPECT_EQ(conflicts, 15);
  EXPECT_EQ(list().value().records.size(), 1u);
}

TEST_P(LogStoreConformance, AFailureFailsAlone) {
  const auto taken = core::MessageId::generate();
  ASSERT_TRUE(add(taken, "n", "d"));
  std::vector<core::awaitable<core::Result<Appended>>> works;
  for (int i = 0; i < 20; ++i) works.push_back(store->logs().append({i == 10 ? taken : core::MessageId::generate(), "n", "x", at(i), at(i)}, {}));
  auto results = wait_all(std::move(works));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(bool(results[i]), i != 10);
  EXPECT_EQ(list().value().records.size(), 20u);
}

TEST_P(LogStoreConformance, HostileLongAndUnicodeTextIsData) {
  const std::vector<std::string> texts = {"", "'; DROP TABLE log_entries; --", std::string("a\0b\0", 4), std::string(1 << 20, 'x'), "Zoë 李 🦊 \u202e\ufeff",
                                          "{\"$gt\":\"\"}", "\r\n\t\x01\x1f", "%s%n?1 :id $1"};
  for (auto& text : texts) {
    const auto id = core::MessageId::generate();
    ASSERT_TRUE(add(id, "n" + text, text));
    EXPECT_EQ(add(id, "n" + text, text).value(), Appended::duplicate);
    core::LogQuery query;
    query.name = "n" + text;
    auto page = list(query);
    ASSERT_TRUE(page);
    ASSERT_EQ(page.value().records.size(), 1u);
    EXPECT_TRUE(page.value().records[0].data == text);
    EXPECT_TRUE(page.value().records[0].name == "n" + text);
  }
  for (auto q : {"'", "\"", "DROP TABLE", "*", "(", "a AND", "NOT x", "name:n", "{\"$gt\":\"\"}", "%"}) {
    core::LogQuery query;
    query.q = q;
    EXPECT_TRUE(list(query)) << q;
  }
  auto longest = core::MessageId::parse(std::string(core::MessageId::kMaxBytes, '~')).value();
  ASSERT_TRUE(add(longest, "id", ""));
  EXPECT_EQ(add(longest, "id", "").value(), Appended::duplicate);
}

TEST_P(LogStoreConformance, FiltersByNameWordsAndTime) {
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(add(core::MessageId::generate(), i % 2 ? "odd" : "even", "Entry number" + std::to_string(i), at(i)));
  core::LogQuery query;
  query.name = "odd";
  EXPECT_EQ(list(query).value().records.size(), 5u);
  query.since = at(3), query.until = at(7);
  EXPECT_EQ(list(query).value().records.size(), 2u);
  query.q = "ENTRY number5";
  EXPECT_EQ(list(query).value().records.size(), 1u);
  query.q = "entry absent";
  EXPECT_TRUE(list(query).value().records.empty());
}

TEST_P(LogStoreConformance, PagesStayWhatTheyAreWhileEntriesCome) {
  std::set<std::string> before;
  for (int i = 0; i < 60; ++i) {  // many share a time, and they come in any order
    const auto id = core::MessageId::generate();
    before.insert(id.str());
    ASSERT_TRUE(add(id, "n", "d", at((i * 7) % 20)));
  }
  core::LogQuery query;
  query.limit = 7;
  std::vector<core::LogRecord> seen;
  for (int page_number = 0; page_number < 20; ++page_number) {
    auto page = list(query);
    ASSERT_TRUE(page);
    EXPECT_LE(page.value().records.size(), 7u);
    for (auto& record : page.value().records) seen.push_back(record);
    query.cursor = page.value().next;
    if (query.cursor.empty()) break;
    ASSERT_TRUE(add(core::MessageId::generate(), "n", "new", at(100 + page_number)));
  }
  EXPECT_TRUE(query.cursor.empty());
  ASSERT_EQ(seen.size(), 60u);
  for (std::size_t i = 0; i < seen.size(); ++i) {
    EXPECT_EQ(before.erase(seen[i].id.str()), 1u) << "twice, or not there before";
    if (i > 0) EXPECT_LE(seen[i].created_at, seen[i - 1].created_at);
  }
}

TEST_P(LogStoreConformance, TheLastPageHasNoNext) {
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(add(core::MessageId::generate(), "n", "d", at(i)));
  core::LogQuery query;
  for (unsigned limit : {4u, 5u, 500u}) {
    query.limit = limit;
    EXPECT_TRUE(list(query).value().next.empty());
  }
  query.limit = 3;
  EXPECT_FALSE(list(query).value().next.empty());
}

TEST_P(LogStoreConformance, RefusesWhatIsNoCursorAndNoLimit) {
  core::LogQuery query;
  for (auto cursor : {"x", "1", "' OR 1=1 --", "ffffffffffffffffffffffffffffffffffffffff", "\xff"}) {
    query.cursor = cursor;
    EXPECT_EQ(list(query).error().kind, ErrorKind::invalid_argument) << cursor;
  }
  query.cursor.clear();
  for (unsigned limit : {0u, 501u}) {
    query.limit = limit;
    EXPECT_EQ(list(query).error().kind, ErrorKind::invalid_argument) << limit;
  }
}

TEST_P(LogStoreConformance, ACallPastItsDeadlineDoesNothing) {
  auto late = core::CallContext::with_timeout(std::chrono::milliseconds(0));
  EXPECT_EQ(wait(store->logs().append({core::MessageId::generate(), "n", "d", at(0), at(0)}, late)).error().kind, ErrorKind::deadline_exceeded);
  EXPECT_EQ(wait(store->logs().list({}, late)).error().kind, ErrorKind::deadline_exceeded);
  EXPECT_TRUE(list().value().records.empty());
}

TEST_P(LogStoreConformance, WhoLeavesHoldsNothingUpAndItsEntryIsWholeOrNotThere) {
  const auto id = core::MessageId::generate();
  start_and_leave(store->logs().append({id, "n", "d", at(0), at(0)}, {}));
  EXPECT_TRUE(add(id, "n", "d"));
  EXPECT_EQ(list().value().records.size(), 1u);
}

TEST_P(LogStoreConformance, AFullQueueIsOverloadedWithATimeToComeBack) {
  const auto id = core::MessageId::generate();
  store->with_full_queue([&] {
    auto refused = add(id, "n", "d");
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::overloaded);
    EXPECT_TRUE(refused.error().retry_after);
  });
  EXPECT_EQ(add(id, "n", "d").value(), Appended::stored);
}

TEST_P(LogStoreConformance, AFullDiskIsUnavailableStoresNothingAndHeals) {
  ASSERT_TRUE(add(core::MessageId::generate(), "n", "before"));
  store->refuse_writes();
  const auto id = core::MessageId::generate();
  const std::string large(200000, 'x');
  std::vector<core::awaitable<core::Result<Appended>>> works;
  for (int i = 0; i < 5; ++i) works.push_back(store->logs().append({i == 2 ? id : core::MessageId::generate(), "full", large, at(0), at(0)}, {}));
  for (auto& refused : wait_all(std::move(works))) {
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::unavailable);
  }
  core::LogQuery query;
  query.name = "full";
  EXPECT_TRUE(list(query).value().records.empty());
  EXPECT_EQ(list().value().records.size(), 1u);
  store->allow_writes();
  EXPECT_EQ(add(id, "full", large).value(), Appended::stored);
  EXPECT_EQ(list(query).value().records.size(), 1u);
}

}  // namespace
}  // namespace flexi::conformance
