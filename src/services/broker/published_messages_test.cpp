// SPDX-License-Identifier: Apache-2.0
#include "services/broker/published_messages.hpp"

#include <gtest/gtest.h>

#include "runtime/shards.hpp"
#include "services/broker/broker_fixture.hpp"

namespace flexi::services::broker {
namespace {

using namespace std::chrono_literals;
using core::LedgerLine;
using core::MessageId;
using core::Noted;
using core::Published;
using core::Receipt;
using core::Result;
using State = core::Published::State;

MessageId id_of(std::string_view text) { return MessageId::parse(text).value(); }

/// Notes in memory, as the port asks of them.
class MemoryNotes final : public core::PublishedStore {
 public:
  core::awaitable<Result<Noted>> note(Published message, core::CallContext) override {
    if (hangs) {
      boost::asio::steady_timer never(co_await boost::asio::this_coro::executor, boost::asio::steady_timer::time_point::max());
      co_await never.async_wait(boost::asio::use_awaitable);
    }
    if (down) co_return core::unavailable("the disk is full");
    if (rows.size() >= most) co_return Noted::full;
    for (auto& row : rows)
      if (row.id == message.id && row.action == message.action) co_return Noted::known;
    message.seq = ++seq;
    rows.push_back(std::move(message));
    co_return Noted::added;
  }
  core::awaitable<Result<std::vector<Published>>> list(core::PublishedQuery query, core::CallContext) override {
    if (down) co_return core::unavailable("the disk is full");
    std::vector<Published> found;
    for (auto& row : rows)
      if ((!query.state || row.state == *query.state) && row.seq > query.after && row.noted_at < query.before && found.size() < query.limit)
        found.push_back(row);
    co_return found;
  }
  core::awaitable<Result<std::vector<Published>>> find(MessageId id, core::CallContext) override {
    std::vector<Published> found;
    std::copy_if(rows.begin(), rows.end(), std::back_inserter(found), [&](auto& row) { return row.id == id; });
    co_return found;
  }
  core::awaitable<Result<void>> forget(std::string action, std::vector<MessageId> ids, core::CallContext) override {
    remove(action, ids);
    co_return core::ok();
  }
  core::awaitable<Result<void>> mark(std::string action, std::vector<MessageId> ids, State state, core::Timestamp now, core::CallContext) override {
    for (auto& row : rows)
      if (row.action == action && row.state != state && std::find(ids.begin(), ids.end(), row.id) != ids.end()) row.state = state, row.noted_at = now;
    co_return core::ok();
  }
  core::awaitable<Result<void>> discard(std::string action, std::vector<MessageId> ids, core::CallContext) override {
    discarded += remove(action, ids);
    co_return core::ok();
  }
  core::awaitable<Result<std::vector<core::PublishedCount>>> count(core::Timestamp old_before, core::CallContext) override {
    std::map<std::string, core::PublishedCount> counts;
    for (auto& row : rows) {
      auto& count = counts[row.action];
      count.action = row.action;
      (row.state == State::dead ? count.dead : row.state == State::gone ? count.gone : count.under_way) += 1;
      count.old += row.state == State::under_way && row.noted_at < old_before;
    }
    std::vector<core::PublishedCount> all;
    for (auto& [action, count] : counts) all.push_back(count);
    co_return all;
  }
  std::size_t remove(const std::string& action, const std::vector<MessageId>& ids) {
    const std::set<MessageId> wanted(ids.begin(), ids.end());
    return std::erase_if(rows, [&](auto& row) { return row.action == action && wanted.contains(row.id); });
  }
  std::vector<Published> rows;
  std::atomic<std::size_t> most{1'000'000}, discarded{0};
  std::int64_t seq = 0;
  std::atomic<bool> down{false}, hangs{false};
};

class MemoryLetters final : public core::DeadLetters {
 public:
  core::awaitable<Result<core::DeadLetterPage>> list(unsigned limit, std::string, core::CallContext) override {
    ++listed;
    core::DeadLetterPage page{letters, {}};
    if (page.letters.size() > limit) page.letters.resize(limit), page.next = "more";
    co_return page;
  }
  static bool means(const core::DeadLetterKey& key, const core::DeadLetter& letter) {
    return letter.id == key.id && (key.action.empty() || letter.action == key.action);
  }
  core::awaitable<Result<core::DeadLetter>> get(core::DeadLetterKey key, core::CallContext) override {
    for (auto& letter : letters)
      if (means(key, letter)) co_return letter;
    co_return core::not_found("no dead letter with this id");
  }
  core::awaitable<Result<void>> replay(core::DeadLetterKey key, core::CallContext context) override {
    return discard(std::move(key), std::move(context));
  }
  core::awaitable<Result<void>> discard(core::DeadLetterKey key, core::CallContext) override {
    if (std::erase_if(letters, [&](auto& letter) { return means(key, letter); }) == 0) co_return core::not_found("no dead letter with this id");
    co_return core::ok();
  }
  core::awaitable<Result<core::DeadLettersSwept>> sweep(core::DeadLetterSweep, core::CallContext) override {
    co_return core::DeadLettersSwept{.letters = std::exchange(letters, {}).size()};
  }
  void add(std::string_view id, std::string action = "log") { letters.push_back({.id = id_of(id), .action = std::move(action)}); }
  std::vector<core::DeadLetter> letters;
  int listed = 0;
};

/// RabbitMQ, the stores and the notes in memory; time is moved by hand.
struct PublishedMessagesTest : testing::Test {
  PublishedMessagesTest() {
    publisher.way = "amqp";
    make();
  }
  ~PublishedMessagesTest() override { finish(); }
  void finish() {
    if (messages) shards.run(messages->stop());
    messages.reset();
  }
  void make() {
    finish();
    messages.emplace(options, PublishedPorts{.publisher = publisher,
                                             .store = notes,
                                             .letters = letters,
                                             .sights = [this](core::CallContext) { return look(); },
                                             .executor = shards.executor(0),
                                             .log = runtime::LogSink::none(),
                                             .metrics = metrics,
                                             .now = [this] { return now; },
                                             .ticks = [this] { return ticks; }});
    std::map<std::string, PublishedMessages::Ask> asks;
    for (std::string action : {"log", "mail"})
      asks.emplace(action, [this, action](std::vector<MessageId> ids, core::CallContext) { return ask(action, std::move(ids)); });
    messages->start(asks, 1h);
    decorated.emplace(letters, *messages);
  }
  core::awaitable<Result<std::map<std::string, QueueSight>>> look() {
    if (blind) co_return core::unavailable("RabbitMQ is down");
    for (auto& [action, sight] : sights) {
      const auto its = [&](auto& letter) { return letter.action == action; };
      sight.dead = std::count_if(letters.letters.begin(), letters.letters.end(), its);
    }
    co_return sights;
  }
  core::awaitable<Result<core::KnownIds>> ask(std::string action, std::vector<MessageId> ids) {
    if (down.contains(action)) co_return core::unavailable("it is down");
    core::KnownIds known{.ids = {}, .kept_since = kept_since};
    for (auto& id : ids)
      if (stored.contains(action + " " + id.str())) known.ids.push_back(id);
    co_return known;
  }

  template <class T>
  T run(core::awaitable<T> work) {
    std::optional<T> result;
    auto store = [](core::awaitable<T> inner, std::optional<T>* out) -> core::awaitable<void> { out->emplace(co_await std::move(inner)); };
    shards.run(store(std::move(work), &result));
    return std::move(*result);
  }
  Result<core::Reply> publish(std::string_view id, std::string action = "log", std::optional<Ack> ack = Ack::accepted,
                              core::CallContext context = {}) {
    auto request = contract_request(std::move(action), Via::amqp, ack);
    request.id = id_of(id);
    request.accepted_at = now;
    auto answer = run(messages->handle(std::move(request), context));
    // Behind the answer: on the same thread, so a turn later.
    auto a_turn = []() -> core::awaitable<void> { co_return; };
    shards.run(a_turn());
    return answer;
  }
  void pass(std::chrono::seconds time) {
    now += time, ticks += time;
    shards.run(messages->reconcile(0ms, core::CallContext::with_timeout(10s)));
  }
  LedgerLine line(std::string_view action = "log") {
    auto accounts = run(messages->accounts({}));
    if (!accounts) return {.action = std::string(core::to_string(accounts.error().kind))};
    for (auto& one : accounts.value().at(0).lines)
      if (one.action == action) return one;
    return {};
  }
  std::string state(std::string_view id) {
    auto receipt = run(messages->find_receipt(id_of(id), {})).value();
    return receipt ? std::string(core::to_string(receipt->state)) : "nothing";
  }

  PublishedOptions options{.actions = {"log", "mail"}, .hold = 60s, .prefetch = 10};
  core::Timestamp now{std::chrono::seconds(1'795'000'000)};
  QueueWatch::Time ticks{1000s};
  ScriptedHandler publisher;
  MemoryNotes notes;
  MemoryLetters letters;
  std::map<std::string, QueueSight> sights{{"log", {}}, {"mail", {}}};
  std::set<std::string> stored, down;  ///< "action id"; actions
  core::Timestamp kept_since{};
  bool blind = false;
  runtime::Metrics metrics;
  runtime::Shards shards{1};
  std::optional<PublishedMessages> messages;
  std::optional<PublishedLetters> decorated;
};

TEST_F(PublishedMessagesTest, AMessageIsFollowedUntilItsStoreHasIt) {
  ASSERT_TRUE(publish("a"));
  auto receipt = run(messages->find_receipt(id_of("a"), {})).value();
  ASSERT_TRUE(receipt);
  EXPECT_EQ(receipt->state, Receipt::State::queued);
  EXPECT_EQ(receipt->where, "rabbitmq");
  EXPECT_EQ(receipt->way, "amqp");
  EXPECT_EQ(receipt->action, "log");
  EXPECT_EQ(receipt->accepted_at, now);
  auto read = line();
  EXPECT_EQ(read.way, "amqp");
  EXPECT_EQ(read.accepted, 1);
  EXPECT_EQ(read.in_flight, 1);
  stored.insert("log a");
  EXPECT_TRUE(line().empty()) << "who reads the ledger has its store asked before";
  EXPECT_EQ(state("a"), "nothing");
}

TEST_F(PublishedMessagesTest, OnlyWhatTheQueueAcceptedForAStoreThatCanBeAskedIsNoted) {
  ASSERT_TRUE(publish("a", "log", Ack::stored));
  ASSERT_TRUE(publish("a", "auth"));
  ASSERT_TRUE(publish("a", "invoice"));
  publisher.fail(core::unavailable("RabbitMQ is down"));
  EXPECT_FALSE(publish("b"));
  EXPECT_TRUE(notes.rows.empty());
  ASSERT_TRUE(publish("c", "mail"));
  ASSERT_TRUE(publish("c", "mail"));
  EXPECT_EQ(line("mail").accepted, 1) << "an id is one message";
}

TEST_F(PublishedMessagesTest, ANoteThatCannotBeWrittenChangesNothingForTheCaller) {
  notes.down = true;
  EXPECT_EQ(publish("a").value().way, "amqp");
  EXPECT_TRUE(publish("b"));
  EXPECT_EQ(metrics.counter("flexi_published_unnoted_total", "").value(), 2);
  notes.down = false, notes.hangs = true;
  EXPECT_TRUE(publish("c")) << "it is in RabbitMQ, however long the note takes";
  EXPECT_EQ(state("c"), "queued") << "which is known meanwhile";
  notes.hangs = false, notes.most = 1;
  EXPECT_TRUE(publish("d"));
  EXPECT_TRUE(publish("e"));
  EXPECT_EQ(metrics.counter("flexi_published_full_total", "").value(), 1);
  EXPECT_EQ(notes.rows.size(), 1u);
}

TEST_F(PublishedMessagesTest, WhileAStoreCannotBeAskedItsMessagesAreInFlight) {
  ASSERT_TRUE(publish("a"));
  ASSERT_TRUE(publish("m", "mail"));
  sights["log"].ready = 1;
  stored = {"log a", "mail m"};
  down = {"log"};
  pass(3600s);
  EXPECT_EQ(line().in_flight, 1);
  EXPECT_EQ(line().unaccounted(), 0);
  EXPECT_TRUE(line("mail").empty()) << "one that is down holds up no other";
  sights["log"].ready = 0;
  down.clear();
  EXPECT_TRUE(line().empty());
}

TEST_F(PublishedMessagesTest, WhatIsNowhereIsUnaccountedForOnceNobodyCanHaveItInHand) {
  ASSERT_TRUE(publish("a"));
  ASSERT_TRUE(publish("b"));
  stored.insert("log b");
  pass(10s);
  EXPECT_EQ(line().unaccounted(), 0);
  pass(59s);
  EXPECT_EQ(line().unaccounted(), 0);
  EXPECT_EQ(state("a"), "queued");
  pass(10s);
  EXPECT_EQ(line().unaccounted(), 1);
  EXPECT_EQ(line().accepted, 1);
  EXPECT_EQ(state("a"), "unknown");
  // A crash forgets what was seen of the queue, not the message.
  make();
  pass(0s);
  EXPECT_EQ(line().unaccounted(), 0);
  pass(61s);
  EXPECT_EQ(line().unaccounted(), 1);
  stored.insert("log a");
  EXPECT_TRUE(line().empty());
}

TEST_F(PublishedMessagesTest, MessagesOfOthersMayHideALossButNeverMakeOne) {
  sights["log"] = {.ready = 5, .consumers = 1};
  pass(1s);
  EXPECT_TRUE(line().empty());
  ASSERT_TRUE(publish("a"));
  for (int i = 0; i < 30; ++i) pass(10s);
  EXPECT_EQ(line().unaccounted(), 0) << "it may be one of the five, or in the consumer's hand";
  sights["log"].ready = 0;
  pass(10s);
  pass(61s);
  EXPECT_EQ(line().unaccounted(), 1);
  EXPECT_EQ(letters.listed, 0) << "there is no letter to look at";
}

TEST_F(PublishedMessagesTest, WithoutRabbitmqsWordOldOnesCannotBeToldFromLostOnes) {
  ASSERT_TRUE(publish("a"));
  blind = true;
  pass(10s);
  EXPECT_EQ(line().in_flight, 1) << "young";
  pass(60s);
  EXPECT_EQ(line().action, "unavailable");
  blind = false;
  pass(10s);
  EXPECT_EQ(line().in_flight, 1);
  EXPECT_EQ(line().unaccounted(), 0) << "what was before is not known";
}

TEST_F(PublishedMessagesTest, ADeadLetterIsDeadUntilItIsReplayed) {
  ASSERT_TRUE(publish("a"));
  ASSERT_TRUE(publish("b"));
  letters.add("a"), letters.add("foreign");
  stored.insert("log b");
  pass(3s);
  EXPECT_EQ(line().dead_lettered, 1);
  EXPECT_EQ(line().accepted, 1);
  EXPECT_EQ(state("a"), "nothing") << "who has the letter tells more";
  for (int i = 0; i < 20; ++i) pass(10s);
  EXPECT_EQ(letters.listed, 1) << "nothing changed";
  EXPECT_EQ(line().unaccounted(), 0);
  ASSERT_TRUE(run(decorated->replay(id_of("a"), {})));
  EXPECT_EQ(line().in_flight, 1);
  EXPECT_EQ(line().dead_lettered, 0);
  EXPECT_EQ(state("a"), "queued");
  letters.add("a");  // dies again
  pass(10s);
  EXPECT_EQ(line().dead_lettered, 1);
  EXPECT_FALSE(run(decorated->replay(id_of("nobody"), {})));
}

TEST_F(PublishedMessagesTest, ADiscardedLetterIsCounted) {
  ASSERT_TRUE(publish("a"));
  ASSERT_TRUE(publish("b"));
  letters.add("a"), letters.add("foreign");
  pass(3s);
  ASSERT_TRUE(run(decorated->discard(id_of("a"), {})));
  EXPECT_EQ(notes.discarded, 1u);
  EXPECT_EQ(line().accepted, 1);
  ASSERT_TRUE(run(decorated->discard(id_of("foreign"), {})));
  EXPECT_EQ(notes.discarded, 1u) << "what nobody here published is in no ledger";
  // Also before anybody has noticed that it is dead; the other message of this id lives on.
  ASSERT_TRUE(publish("b", "mail"));
  letters.add("b", "mail");
  ASSERT_TRUE(run(decorated->discard(id_of("b"), {})));
  EXPECT_EQ(notes.discarded, 2u);
  EXPECT_EQ(line().in_flight, 1);
  EXPECT_EQ(run(decorated->discard(id_of("b"), {})).error().kind, ErrorKind::not_found);
}

TEST_F(PublishedMessagesTest, WhoeverTookALetterOutDiscardedItUnlessItTurnsUp) {
  for (auto name : {"discarded", "replayed", "again"}) {
    ASSERT_TRUE(publish(name));
    letters.add(name);
  }
  pass(3s);
  EXPECT_EQ(line().dead_lettered, 3);
  letters.letters.clear();  // by another broker's operator
  pass(10s);
  EXPECT_EQ(line().dead_lettered, 0);
  EXPECT_EQ(line().in_flight, 3);
  EXPECT_EQ(state("discarded"), "unknown");
  stored.insert("log replayed");
  letters.add("again");
  pass(10s);
  EXPECT_EQ(line().dead_lettered, 1);
  EXPECT_EQ(line().in_flight, 1);
  EXPECT_EQ(notes.discarded, 0u);
  pass(30s);
  pass(31s);
  EXPECT_EQ(notes.discarded, 1u);
  EXPECT_EQ(line().accepted, 1);
  EXPECT_EQ(line().unaccounted(), 0);
}

TEST_F(PublishedMessagesTest, MoreDeadLettersThanAreLookedAtHideNoLossAndMakeNone) {
  options.letters = 1;
  make();
  ASSERT_TRUE(publish("a"));
  letters.add("foreign"), letters.add("a");
  pass(3s);
  pass(61s);
  EXPECT_EQ(line().unaccounted(), 0) << "it may be the other letter";
  letters.letters.pop_back();
  pass(61s);
  pass(61s);
  EXPECT_EQ(line().unaccounted(), 1);
}

TEST_F(PublishedMessagesTest, WhatItsStoreWouldHaveRemovedByNowIsForgotten) {
  ASSERT_TRUE(publish("a"));
  kept_since = now + 1s;
  EXPECT_TRUE(line().empty());
}

TEST_F(PublishedMessagesTest, WhatDoesNotEndHoldsUpNothingBehindIt) {
  for (int i = 0; i < 3000; ++i) ASSERT_TRUE(publish("stuck" + std::to_string(i)));
  for (int i = 0; i < 3000; ++i) {
    ASSERT_TRUE(publish("m" + std::to_string(i)));
    stored.insert("log m" + std::to_string(i));
  }
  for (int i = 0; i < 5; ++i) pass(1s);
  EXPECT_EQ(notes.rows.size(), 3000u);
}

TEST_F(PublishedMessagesTest, AnActionThatNobodyIsAskedAboutAnyMoreIsForgotten) {
  ASSERT_TRUE(publish("a"));
  notes.rows[0].action = "of-an-older-configuration";
  pass(1s);
  EXPECT_TRUE(notes.rows.empty());
}

}  // namespace
}  // namespace flexi::services::broker
