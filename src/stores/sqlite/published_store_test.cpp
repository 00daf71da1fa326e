// SPDX-License-Identifier: Apache-2.0
#include "stores/sqlite/published_store.hpp"

#include <gtest/gtest.h>

#include "stores/sqlite/store_fixture.hpp"

namespace flexi::stores::sqlite {
namespace {

using namespace std::chrono_literals;
using core::MessageId, core::Noted, core::Published;
using State = core::Published::State;

MessageId id(std::string_view text) { return MessageId::parse(text).value(); }
core::Timestamp at(int seconds) { return core::Timestamp(std::chrono::seconds(1'795'000'000 + seconds)); }

struct PublishedStoreTest : testing::Test, StoreFixture {
  PublishedStoreTest() { reopen(); }
  ~PublishedStoreTest() override { shut(); }
  void shut() {
    store.reset();
    book.reset();
    close();
  }
  void reopen() {
    shut();
    open();
    book = std::move(runtime::sqlite::LedgerBook::open(database()).value());
    store = std::move(SqlitePublishedStore::open(database(), options, *book).value());
  }
  Noted note(std::string_view name, std::string action = "log", int second = 0) {
    Published message{.action = std::move(action), .id = id(name), .accepted_at = at(second - 5), .noted_at = at(second)};
    return wait(store->note(std::move(message), {})).value();
  }
  std::string names(core::PublishedQuery query = {}) {
    std::string all;
    const auto rows = wait(store->list(query, {})).value();
    for (auto& row : rows) all += row.id.str() + " ";
    return all;
  }
  core::PublishedCount count(std::string_view action, core::Timestamp before = at(0)) {
    const auto counts = wait(store->count(before, {})).value();
    for (auto& one : counts)
      if (one.action == action) return one;
    return {};
  }
  void forget(std::string_view name) { EXPECT_TRUE(wait(store->forget("log", {id(name)}, {}))); }
  void mark(std::string_view name, State state, int second) {
    EXPECT_TRUE(wait(store->mark("log", {id(name), id("nobody")}, state, at(second), {})));
  }

  PublishedStoreOptions options;
  std::unique_ptr<runtime::sqlite::LedgerBook> book;
  std::unique_ptr<SqlitePublishedStore> store;
};

TEST_F(PublishedStoreTest, KeepsEachMessageOnceAlsoOverARestart) {
  EXPECT_EQ(note("a"), Noted::added);
  EXPECT_EQ(note("a"), Noted::known);
  EXPECT_EQ(note("a", "mail"), Noted::added) << "an id is one message per action";
  reopen();
  EXPECT_EQ(note("a"), Noted::known);
  auto rows = wait(store->find(id("a"), {})).value();
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].action, "log");
  EXPECT_EQ(rows[0].accepted_at, at(-5));
  EXPECT_EQ(rows[0].noted_at, at(0));
  EXPECT_EQ(rows[0].state, State::under_way);
  EXPECT_EQ(rows[1].action, "mail");
  forget("a");
  EXPECT_EQ(wait(store->find(id("a"), {})).value().size(), 1u);
  EXPECT_EQ(wait(store->find(id("b"), {})).value().size(), 0u);
}

TEST_F(PublishedStoreTest, ListsByOrderAgeAndState) {
  int second = 0;
  for (auto name : {"c", "a", "b", "d"}) note(name, "log", second++);
  EXPECT_EQ(names(), "c a b d ");
  EXPECT_EQ(names({.limit = 2}), "c a ");
  const auto last = wait(store->list({.limit = 2}, {})).value().back().seq;
  EXPECT_EQ(names({.after = last}), "b d ");
  EXPECT_EQ(names({.before = at(2)}), "c a ");
  mark("a", State::dead, 10);
  mark("d", State::gone, 11);
  EXPECT_EQ(names({.state = State::dead}), "a ");
  EXPECT_EQ(names({.state = State::gone}), "d ");
  EXPECT_EQ(names({.state = State::gone, .before = at(11)}), "");
  EXPECT_EQ(names({.state = State::under_way}), "c b ");
}

TEST_F(PublishedStoreTest, CountsByActionAndState) {
  for (auto name : {"a", "b", "c", "d"}) note(name, "log", *name - 'a');
  note("m", "mail", 0);
  mark("a", State::dead, 10);
  mark("b", State::gone, 10);
  auto logs = count("log", at(3));
  EXPECT_EQ(logs.under_way, 2);
  EXPECT_EQ(logs.dead, 1);
  EXPECT_EQ(logs.gone, 1);
  EXPECT_EQ(logs.old, 1);
  EXPECT_EQ(count("mail", at(3)).old, 1);
  mark("a", State::dead, 20);
  EXPECT_EQ(wait(store->find(id("a"), {})).value().at(0).noted_at, at(10)) << "it was in this state already";
  mark("a", State::under_way, 20);
  EXPECT_EQ(wait(store->find(id("a"), {})).value().at(0).noted_at, at(20));
}

TEST_F(PublishedStoreTest, WhatIsDiscardedIsCountedInTheSameStep) {
  note("a"), note("b");
  EXPECT_TRUE(wait(store->discard("log", {id("a"), id("nobody")}, {})));
  EXPECT_TRUE(wait(store->discard("log", {id("a")}, {}))) << "once";
  EXPECT_EQ(names(), "b ");
  reopen();
  const auto accounts = wait(book->accounts({})).value();
  ASSERT_EQ(accounts.at(0).lines.size(), 1u);
  const auto& line = accounts[0].lines[0];
  EXPECT_EQ(line.action, "log");
  EXPECT_EQ(line.way, "amqp");
  EXPECT_EQ(line.accepted, 1);
  EXPECT_EQ(line.discarded, 1);
  EXPECT_EQ(line.unaccounted(), 0);
}

TEST_F(PublishedStoreTest, NotesAreBounded) {
  options.max_messages = 2;
  reopen();
  EXPECT_EQ(note("a"), Noted::added);
  EXPECT_EQ(note("b"), Noted::added);
  EXPECT_EQ(note("c"), Noted::full);
  reopen();
  EXPECT_EQ(note("c"), Noted::full);
  forget("a");
  EXPECT_EQ(note("c"), Noted::added);
  EXPECT_EQ(names(), "b c ");
  options.max_messages = -1;
  EXPECT_EQ(options.validate().size(), 1u);
}

TEST_F(PublishedStoreTest, ThousandsAtOnce) {
  std::vector<MessageId> all;
  for (int i = 0; i < 1000; ++i) all.push_back(id("m" + std::to_string(i))), note(all.back().str(), "log", i);
  EXPECT_TRUE(wait(store->mark("log", all, State::dead, at(0), {})));
  EXPECT_EQ(count("log").dead, 1000);
  EXPECT_TRUE(wait(store->forget("log", all, {})));
  EXPECT_TRUE(wait(store->forget("log", {}, {})));
  EXPECT_EQ(names(), "");
}

}  // namespace
}  // namespace flexi::stores::sqlite
