// SPDX-License-Identifier: Apache-2.0
#include "services/listener/joined_dead_letters.hpp"

#include <gtest/gtest.h>

#include "runtime/shards.hpp"

namespace flexi::services::listener {
namespace {

using core::Result;

/// Letters "<name>0" … in memory; pages by position.
class Place final : public core::DeadLetters {
 public:
  Place(std::string name, int count) {
    for (int i = 0; i < count; ++i) letters.push_back(name + std::to_string(i));
  }
  std::vector<std::string> letters;
  std::string action = "log";
  bool down = false;

  core::awaitable<Result<core::DeadLetterPage>> list(unsigned limit, std::string cursor, core::CallContext) override {
    if (down) co_return core::unavailable("down");
    core::DeadLetterPage page;
    std::size_t at = cursor.empty() ? 0 : std::stoul(cursor);
    for (; at < letters.size() && page.letters.size() < limit; ++at) page.letters.push_back({.id = core::MessageId::from_key(letters[at], "").value()});
    if (at < letters.size()) page.next = std::to_string(at);
    co_return page;
  }
  core::awaitable<Result<core::DeadLetter>> get(core::DeadLetterKey key, core::CallContext) override {
    if (down) co_return core::unavailable("down");
    for (auto& letter : letters)
      if (letter == key.id.str() && (key.action.empty() || key.action == action)) co_return core::DeadLetter{.id = key.id, .action = action};
    co_return core::not_found("none");
  }
  core::awaitable<Result<void>> replay(core::DeadLetterKey key, core::CallContext context) override { return discard(key, context); }
  core::awaitable<Result<void>> discard(core::DeadLetterKey key, core::CallContext) override {
    if (down) co_return core::unavailable("down");
    if ((!key.action.empty() && key.action != action) || std::erase(letters, key.id.str()) == 0) co_return core::not_found("none");
    co_return core::ok();
  }
  core::awaitable<Result<core::DeadLettersSwept>> sweep(core::DeadLetterSweep, core::CallContext) override {
    if (down) co_return core::unavailable("down");
    core::DeadLettersSwept swept{.letters = std::min<std::size_t>(letters.size(), 4)};
    letters.resize(letters.size() - swept.letters);
    swept.more = !letters.empty();
    co_return swept;
  }
};

class JoinedDeadLettersTest : public ::testing::Test {
 protected:
  Place queue{"q", 5}, spool{"s", 3};
  JoinedDeadLetters joined{{queue, spool}};
  runtime::Shards shards{1};
  template <class T>
  T run(core::awaitable<T> work) {
    std::optional<T> result;
    shards.run(keep(std::move(work), result));
    return std::move(*result);
  }
  template <class T>
  static core::awaitable<void> keep(core::awaitable<T> work, std::optional<T>& result) {
    result.emplace(co_await std::move(work));
  }
  static core::MessageId id(const char* text) { return core::MessageId::from_key(text, "").value(); }
};

TEST_F(JoinedDeadLettersTest, EveryPageSizeListsEachLetterOnce) {
  for (unsigned limit = 1; limit <= 9; ++limit) {
    std::vector<std::string> seen;
    std::string cursor;
    do {
      auto page = run(joined.list(limit, cursor, {}));
      ASSERT_TRUE(page) << page.error().message;
      ASSERT_LE(page.value().letters.size(), limit);
      for (auto& letter : page.value().letters) seen.push_back(letter.id.str());
      cursor = page.value().next;
    } while (!cursor.empty());
    EXPECT_EQ(seen, (std::vector<std::string>{"q0", "q1", "q2", "q3", "q4", "s0", "s1", "s2"})) << limit;
  }
}

TEST_F(JoinedDeadLettersTest, ACursorOfNoPageIsRefused) {
  for (std::string cursor : {"x", "7/", "/", "1", "-1/"}) {
    auto page = run(joined.list(5, cursor, {}));
    ASSERT_FALSE(page) << cursor;
    EXPECT_EQ(page.error().kind, core::ErrorKind::invalid_argument) << cursor;
  }
}

TEST_F(JoinedDeadLettersTest, ALetterIsFoundWhereverItIs) {
  EXPECT_TRUE(run(joined.get(id("s1"), {})));
  ASSERT_TRUE(run(joined.discard(id("s1"), {})));
  EXPECT_EQ(spool.letters.size(), 2u);
  EXPECT_EQ(queue.letters.size(), 5u);
  EXPECT_EQ(run(joined.get(id("s1"), {})).error().kind, core::ErrorKind::not_found);
}

TEST_F(JoinedDeadLettersTest, APlaceThatCantBeAskedHidesNoLetterAndIsNotAnAbsence) {
  queue.down = true;
  EXPECT_TRUE(run(joined.get(id("s1"), {})));
  EXPECT_EQ(run(joined.get(id("nowhere"), {})).error().kind, core::ErrorKind::unavailable);
}

TEST_F(JoinedDeadLettersTest, LettersOfSeveralActionsUnderOneIdAreToldApart) {
  spool.action = "mail";
  spool.letters = queue.letters = {"one"};
  EXPECT_EQ(run(joined.get(id("one"), {})).error().kind, core::ErrorKind::conflict);
  const auto ambiguous = run(joined.discard(id("one"), {}));
  ASSERT_FALSE(ambiguous);
  EXPECT_EQ(ambiguous.error().kind, core::ErrorKind::conflict);
  EXPECT_NE(ambiguous.error().message.find("log, mail"), std::string::npos) << ambiguous.error().message;
  EXPECT_EQ(run(joined.replay(id("one"), {})).error().kind, core::ErrorKind::conflict);
  ASSERT_TRUE(run(joined.discard({id("one"), "mail"}, {})));
  EXPECT_TRUE(spool.letters.empty());
  EXPECT_EQ(queue.letters.size(), 1u);
  EXPECT_TRUE(run(joined.replay(id("one"), {})));
}

TEST_F(JoinedDeadLettersTest, OneActionInBothPlacesIsNotAmbiguous) {
  spool.letters = queue.letters = {"one"};
  EXPECT_EQ(run(joined.get(id("one"), {})).value().action, "log");
  EXPECT_TRUE(run(joined.discard(id("one"), {})));
}

TEST_F(JoinedDeadLettersTest, WhatCanBeAskedIsListedAndWhatCanNotIsSaid) {
  const auto listed = [&](std::string cursor) { return run(joined.list(2, std::move(cursor), {})); };
  EXPECT_EQ(listed("").value().missing, "");
  queue.down = true;
  auto page = listed("").value();
  ASSERT_EQ(page.letters.size(), 2u);
  EXPECT_EQ(page.letters[0].id.str(), "s0");
  EXPECT_EQ(page.missing, "down");
  EXPECT_EQ(listed(page.next).value().letters.at(0).id.str(), "s2");
  EXPECT_EQ(listed("0/2").value().letters.at(0).id.str(), "s0") << "away in the middle of its letters";
  queue.down = false, spool.down = true;
  std::string cursor;
  do {
    page = listed(cursor).value();
    cursor = page.next;
  } while (!cursor.empty());
  EXPECT_EQ(page.letters.size(), 1u);
  EXPECT_EQ(page.missing, "down");
  queue.down = true;
  EXPECT_EQ(listed("").error().kind, core::ErrorKind::unavailable);
  spool.down = false, spool.letters.clear();
  EXPECT_EQ(listed("").error().kind, core::ErrorKind::unavailable) << "none to show is not none";
  EXPECT_EQ(listed("1/").value().letters.size(), 0u) << "what could be asked had its turn";
}

TEST_F(JoinedDeadLettersTest, ASweepGoesThroughEveryPlace) {
  auto swept = run(joined.sweep({}, {}));
  ASSERT_TRUE(swept);
  EXPECT_EQ(swept.value().letters, 7u);
  EXPECT_TRUE(swept.value().more) << "one of the queue's";
  swept = run(joined.sweep({}, {}));
  EXPECT_EQ(swept.value().letters, 1u);
  EXPECT_FALSE(swept.value().more);
  spool.letters = {"s"};
  queue.down = true;
  EXPECT_EQ(run(joined.sweep({}, {})).error().kind, core::ErrorKind::unavailable);
  EXPECT_TRUE(spool.letters.empty()) << "swept all the same";
}

}  // namespace
}  // namespace flexi::services::listener
