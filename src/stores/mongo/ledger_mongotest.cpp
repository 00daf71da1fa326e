// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <map>

#include "core/timestamp.hpp"
#include "stores/mongo/document.hpp"
#include "stores/mongo/ledger.hpp"
#include "stores/mongo/mongo_fixture.hpp"

namespace flexi::stores::mongo {
namespace {

using core::Appended;
using Cut = flexi::testing::MongoGate::Cut;

struct MongoLedgerTest : MongoTest {
  core::Account account(MongoLogStore& store) {
    auto accounts = wait(store.accounts({}));
    if (!accounts) throw std::runtime_error(accounts.error().message + ": " + accounts.error().detail);
    EXPECT_EQ(accounts.value().size(), 1u);
    return accounts.value().front();
  }
  core::LedgerLine line(MongoLogStore& store, const std::string& way) {
    for (auto& line : account(store).lines)
      if (line.way == way) return line;
    return {.action = "log", .way = way};
  }
  /// What every reader must find, whoever wrote.
  void expect_line(MongoLogStore& store, const std::string& way, std::int64_t accepted, std::int64_t stored, std::int64_t duplicates) {
    auto found = line(store, way);
    EXPECT_EQ(found.action, "log");
    EXPECT_EQ(found.accepted, accepted) << way;
    EXPECT_EQ(found.stored, stored) << way;
    EXPECT_EQ(found.duplicates, duplicates) << way;
  }
  static core::LogRecord by(core::Via via, bool published = false, core::MessageId id = core::MessageId::generate()) {
    auto record = entry(std::move(id));
    record.via = via;
    record.published = published;
    return record;
  }
};

TEST_F(MongoLedgerTest, CountsWhatWasStoredByTheWayItCame) {
  auto store = open();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(wait(store->append(by(core::Via::http), {})));
  ASSERT_TRUE(wait(store->append(by(core::Via::amqp, true), {})));
  ASSERT_TRUE(wait(store->append(by(core::Via::automatic), {})));
  expect_line(*store, "http", 3, 3, 0);
  expect_line(*store, "amqp", 0, 1, 0);
  expect_line(*store, "inproc", 1, 1, 0);
  EXPECT_EQ(store->source_name(), "mongodb");
}

TEST_F(MongoLedgerTest, ARepetitionIsADuplicateAndAnotherAcceptanceIsTakenOffOnce) {
  auto store = open();
  const auto first = by(core::Via::http);
  ASSERT_TRUE(wait(store->append(first, {})));
  EXPECT_EQ(wait(store->append(first, {})).value(), Appended::duplicate);
  expect_line(*store, "http", 1, 1, 1);
  // Accepted once more by a queue that counts for itself, and delivered three times.
  const auto again = by(core::Via::amqp, true, first.id);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(wait(store->append(again, {})).value(), Appended::duplicate);
  expect_line(*store, "amqp", -1, 0, 3);
  auto third = again;
  third.created_at += std::chrono::seconds(1);
  for (int i = 0; i < 2; ++i) EXPECT_EQ(wait(store->append(third, {})).value(), Appended::duplicate);
  EXPECT_EQ(wait(store->append(again, {})).value(), Appended::duplicate);
  expect_line(*store, "amqp", -2, 0, 6);
  EXPECT_EQ(wait(store->find(first.id, {})).value().duplicates, 7u);
  EXPECT_EQ(wait(store->append(entry(first.id, "n", "another payload"), {})).error().kind, core::ErrorKind::conflict);
  expect_line(*store, "http", 1, 1, 1);
}

TEST_F(MongoLedgerTest, IsTheSameAfterARestartAndHasItsNameFromTheDatabase) {
  std::string book;
  for (int round = 1; round <= 3; ++round) {
    auto store = open();
    const auto record = by(core::Via::http);
    ASSERT_TRUE(wait(store->append(record, {})));
    ASSERT_TRUE(wait(store->append(record, {})));
    expect_line(*store, "http", round, round, round);
    auto now = account(*store).book;
    EXPECT_TRUE(book.empty() || book == now);
    book = now;
  }
  EXPECT_EQ(count(options.collection + "_ledger"), 2u) << "the book, and one slot that each of them freed";
}

TEST_F(MongoLedgerTest, ReplicasHaveOneBookAndEachSeesWhatAllHaveStored) {
  auto one = open(), two = open();
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(wait(one->append(by(core::Via::http), {})));
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(wait(two->append(by(core::Via::http), {})));
  const auto shared = by(core::Via::grpc);
  ASSERT_TRUE(wait(one->append(shared, {})));
  EXPECT_EQ(wait(two->append(shared, {})).value(), Appended::duplicate);
  for (auto* store : {one.get(), two.get()}) {
    expect_line(*store, "http", 7, 7, 0);
    expect_line(*store, "grpc", 1, 1, 1);
  }
  EXPECT_EQ(account(*one).book, account(*two).book);
}

TEST_F(MongoLedgerTest, WhatAProcessThatDiedHasStoredIsCountedAndItsSlotIsFreed) {
  options.abandoned_after = std::chrono::milliseconds(400);
  auto store = open();
  {
    // As a process that was killed: it has a slot, has written, and tells nobody.
    Ledger gone(direct_options);
    auto session = direct->session();
    ASSERT_TRUE(gone.keep(session));
    const auto range = gone.take(10);
    std::vector<Bson> documents;
    for (int i = 0; i < 7; ++i) {
      auto record = by(i < 5 ? core::Via::http : core::Via::amqp, i >= 5);
      documents.push_back(to_document(record, place_of(record.id, 0), range.first + i));
    }
    write(std::move(documents));
    std::vector<Bson> repeats(1);
    repeats[0].id("_id", ObjectId::generate()).text("via", "amqp").boolean("off", true).integer("seq", range.first + 8);
    ASSERT_TRUE(session.insert(gone.repeats(), repeats).refused.empty());
  }
  const auto expect = [&] {
    expect_line(*store, "http", 5, 5, 0);
    expect_line(*store, "amqp", -1, 2, 1);
  };
  expect();
  ASSERT_TRUE(eventually([&] {
    std::size_t free = 0;
    EXPECT_TRUE(direct->session().find(options.collection + "_ledger", Bson(), {}, [&](Fields slot) { return free += slot.boolean("free").value_or(false), Next::more; }));
    return free == 1;
  }));
  expect();
  auto next = open();  // takes the slot that was freed
  ASSERT_TRUE(wait(next->append(by(core::Via::http), {})));
  expect_line(*next, "http", 6, 6, 0);
  expect_line(*store, "http", 6, 6, 0);
}

TEST_F(MongoLedgerTest, AProcessThatWasAwayTooLongWritesNothingUntilItHasASlotAgain) {
  options.abandoned_after = std::chrono::milliseconds(300);
  auto store = open();
  ASSERT_TRUE(wait(store->append(by(core::Via::http), {})));
  // It is cut off from the ledger while another, which is not, closes its slot.
  gate->hold("update", options.collection + "_ledger");
  gate->hold("ping");
  auto other_options = options;
  other_options.uri = flexi::testing::MongoDb::url();
  auto other = MongoLogStore::open(other_options, runtime::LogSink::none(), metrics).value();
  ASSERT_TRUE(other->wait_until_ready(std::chrono::seconds(20)));
  ASSERT_TRUE(eventually([&] {
    bool freed = false;
    EXPECT_TRUE(direct->session().find(options.collection + "_ledger", Bson(), {}, [&](Fields slot) { return freed = freed || slot.boolean("free").value_or(false), Next::more; }));
    return freed;
  }));
  auto refused = wait(store->append(by(core::Via::http), {}));
  EXPECT_EQ(refused.error().kind, core::ErrorKind::unavailable);
  EXPECT_EQ(count(options.collection), 1u);
  gate->heal();
  ASSERT_TRUE(eventually([&] { return bool(wait(store->append(by(core::Via::http), {}))); }));
  expect_line(*store, "http", 2, 2, 0);
  expect_line(*other, "http", 2, 2, 0);
}

TEST_F(MongoLedgerTest, WhatBrokeOffIsCountedWhenItIsThereAndNotWhenItIsNot) {
  auto store = open();
  for (auto how : {Cut::before, Cut::after}) {
    gate->cut("insert", options.collection, how);
    EXPECT_FALSE(wait(store->append(by(core::Via::http), {})));
    ASSERT_TRUE(eventually([&] { return bool(store->wait_until_ready({})); }));
  }
  EXPECT_EQ(count(options.collection), 1u);
  expect_line(*store, "http", 1, 1, 0);
  ASSERT_TRUE(wait(store->append(by(core::Via::http), {})));
  expect_line(*store, "http", 2, 2, 0);
  store.reset();
  store = open();
  expect_line(*store, "http", 2, 2, 0);
}

TEST_F(MongoLedgerTest, WhatRetentionRemovesStaysCounted) {
  options.retention = std::chrono::hours(1);
  std::unique_ptr<MongoLogStore> store = open();
  for (int i = 0; i < 5; ++i) {
    auto old = by(core::Via::http);
    old.created_at -= std::chrono::hours(2);
    ASSERT_TRUE(wait(store->append(old, {})));
  }
  expect_line(*store, "http", 5, 5, 0);
  store = open();  // the first has stored its checkpoint
  EXPECT_TRUE(eventually([&] { return count(options.collection) == 0; }));
  expect_line(*store, "http", 5, 5, 0);
}

}  // namespace
}  // namespace flexi::stores::mongo
