// SPDX-License-Identifier: Apache-2.0
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/steady_timer.hpp>
#include <set>

#include "core/timestamp.hpp"
#include "stores/mongo/document.hpp"
#include "stores/mongo/mongo_fixture.hpp"

namespace flexi::stores::mongo {
namespace {

using core::Appended, core::ErrorKind;
using Cut = flexi::testing::MongoGate::Cut;

struct MongoLogStoreTest : MongoTest {};

TEST_F(MongoLogStoreTest, DocumentsOfOthersAreListedFoundAndSearched) {
  std::vector<Bson> documents(3);
  std::vector<ObjectId> ids;
  for (int i = 0; i < 3; ++i) {
    ids.push_back(ObjectId::generate());
    documents[static_cast<std::size_t>(i)].id("_id", ids.back()).text("name", i ? "other" : "first").text("data", "written by Go " + std::to_string(i))
        .date("created_at", 1'700'000'000'000 + i).date("updated_at", 1'700'000'000'500);
  }
  write(std::move(documents));
  auto store = open();
  auto page = wait(store->list({}, {})).value();
  ASSERT_EQ(page.records.size(), 3u);
  EXPECT_EQ(page.records[0].data, "written by Go 2");
  EXPECT_EQ(page.records[0].id.str(), ids[2].hex());
  EXPECT_EQ(core::to_rfc3339(page.records[0].created_at), "2023-11-14T22:13:20.002000Z");
  EXPECT_EQ(core::to_rfc3339(page.records[0].updated_at), "2023-11-14T22:13:20.500000Z");
  EXPECT_EQ(wait(store->find(page.records[1].id, {})).value().record.data, "written by Go 1");
  EXPECT_EQ(wait(store->known({page.records[1].id, core::MessageId::generate()}, {})).value().ids.size(), 1u);
  EXPECT_EQ(wait(store->list({.name = "other"}, {})).value().records.size(), 2u);
  EXPECT_EQ(wait(store->list({.q = "GO 1"}, {})).value().records.size(), 1u);
  EXPECT_EQ(count(options.collection), 3u);
}

TEST_F(MongoLogStoreTest, WhatHasOtherTypesBreaksNoPageAndIsPagedThrough) {
  auto store = open();
  std::vector<Bson> documents(9);
  for (std::size_t i = 0; i < 6; ++i) documents[i].id("_id", ObjectId::generate());
  documents[0].integer("name", 5).date("created_at", 1'700'000'000'000);
  documents[1].text("name", "no time");
  documents[2].text("created_at", "yesterday").boolean("data", true);
  documents[3].null("created_at").null("name").text("data", "none");
  documents[4].date("created_at", 1'700'000'000'000).text("created_us", "x").text("message_id", "\xff");
  documents[5].date("created_at", std::numeric_limits<std::int64_t>::max()).text("name", "the end of time");
  documents[6].text("_id", "a name").date("created_at", 1'700'000'000'000);
  documents[7].integer("_id", 17);
  documents[8].document("_id", Bson()).date("created_at", 0);
  write(std::move(documents));
  for (unsigned limit : {1u, 2u, 50u}) {
    std::set<std::string> seen;
    core::LogQuery query;
    query.limit = limit;
    do {
      auto page = wait(store->list(query, {}));
      ASSERT_TRUE(page) << page.error().message << page.error().detail;
      for (auto& record : page.value().records) {
        EXPECT_TRUE(seen.insert(record.id.str()).second) << "twice: " << record.id.str();
        EXPECT_EQ(wait(store->find(record.id, {})).value().record.id, record.id);
      }
      query.cursor = page.value().next;
    } while (!query.cursor.empty());
    EXPECT_EQ(seen.size(), 6u) << "limit " << limit;
  }
  EXPECT_EQ(wait(store->list({.since = core::from_unix_micros(0)}, {})).value().records.size(), 3u);
}

TEST_F(MongoLogStoreTest, EntriesOfOneMillisecondArePagedNewestFirst) {
  auto store = open();
  const std::int64_t base = 1'700'000'000'123'000;
  for (int micros : {5, 900, 0, 999, 450}) {
    auto record = entry();
    record.created_at = core::from_unix_micros(base + micros);
    ASSERT_TRUE(wait(store->append(record, {})));
  }
  std::vector<Bson> other(1);
  other[0].id("_id", ObjectId::generate()).text("name", "of another").date("created_at", base / 1000);
  write(std::move(other));
  std::vector<std::int64_t> seen;
  core::LogQuery query;
  query.limit = 1;
  do {
    auto page = wait(store->list(query, {})).value();
    ASSERT_EQ(page.records.size(), 1u);
    seen.push_back(core::to_unix_micros(page.records[0].created_at) - base);
    query.cursor = page.next;
  } while (!query.cursor.empty());
  EXPECT_EQ(seen, (std::vector<std::int64_t>{999, 900, 450, 5, 0, 0}));
  EXPECT_EQ(wait(store->list({.since = core::from_unix_micros(base + 450), .until = core::from_unix_micros(base + 999)}, {})).value().records.size(), 2u);
}

TEST_F(MongoLogStoreTest, ACollisionGoesToTheNextPlaceAndIsFoundThere) {
  auto store = open();
  const auto id = core::MessageId::generate();
  std::vector<Bson> others(2);
  others[0].id("_id", place_of(id, 0)).text("name", "of another").text("message_id", core::MessageId::generate().str());
  others[1].id("_id", place_of(id, 1)).text("name", "without an id");
  write(std::move(others));
  EXPECT_EQ(wait(store->append(entry(id), {})).value(), Appended::stored);
  EXPECT_EQ(wait(store->append(entry(id), {})).value(), Appended::duplicate);
  EXPECT_EQ(wait(store->append(entry(id, "n", "x"), {})).error().kind, ErrorKind::conflict);
  EXPECT_EQ(wait(store->find(id, {})).value().record.data, "d");
  EXPECT_EQ(wait(store->known({id}, {})).value().ids.size(), 1u);
  EXPECT_EQ(count(options.collection), 3u);
  bool there = false;
  Bson filter;
  filter.id("_id", place_of(id, 2));
  ASSERT_TRUE(direct->session().find(options.collection, filter, {}, [&](Fields fields) { return there = is_message(fields, id), Next::enough; }));
  EXPECT_TRUE(there);
}

TEST_F(MongoLogStoreTest, WhereAllPlacesAreTakenItSaysSo) {
  auto store = open();
  const auto id = core::MessageId::generate();
  std::vector<Bson> others(kPlaces);
  for (unsigned i = 0; i < kPlaces; ++i) others[i].id("_id", place_of(id, i));
  write(std::move(others));
  EXPECT_EQ(wait(store->append(entry(id), {})).error().kind, ErrorKind::unavailable);
  EXPECT_EQ(wait(store->find(id, {})).error().kind, ErrorKind::not_found);
}

TEST_F(MongoLogStoreTest, ABatchIsWhatCameWhileTheLastOneRan) {
  options.write_connections = 1;
  auto store = open();
  gate->hold("insert", options.collection);
  std::vector<std::future<core::Result<Appended>>> callers;
  const auto add = [&] { callers.push_back(start(store->append(entry(), {}))); };
  add();
  gate->wait_until_held(1);
  for (int i = 0; i < 300; ++i) add();
  std::promise<void> queued;  // behind the last of them on the same thread
  boost::asio::post(shards.executor(0), [&] { queued.set_value(); });
  queued.get_future().wait();
  gate->release();
  for (auto& caller : callers) EXPECT_EQ(caller.get().value(), Appended::stored);
  EXPECT_EQ(gate->asked("insert", options.collection), 2u);
  EXPECT_EQ(count(options.collection), 301u);
}

TEST_F(MongoLogStoreTest, AConnectionThatBreaksInAStatementIsUnavailableMaybeSentAndHeals) {
  auto store = open();
  for (auto how : {Cut::before, Cut::after}) {
    const auto record = entry();
    gate->cut("insert", options.collection, how);
    auto failed = wait(store->append(record, {}));
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().kind, ErrorKind::unavailable);
    EXPECT_EQ(failed.error().sent, core::Sent::maybe);
    ASSERT_TRUE(eventually([&] { return bool(store->wait_until_ready({})); }));
    EXPECT_EQ(wait(store->append(record, {})).value(), how == Cut::before ? Appended::stored : Appended::duplicate);
  }
  EXPECT_EQ(count(options.collection), 2u);
}

TEST_F(MongoLogStoreTest, AReadOverABrokenConnectionIsUnavailableAndHeals) {
  auto store = open();
  ASSERT_TRUE(wait(store->append(entry(), {})));
  gate->cut("find", options.collection, Cut::before);
  auto first = wait(store->list({}, {}));  // the driver may try again by itself
  if (!first) EXPECT_EQ(first.error().kind, ErrorKind::unavailable);
  ASSERT_TRUE(eventually([&] { return bool(store->wait_until_ready({})); }));
  EXPECT_EQ(wait(store->list({}, {})).value().records.size(), 1u);
}

TEST_F(MongoLogStoreTest, WhoLeavesASlowServerHasItsEntryThereOnce) {
  options.write_connections = 1;
  auto store = open();
  gate->hold("insert", options.collection);
  const auto under_way = entry(), waiting = entry();
  for (auto* record : {&under_way, &waiting}) {
    shards.run([](core::awaitable<core::Result<Appended>> append) -> core::awaitable<void> {
      using namespace boost::asio::experimental::awaitable_operators;
      boost::asio::steady_timer leaves(co_await boost::asio::this_coro::executor, std::chrono::milliseconds(20));
      auto first = co_await (std::move(append) || leaves.async_wait(boost::asio::use_awaitable));
      EXPECT_EQ(first.index(), 1u) << "answered before it was stored";
    }(store->append(*record, {})));
  }
  gate->release();
  EXPECT_EQ(wait(store->append(under_way, {})).value(), Appended::duplicate);
  EXPECT_EQ(wait(store->append(waiting, {})).value(), Appended::stored) << "nobody waited for it any more";
  EXPECT_EQ(count(options.collection), 2u);
}

TEST_F(MongoLogStoreTest, AFullPoolOfReadersIsOverloadedWithATimeToComeBack) {
  options.read_connections = 1;
  options.read_queue_limit = 2;
  auto store = open();
  gate->hold("find", options.collection);
  std::vector<std::future<core::Result<core::LogPage>>> callers;
  for (int i = 0; i < 4; ++i) {
    callers.push_back(start(store->list({}, {})));
    if (i == 0) gate->wait_until_held(1);
  }
  auto refused = callers.back().get();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::overloaded);
  EXPECT_TRUE(refused.error().retry_after);
  gate->release();
  callers.pop_back();
  for (auto& caller : callers) EXPECT_TRUE(caller.get());
}

TEST_F(MongoLogStoreTest, UntilItIsReachedItIsUnavailableAtOnceWithTheReason) {
  std::vector<std::string> told;
  std::mutex mutex;
  options.on_health = [&](const core::Error* why) {
    std::lock_guard lock(mutex);
    told.push_back(why ? why->message : "well");
  };
  gate->answer("ping", "", R"({"ok": 0.0, "code": 18, "errmsg": "Authentication failed."})");
  auto store = open_unready();
  ASSERT_TRUE(eventually([&] { return wait(store->append(entry(), {})).error().message == "MongoDB refuses the user or the password"; }));
  EXPECT_EQ(wait(store->list({}, {})).error().kind, ErrorKind::unavailable);
  EXPECT_EQ(wait(store->accounts({})).error().kind, ErrorKind::unavailable);
  gate->heal();
  ASSERT_TRUE(store->wait_until_ready(std::chrono::seconds(20)));
  EXPECT_TRUE(wait(store->append(entry(), {})));
  store.reset();
  EXPECT_EQ(told, (std::vector<std::string>{"MongoDB refuses the user or the password", "well"}));
}

TEST_F(MongoLogStoreTest, ANameThatDnsDoesNotKnowYetIsWaitedFor) {
  options.uri = "mongodb+srv://admin:password@logs.mongo.invalid/";
  auto store = open_unready();
  ASSERT_TRUE(eventually([&] { return wait(store->append(entry(), {})).error().message == "MongoDB's name can't be resolved"; }));
  EXPECT_EQ(wait(store->list({}, {})).error().kind, ErrorKind::unavailable);
}

TEST_F(MongoLogStoreTest, WhatOneDocumentIsRefusedForIsItsOwn) {
  options.write_connections = 1;
  auto store = open();
  // As a server with a validator says it.
  gate->answer("insert", options.collection,
               R"({"ok": 1.0, "n": 0, "writeErrors": [{"index": 0, "code": 121, "errmsg": "Document failed validation"}]})");
  auto refused = wait(store->append(entry(), {}));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::invalid_argument);
  EXPECT_EQ(refused.error().message.find("121"), std::string::npos) << "the server's words are for the log";
  gate->answer("insert", options.collection, R"({"ok": 1.0, "n": 1, "writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}})");
  auto unconfirmed = wait(store->append(entry(), {}));
  EXPECT_EQ(unconfirmed.error().kind, ErrorKind::unavailable);
  EXPECT_EQ(unconfirmed.error().sent, core::Sent::maybe);
  gate->answer("insert", options.collection, R"({"ok": 0.0, "code": 10107, "errmsg": "not primary"})");
  EXPECT_EQ(wait(store->append(entry(), {})).error().kind, ErrorKind::unavailable);
}

TEST_F(MongoLogStoreTest, WritesAskForTheMajorityAndTheJournal) {
  auto store = open();
  ASSERT_TRUE(wait(store->append(entry(), {})));
  const auto statement = gate->statements("insert", options.collection).front();
  EXPECT_NE(statement.find(R"("w" : "majority")"), std::string::npos) << statement;
  EXPECT_NE(statement.find(R"("j" : true)"), std::string::npos) << statement;
  EXPECT_NE(statement.find(R"("ordered" : false)"), std::string::npos) << statement;
}

TEST_F(MongoLogStoreTest, ATextIndexIsMadeAndUsedWhereTheServerCan) {
  gate->answer("listIndexes", options.collection,
               R"({"ok": 1.0, "cursor": {"id": {"$numberLong": "0"}, "ns": "x.logs", "firstBatch": [{"v": 2, "name": "flexi_text", "key": {"_fts": "text", "_ftsx": 1},
                   "weights": {"name": 1, "data": 1}}]}})");
  auto store = open();
  ASSERT_TRUE(eventually([&] { return gate->asked("listIndexes", options.collection) > 0; }));
  // FerretDB knows no $text: that it refuses it shows that it was asked.
  ASSERT_TRUE(eventually([&] {
    (void)wait(store->list({.q = "some words"}, {}));
    auto all = gate->statements("find", options.collection);
    return !all.empty() && all.back().find(R"("$text" : { "$search" : "\"some\" \"words\"" })") != std::string::npos;
  }));
  gate->answer("find", options.collection, R"({"ok": 0.0, "code": 27, "errmsg": "text index required for $text query"})");
  auto found = wait(store->list({.q = "some words"}, {}));
  EXPECT_FALSE(found) << "the gate says so to whatever is asked";
  EXPECT_EQ(gate->statements("find", options.collection).back().find("$text"), std::string::npos) << "without the index it is matched entry by entry";
}

TEST_F(MongoLogStoreTest, IndexesAreMadeInTheBackground) {
  auto store = open();
  ASSERT_TRUE(eventually([&] {
    Bson command;
    command.text("listIndexes", options.collection);
    std::set<std::string> names;
    (void)direct->session().command(command, [&](Fields reply) {
      reply.with("cursor", [&](Fields cursor) { cursor.for_each("firstBatch", [&](const char*, Fields index) { names.insert(index.shown("name")); }); });
    });
    return names.contains("created_at_-1_created_us_-1__id_-1") && names.contains("name_1_created_at_-1_created_us_-1__id_-1") && names.contains("trace_id_1") &&
           names.contains("seq_1");
  }));
}

TEST_F(MongoLogStoreTest, RetentionRemovesWhatIsOldWhoeverWroteItAndHidesItBefore) {
  {
    auto store = open();
    for (int i = 0; i < 5; ++i) {
      auto old = entry(core::MessageId::generate(), "old");
      old.created_at -= std::chrono::hours(2);
      ASSERT_TRUE(wait(store->append(old, {})));
    }
    ASSERT_TRUE(wait(store->append(entry(core::MessageId::generate(), "new"), {})));
  }
  std::vector<Bson> others(2);
  others[0].id("_id", ObjectId::generate()).text("name", "of another").date("created_at", 1'700'000'000'000);
  others[1].id("_id", ObjectId::generate()).text("name", "without a time");
  write(std::move(others));
  options.retention = std::chrono::hours(1);
  auto store = open();
  auto page = wait(store->list({}, {})).value();
  EXPECT_EQ(page.records.size(), 2u) << "before they are gone";
  EXPECT_GT(wait(store->known({}, {})).value().kept_since, std::chrono::system_clock::now() - std::chrono::hours(1) - std::chrono::minutes(1));
  EXPECT_TRUE(eventually([&] { return count(options.collection) == 2; }));
}

}  // namespace
}  // namespace flexi::stores::mongo
