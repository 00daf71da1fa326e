// SPDX-License-Identifier: Apache-2.0
#include <random>

#include "transports/queue/consumer.hpp"
#include "transports/queue/queue_test_support.hpp"

namespace flexi::transports::queue::testing {
namespace {

using core::ErrorKind;

/// As of a service that may have had the message: only that is an attempt.
core::Error broke_off(core::Error error) {
  error.sent = core::Sent::maybe;
  return error;
}

TEST(BackOff, GrowsToItsLimitAndVariesByTheJitter) {
  QueueOptions options;
  EXPECT_EQ(back_off(options, 1, 0.5).count(), 200);
  EXPECT_EQ(back_off(options, 2, 0.5).count(), 400);
  EXPECT_EQ(back_off(options, 5, 0.5).count(), 3200);
  EXPECT_EQ(back_off(options, 1, 0).count(), 160);
  EXPECT_EQ(back_off(options, 1, 1).count(), 240);
  EXPECT_EQ(back_off(options, 60, 0.5), options.max_retry_delay);
  EXPECT_EQ(back_off(options, 5000, 0.5), options.max_retry_delay) << "no overflow";
  options.retry_delay = std::chrono::milliseconds(0);
  EXPECT_EQ(back_off(options, 5000, 0.5).count(), 0) << "nothing times infinity is no number";
}

TEST(QueueOptionsTest, EveryProblemIsNamed) {
  EXPECT_TRUE(QueueOptions{}.validate().empty());
  QueueOptions options;
  options.prefetch = 0;
  options.retry_jitter = 2;
  options.max_attempts = 0;
  EXPECT_GE(options.validate().size(), 3u);
  options = {};
  options.retry_factor = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(options.validate().size(), 1u);
}

TEST_F(QueueTest, MessagesComeInOrder) {
  options_.concurrency = 1;
  options_.prefetch = 7;
  open();
  std::vector<std::string> sent;
  for (int i = 0; i < 100; ++i) {
    sent.push_back("m" + std::to_string(i));
    ASSERT_TRUE(publish(log_request(sent.back())));
  }
  ScriptedHandler handler;
  serve(handler);
  ASSERT_TRUE(eventually([&] { return ledger().stored == 100; }));
  EXPECT_EQ(handler.seen(), sent);
}

TEST_F(QueueTest, TransientFailuresAreRetriedUntilTheyAreStored) {
  open();
  ScriptedHandler handler([](const Request&, unsigned attempt) -> Result<Reply> {
    if (attempt < 4) return core::unavailable("the store is down");
    return Reply{.message = "logged"};
  });
  serve(handler);
  ASSERT_TRUE(publish(log_request("a")));
  ASSERT_TRUE(eventually([&] { return ledger().stored == 1; }));
  EXPECT_EQ(handler.seen().size(), 4u);
  EXPECT_EQ(ledger().redelivered, 3);
}

TEST_F(QueueTest, AfterARetryTheQueueRests) {
  options_.retry_delay = options_.max_retry_delay = std::chrono::milliseconds(100);  // long enough to wait for the timer
  open();
  ScriptedHandler handler([](const Request&, unsigned attempt) -> Result<Reply> {
    if (attempt == 1) return core::unavailable("the store is down");
    return Reply{.message = "logged"};
  });
  serve(handler);
  ASSERT_TRUE(publish(log_request("a")));
  ASSERT_TRUE(handler.wait_for_calls(2));
  ASSERT_TRUE(eventually([&] { return ledger().stored == 1; }));
  auto commits = metrics_.counter("flexi_database_commits_total", "Transactions of the embedded database that were committed");
  const auto before = commits.value();
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(ledger().stored, 1);  // gives an idle loop the time to show
  EXPECT_LT(commits.value() - before, 20) << "nothing is due, yet the queue is asked again and again";
}

TEST_F(QueueTest, TheNextAttemptWaitsForItsTime) {
  options_.retry_delay = options_.max_retry_delay = std::chrono::hours(1);
  options_.retry_jitter = 0;
  open();
  ScriptedHandler handler([](const Request&, unsigned attempt) -> Result<Reply> {
    if (attempt == 1) return core::unavailable("the store is down");
    return Reply{.message = "logged"};
  });
  serve(handler);
  ASSERT_TRUE(publish(log_request("a")));
  ASSERT_TRUE(handler.wait_for_calls(1));
  // Others pass it meanwhile.
  ASSERT_TRUE(publish(log_request("b", "data", Ack::stored)).has_error());
  ASSERT_TRUE(publish(log_request("b", "data", Ack::stored)));
  queue_->wake();
  EXPECT_EQ(ledger().in_flight, 1);
  shift_ = std::chrono::seconds(3601);
  queue_->wake();
  ASSERT_TRUE(eventually([&] { return ledger().stored == 2; }));
}

TEST_F(QueueTest, AfterTheLastAttemptItIsDeadWithReasonAndAttempts) {
  options_.max_attempts = 3;
  open();
  ScriptedHandler handler([](const Request&, unsigned) -> Result<Reply> { return broke_off(core::unavailable("the store is down", "host 10.0.0.7")); });
  serve(handler);
  ASSERT_TRUE(publish(log_request("a")));
  ASSERT_TRUE(eventually([&] { return ledger().dead_lettered == 1; }));
  auto letters = dead().letters;
  ASSERT_EQ(letters.size(), 1u);
  EXPECT_EQ(letters[0].reason, "unavailable: the store is down");
  EXPECT_EQ(letters[0].attempts, 3u);
  EXPECT_EQ(letters[0].payload, R"({"name":"test","data":"data"})");
  EXPECT_EQ(handler.seen().size(), 3u);
  EXPECT_TRUE(ledger().adds_up());
}

TEST_F(QueueTest, ASweepReplaysOrDiscardsAllThatAreDeadSoFar) {
  options_.max_attempts = 1;
  open();
  std::atomic<bool> up{false};
  ScriptedHandler handler([&up](const Request&, unsigned) -> Result<Reply> {
    if (!up) return broke_off(core::unavailable("down"));
    return Reply{.message = "logged"};
  });
  serve(handler);
  for (int i = 0; i < 450; ++i) ASSERT_TRUE(publish(log_request("m" + std::to_string(i))));
  ASSERT_TRUE(eventually([&] { return ledger().dead_lettered == 450; }));
  core::DeadLetterSweep sweep{.before = std::chrono::system_clock::now()};
  auto swept = run(queue_->sweep(sweep, {}));
  ASSERT_TRUE(swept);
  EXPECT_EQ(swept.value().letters, 450u) << "more than one transaction's";
  EXPECT_FALSE(swept.value().more);
  ASSERT_TRUE(eventually([&] { return ledger().dead_lettered == 450; })) << "they die again";
  EXPECT_EQ(run(queue_->sweep(sweep, {})).value().letters, 0u) << "newer than `before`";
  sweep = {.fate = core::DeadLetterSweep::Fate::discard, .action = "mail", .before = std::chrono::system_clock::now()};
  EXPECT_EQ(run(queue_->sweep(sweep, {})).value().letters, 0u);
  sweep.action = "log";
  EXPECT_EQ(run(queue_->sweep(sweep, {})).value().letters, 450u);
  EXPECT_EQ(ledger().discarded, 450);
  EXPECT_TRUE(ledger().adds_up());
  EXPECT_EQ(run(queue_->status({})).value().bytes, 0);
  EXPECT_TRUE(run(queue_->sweep(sweep, core::CallContext::with_timeout(std::chrono::milliseconds(0)))).value().more) << "its time was over";
}

TEST_F(QueueTest, AnOutageCountsNoAttempt) {
  options_.max_attempts = 3;
  open();
  std::atomic<int> calls{0};
  std::atomic<bool> up{false};
  ScriptedHandler handler([&](const Request& request, unsigned) -> Result<Reply> {
    ++calls;
    if (request.id.str() == "doomed" && up) return core::internal("broken");
    if (!up) return request.id.str() == "b" ? core::overloaded("no connection is free") : core::unavailable("the logger can't be reached");
    return Reply{.message = "logged"};
  });
  serve(handler);
  for (auto id : {"a", "b", "doomed"}) ASSERT_TRUE(publish(log_request(id)));
  ASSERT_TRUE(eventually([&] { return calls > 20; })) << "more than twice what max_attempts allows";
  EXPECT_EQ(ledger().dead_lettered, 0);
  stop_server();
  reopen();  // and it is remembered
  serve(handler);
  ASSERT_TRUE(eventually([&] { return calls > 40; }));
  EXPECT_EQ(ledger().dead_lettered, 0);
  up = true;
  ASSERT_TRUE(eventually([&] { return ledger().stored == 2 && ledger().dead_lettered == 1; }));
  EXPECT_GT(dead().letters.at(0).attempts, 3u) << "all are told";
  EXPECT_TRUE(ledger().adds_up());
}

TEST_F(QueueTest, EachKindIsRetriedOrDeadAtOnce) {
  options_.max_attempts = 2;
  open();
  ScriptedHandler handler([](const Request& request, unsigned) -> Result<Reply> {
    core::Error error;
    error.kind = *core::error_kind_from(request.id.str());
    error.message = "as told";
    return broke_off(error);
  });
  serve(handler);
  for (auto kind : core::kAllErrorKinds) ASSERT_TRUE(publish(log_request(std::string(core::to_string(kind)))));
  ASSERT_TRUE(eventually([&] { return ledger().dead_lettered == std::int64_t(std::size(core::kAllErrorKinds)); }));
  for (auto& letter : dead().letters) {
    const auto kind = *core::error_kind_from(letter.id.str());
    const bool heals = core::is_transient(kind) || kind == ErrorKind::internal || kind == ErrorKind::cancelled;
    EXPECT_EQ(letter.attempts, heals ? 2u : 1u) << letter.id.str();
  }
}

TEST_F(QueueTest, AThrowingHandlerIsInternal) {
  options_.max_attempts = 1;
  open();
  ScriptedHandler handler([](const Request&, unsigned) -> Result<Reply> { throw std::runtime_error("boom"); });
  serve(handler);
  ASSERT_TRUE(publish(log_request("a")));
  ASSERT_TRUE(eventually([&] { return ledger().dead_lettered == 1; }));
  EXPECT_EQ(dead().letters[0].reason, "internal: internal error") << "what was thrown is for the log only";
}

TEST_F(QueueTest, AnAttemptThatTakesTooLongIsCancelledAndRetried) {
  options_.attempt_timeout = std::chrono::milliseconds(20);
  options_.max_attempts = 2;
  open();
  ScriptedHandler handler;
  handler.hold(true);
  serve(handler);
  ASSERT_TRUE(publish(log_request("a")));
  ASSERT_TRUE(eventually([&] { return ledger().dead_lettered == 1; }));
  EXPECT_EQ(dead().letters[0].reason, "deadline_exceeded: the service did not answer in time");
  EXPECT_EQ(handler.seen().size(), 2u);
}

TEST_F(QueueTest, StopLeavesWhatIsNotDoneAndCountsNoAttempt) {
  options_.max_attempts = 1;
  open();
  ScriptedHandler handler;
  handler.hold(true);
  serve(handler);
  for (int i = 0; i < 300; ++i) ASSERT_TRUE(publish(log_request("m" + std::to_string(i))));
  ASSERT_TRUE(handler.wait_for_calls(1));
  stop_server(std::chrono::milliseconds(10));
  EXPECT_EQ(ledger().dead_lettered, 0) << "a shutdown never dead-letters";
  EXPECT_EQ(ledger().in_flight, 300);
  reopen();
  handler.hold(false);
  serve(handler);
  ASSERT_TRUE(eventually([&] { return ledger().stored == 300; }));
  EXPECT_EQ(ledger().dead_lettered, 0);
  EXPECT_TRUE(ledger().adds_up());
}

TEST_F(QueueTest, StopUnderLoadLosesNothing) {
  open();
  ScriptedHandler handler;
  std::atomic<int> accepted{0}, next{0};
  std::atomic<bool> enough{false};
  auto load = [](EmbeddedQueue* queue, std::atomic<int>* count, std::atomic<int>* id, std::atomic<bool>* end) -> asio::awaitable<void> {
    while (!*end) {
      auto reply = co_await queue->publish(log_request("m" + std::to_string((*id)++)), {});
      if (reply) ++*count;
    }
  };
  std::vector<std::future<void>> callers;
  for (unsigned i = 0; i < 16; ++i)
    callers.push_back(asio::co_spawn(shards_.executor(i % 2), load(queue_.get(), &accepted, &next, &enough), asio::use_future));
  for (int round = 0; round < 10; ++round) {
    const auto before = handler.seen().size();
    serve(handler);
    ASSERT_TRUE(handler.wait_for_calls(before + 50));
    stop_server(std::chrono::milliseconds(round % 2 ? 1000 : 0));
    EXPECT_TRUE(ledger().adds_up());
  }
  enough = true;
  for (auto& caller : callers) caller.get();
  serve(handler);
  ASSERT_TRUE(eventually([&] { return ledger().in_flight == 0; }));
  EXPECT_EQ(ledger().stored, accepted.load());
  EXPECT_EQ(ledger().dead_lettered, 0);
}

TEST_F(QueueTest, StopAnswersThoseWhoWait) {
  open();
  ScriptedHandler handler;
  handler.hold(true);
  serve(handler);
  std::promise<Result<Reply>> answered;
  auto wait = [](EmbeddedQueue* queue, std::promise<Result<Reply>>* out) -> asio::awaitable<void> {
    out->set_value(co_await queue->publish(log_request("a", "data", Ack::stored), {}));
  };
  auto done = asio::co_spawn(shards_.executor(1), wait(queue_.get(), &answered), asio::use_future);
  ASSERT_TRUE(handler.wait_for_calls(1));
  stop_server(std::chrono::milliseconds(0));
  auto result = answered.get_future().get();
  done.get();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::unavailable);
  EXPECT_EQ(result.error().sent, core::Sent::maybe);
}

TEST_F(QueueTest, OneConsumerAtATime) {
  open();
  ScriptedHandler handler;
  serve(handler);
  EXPECT_EQ(queue_->serve(handler).error().kind, ErrorKind::conflict);
  stop_server();
  serve(handler);
  EXPECT_TRUE(publish(log_request("a", "data", Ack::stored)));
}

TEST_F(QueueTest, ReplayStartsAfreshAndDiscardEndsIt) {
  options_.max_attempts = 2;
  open();
  std::atomic<bool> up{false};
  ScriptedHandler handler([&up](const Request&, unsigned) -> Result<Reply> {
    if (!up) return broke_off(core::unavailable("down"));
    return Reply{.message = "logged"};
  });
  serve(handler);
  for (auto id : {"a", "b", "c"}) ASSERT_TRUE(publish(log_request(id)));
  ASSERT_TRUE(eventually([&] { return ledger().dead_lettered == 3; }));
  const auto id = [](const char* text) { return core::MessageId::parse(text).value(); };
  EXPECT_EQ(publish(log_request("a", "data", Ack::stored)).error().kind, ErrorKind::conflict);
  ASSERT_TRUE(run(queue_->replay(id("a"), {})));
  ASSERT_TRUE(eventually([&] { return ledger().dead_lettered == 3; })) << "it fails again";
  EXPECT_EQ(run(queue_->get(id("a"), {})).value().attempts, 2u) << "counted afresh";
  ASSERT_TRUE(run(queue_->discard(id("b"), {})));
  EXPECT_EQ(run(queue_->get(id("b"), {})).error().kind, ErrorKind::not_found);
  EXPECT_EQ(run(queue_->replay(id("b"), {})).error().kind, ErrorKind::not_found);
  EXPECT_EQ(run(queue_->discard(id("b"), {})).error().kind, ErrorKind::not_found);
  up = true;
  for (auto& letter : dead().letters) ASSERT_TRUE(run(queue_->replay(letter.id, {})));
  ASSERT_TRUE(eventually([&] { return ledger().stored == 2; }));
  EXPECT_EQ(ledger().discarded, 1);
  EXPECT_FALSE(publish(log_request("b")).value().duplicate) << "what was discarded is not here: its id is free again";
  ASSERT_TRUE(eventually([&] { return ledger().stored == 3; }));
  EXPECT_TRUE(ledger().adds_up());
}

TEST_F(QueueTest, DeadLettersOfSeveralActionsUnderOneIdAreToldApart) {
  open();
  ScriptedHandler handler([](const Request&, unsigned) -> Result<Reply> { return core::not_found("no such service"); });
  serve(handler);
  auto mail = log_request("two");
  mail.action = "mail";
  mail.payload = core::Mail{.from = "", .to = "a@example.com", .subject = "s", .message = "m"};
  ASSERT_TRUE(publish(log_request("two")));
  ASSERT_TRUE(publish(mail));
  ASSERT_TRUE(eventually([&] { return ledger().dead_lettered == 2; }));
  const auto two = core::MessageId::parse("two").value();
  for (auto& refused : {run(queue_->discard(two, {})), run(queue_->replay(two, {}))}) {
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::conflict);
    EXPECT_NE(refused.error().message.find("log, mail"), std::string::npos) << refused.error().message;
  }
  EXPECT_EQ(run(queue_->get(two, {})).error().kind, ErrorKind::conflict);
  EXPECT_EQ(run(queue_->get({two, "log"}, {})).value().action, "log");
  EXPECT_EQ(run(queue_->discard({two, "auth"}, {})).error().kind, ErrorKind::not_found);
  EXPECT_EQ(ledger().dead_lettered, 2) << "nobody guessed";
  ASSERT_TRUE(run(queue_->discard({two, "log"}, {})));
  ASSERT_EQ(dead().letters.size(), 1u);
  EXPECT_EQ(dead().letters[0].action, "mail");
  ASSERT_TRUE(run(queue_->replay(two, {}))) << "one is left, so the id says it";
  ASSERT_TRUE(handler.wait_for_calls(3));
  EXPECT_EQ(ledger().discarded, 1);
  EXPECT_TRUE(ledger().adds_up());
}

TEST_F(QueueTest, AnIdAmongTheDeadLettersIsAConflictHoweverItIsAcknowledged) {
  open();
  std::atomic<bool> up{false};
  ScriptedHandler handler([&up](const Request&, unsigned) -> Result<Reply> {
    if (up) return Reply{.message = "logged"};
    return core::not_found("no such service");
  });
  serve(handler);
  ASSERT_TRUE(publish(log_request("a")));
  ASSERT_TRUE(eventually([&] { return ledger().dead_lettered == 1; }));
  for (auto ack : {Ack::accepted, Ack::stored}) {
    const auto again = publish(log_request("a", "data", ack));
    ASSERT_FALSE(again) << "nothing would come of it";
    EXPECT_EQ(again.error().kind, ErrorKind::conflict);
    EXPECT_NE(again.error().message.find("replay or discard"), std::string::npos) << again.error().message;
  }
  EXPECT_EQ(ledger().duplicates, 0);
  up = true;
  ASSERT_TRUE(run(queue_->replay(core::MessageId::parse("a").value(), {})));
  ASSERT_TRUE(eventually([&] { return ledger().stored == 1; }));
  EXPECT_TRUE(publish(log_request("a")).value().duplicate);
}

TEST_F(QueueTest, APageOfLongDeadLettersEndsEarlyAndGoesOn) {
  open();
  ScriptedHandler handler([](const Request&, unsigned) -> Result<Reply> { return core::not_found("no"); });
  serve(handler);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(publish(log_request("m" + std::to_string(i), std::string(900'000, 'x'))));
  ASSERT_TRUE(eventually([&] { return ledger().dead_lettered == 5; }));
  std::size_t seen = 0;
  std::string cursor;
  do {
    auto page = run(queue_->list(500, cursor, {})).value();
    ASSERT_FALSE(page.letters.empty());
    EXPECT_LE(page.letters.size(), 2u);
    seen += page.letters.size();
    cursor = page.next;
  } while (!cursor.empty());
  EXPECT_EQ(seen, 5u);
}

TEST_F(QueueTest, OfTwoRacingReplaysOneWins) {
  open();
  ScriptedHandler handler([](const Request&, unsigned attempt) -> Result<Reply> {
    if (attempt == 1) return core::not_found("no such service");
    return Reply{.message = "logged"};
  });
  serve(handler);
  ASSERT_TRUE(publish(log_request("a")));
  ASSERT_TRUE(eventually([&] { return ledger().dead_lettered == 1; }));
  auto replay = [](EmbeddedQueue* queue) -> asio::awaitable<bool> {
    co_return (co_await queue->replay(core::MessageId::parse("a").value(), {})).has_value();
  };
  auto one = asio::co_spawn(shards_.executor(0), replay(queue_.get()), asio::use_future);
  auto two = asio::co_spawn(shards_.executor(1), replay(queue_.get()), asio::use_future);
  EXPECT_NE(one.get(), two.get());
  ASSERT_TRUE(eventually([&] { return ledger().stored == 1; }));
  EXPECT_EQ(handler.seen().size(), 2u);
  EXPECT_TRUE(ledger().adds_up());
}

TEST_F(QueueTest, DeadLettersComeInPagesNewestFirst) {
  open();
  ScriptedHandler handler([](const Request&, unsigned) -> Result<Reply> { return core::not_found("no"); });
  serve(handler);
  for (int i = 0; i < 25; ++i) ASSERT_TRUE(publish(log_request("m" + std::to_string(i))));
  ASSERT_TRUE(eventually([&] { return ledger().dead_lettered == 25; }));
  std::vector<std::string> ids;
  std::string cursor;
  do {
    auto page = run(queue_->list(10, cursor, {})).value();
    for (std::size_t i = 1; i < page.letters.size(); ++i) EXPECT_GE(page.letters[i - 1].dead_at, page.letters[i].dead_at);
    for (auto& letter : page.letters) ids.push_back(letter.id.str());
    cursor = page.next;
  } while (!cursor.empty());
  std::sort(ids.begin(), ids.end());
  EXPECT_EQ(ids.size(), 25u);
  EXPECT_EQ(std::unique(ids.begin(), ids.end()), ids.end());
  EXPECT_EQ(run(queue_->list(10, "nonsense", {})).error().kind, ErrorKind::invalid_argument);
}

TEST_F(QueueTest, TheLedgerAddsUpOverRandomOperationsAndReopens) {
  options_.max_attempts = 2;
  options_.max_messages = 60;
  std::mt19937 random(20261124);
  ScriptedHandler handler([](const Request& request, unsigned attempt) -> Result<Reply> {
    const auto n = std::hash<std::string>{}(request.id.str() + std::to_string(attempt)) % 4;
    if (n == 0) return core::unavailable("down");
    if (n == 1) return core::invalid_argument("bad");
    return Reply{.message = "logged"};
  });
  open();
  const auto check = [&] {
    const auto total = ledger();
    EXPECT_TRUE(total.adds_up()) << total.accepted << " = " << total.stored << " + " << total.dead_lettered << " + " << total.discarded << " + "
                                 << total.expired << " + " << total.in_flight;
    return total;
  };
  std::int64_t accepted = 0, duplicates = 0;
  for (int i = 0; i < 400; ++i) {
    const auto id = "m" + std::to_string(random() % 120);
    switch (random() % 10) {
      case 0: stop_server(std::chrono::milliseconds(0)); break;
      case 1:
        if (!server_) serve(handler);
        break;
      case 2: reopen(); break;
      case 3:
        for (auto& letter : dead().letters)
          if (random() % 2) (void)run(queue_->replay(letter.id, {}));
        break;
      case 4:
        for (auto& letter : dead().letters)
          if (random() % 3 == 0) (void)run(queue_->discard(letter.id, {}));
        break;
      case 5: (void)publish(log_request(id, "data", Ack::stored), core::CallContext::with_timeout(std::chrono::milliseconds(random() % 3))); break;
      default:
        if (auto reply = publish(log_request(id, random() % 20 ? "data" : "other"))) ++(reply.value().duplicate ? duplicates : accepted);
    }
    check();
  }
  if (!server_) serve(handler);
  ASSERT_TRUE(eventually([&] { return check().in_flight == 0; }));
  stop_server();
  const auto total = check();
  EXPECT_GE(total.accepted, accepted);
  EXPECT_GE(total.duplicates, duplicates);
  EXPECT_EQ(rows("queue_messages"), total.in_flight) << "the account and the table agree";
  EXPECT_EQ(rows("queue_dead"), total.dead_lettered);
}

}  // namespace
}  // namespace flexi::transports::queue::testing
