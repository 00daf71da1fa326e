// SPDX-License-Identifier: Apache-2.0
// The queue goes away and comes back.
#include "transports/spool/spool_test_support.hpp"

namespace flexi::transports::spool::testing {
namespace {

TEST_F(SpoolTest, WhileAllIsWellItIsNotTouched) {
  open();
  for (auto& id : numbered(0, 50)) {
    auto reply = send(log_request(id));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply.value().way, "amqp");
  }
  EXPECT_EQ(queue_.arrived(), numbered(0, 50));
  EXPECT_EQ(metrics_.counter("flexi_spool_accepted_total", "").value(), 0);
  EXPECT_EQ(spool_->status().messages, 0);
}

TEST_F(SpoolTest, WhatComesDuringAnOutageFollowsInOrderAndNewOnesBehindIt) {
  open();
  queue_.up = false;
  spool(0, 300);
  EXPECT_EQ(spool_->status().messages, 300);
  EXPECT_EQ(account().accepted, 300);
  EXPECT_EQ(account().in_flight, 300);
  EXPECT_EQ(account().way, "amqp");
  queue_.hold = true;
  queue_.up = true;
  ASSERT_TRUE(eventually([&] { return !queue_.arrived().empty(); }));
  // RabbitMQ is back, and what waits is on its way: not a reason to overtake it.
  spool(300, 400);
  const auto before = queue_.arrived();
  EXPECT_EQ(before, numbered(0, static_cast<int>(before.size())));
  queue_.hold = false;
  ASSERT_TRUE(drained());
  EXPECT_TRUE(account().empty());
  ASSERT_TRUE(send(log_request("m400")));
  EXPECT_EQ(queue_.arrived(), numbered(0, 401));
}

TEST_F(SpoolTest, ABatchIsUnderWayAtOnce) {
  options_.batch = 64;
  open();
  queue_.up = false;
  spool(0, 200);
  queue_.up = true;
  ASSERT_TRUE(eventually([&] { return queue_.arrived().size() >= 2; }));
  queue_.hold = true;
  // One that probes, then a batch without waiting for its confirms, then none until they come.
  ASSERT_TRUE(eventually([&] { return queue_.arrived().size() >= 64; }));
  queue_.hold = false;
  ASSERT_TRUE(drained());
  EXPECT_EQ(queue_.arrived(), numbered(0, 200));
}

TEST_F(SpoolTest, AMessageKeepsAllThatBelongsToIt) {
  open();
  queue_.up = false;
  auto context = core::CallContext::with_timeout(std::chrono::seconds(30));
  context.hops = "broker@1";
  auto request = log_request("m1");
  request.id_from_caller = true;
  request.accepted_at = core::Timestamp(std::chrono::microseconds(1'700'000'000'123'456));
  request.payload = core::LogEntry{"n\"ame", "ü\n\\"};
  ASSERT_TRUE(run(spool_->handle(request, context)));
  queue_.up = true;
  ASSERT_TRUE(drained());
  const auto got = queue_.last();
  EXPECT_EQ(got.id, request.id);
  EXPECT_EQ(got.action, "log");
  EXPECT_EQ(got.accepted_at, request.accepted_at);
  EXPECT_EQ(got.ack, Ack::accepted);
  EXPECT_TRUE(got.id_from_caller);
  EXPECT_TRUE(core::same_payload(got.payload, request.payload));
  EXPECT_EQ(queue_.hops(), "broker@1");
}

TEST_F(SpoolTest, StoredAndLogInsAndLateOnesAreNeverSpooled) {
  open();
  queue_.up = false;
  auto stored = send(log_request("s", Ack::stored));
  ASSERT_FALSE(stored);
  EXPECT_EQ(stored.error().kind, ErrorKind::unavailable);
  auto auth = log_request("a", Ack::stored);
  auth.action = "auth";
  auth.payload = core::Credentials{"me@example.com", "secret"};
  EXPECT_FALSE(send(auth));
  auth.action = "audit", auth.ack = Ack::accepted;  // whatever it is called
  EXPECT_FALSE(send(auth));
  EXPECT_FALSE(run(spool_->handle(log_request("late"), core::CallContext::with_timeout(std::chrono::milliseconds(0)))));
  EXPECT_EQ(spool_->status().messages, 0);
  spool(0, 1);
  queue_.hold = true, queue_.up = true;
  stored = send(log_request("s", Ack::stored));
  ASSERT_FALSE(stored) << "it would overtake";
  EXPECT_EQ(stored.error().kind, ErrorKind::unavailable);
  EXPECT_TRUE(stored.error().retry_after);
}

TEST_F(SpoolTest, TheStraightWayNeitherSpoolsNorOvertakes) {
  open();
  auto straight = [&](const std::string& id) { return run(spool_->straight().handle(log_request(id), core::CallContext::with_timeout(std::chrono::seconds(30)))); };
  ASSERT_TRUE(straight("m0"));
  queue_.up = false;
  EXPECT_EQ(straight("x").error().kind, ErrorKind::unavailable);
  EXPECT_EQ(spool_->status().messages, 0);
  spool(1, 2);
  queue_.hold = true, queue_.up = true;
  EXPECT_EQ(straight("x").error().kind, ErrorKind::unavailable);
  queue_.hold = false;
  ASSERT_TRUE(drained());
  ASSERT_TRUE(straight("m2"));
  EXPECT_EQ(queue_.arrived(), numbered(0, 3));
}

TEST_F(SpoolTest, TheWaitingWaySpoolsAtOnceWhatMayBe) {
  options_.patience = std::chrono::hours(1);
  open();
  queue_.hold = true;  // nobody is asked for a confirm a second time
  const auto waiting = [&](Request request) {
    return run(spool_->waiting().handle(std::move(request), core::CallContext::with_timeout(std::chrono::seconds(5))));
  };
  EXPECT_EQ(waiting(log_request("m0")).value().way, "amqp;queue=spool");
  EXPECT_EQ(waiting(log_request("m1")).value().way, "amqp;queue=spool");
  EXPECT_EQ(waiting(log_request("s", Ack::stored)).error().kind, ErrorKind::unavailable);
  queue_.hold = false;
  ASSERT_TRUE(drained());
  EXPECT_EQ(queue_.arrived(), numbered(0, 2));
}

TEST_F(SpoolTest, AnOutageInTheMiddleOfABatchLosesNothingAndKeepsTheOrder) {
  options_.batch = 50;
  std::size_t seen = 0;
  queue_.judge = [&](const Request&) -> std::optional<core::Error> {
    if (++seen % 37 != 0) return std::nullopt;
    return core::unavailable("cut");
  };
  open();
  queue_.up = false;
  spool(0, 500);
  queue_.up = true;
  ASSERT_TRUE(drained());
  // What went out behind the one that failed goes again: each message's last arrival is in order, and none is missing.
  std::vector<std::string> last;
  std::set<std::string> known;
  const auto arrived = queue_.arrived();
  for (auto it = arrived.rbegin(); it != arrived.rend(); ++it)
    if (known.insert(*it).second) last.insert(last.begin(), *it);
  EXPECT_EQ(last, numbered(0, 500));
}

TEST_F(SpoolTest, AnOutageNeverMakesADeadLetter) {
  open();
  queue_.up = false;
  spool(0, 10);
  const auto before = queue_.calls();
  ASSERT_TRUE(eventually([&] { return queue_.calls() > before + 50; })) << "it is tried again and again";
  EXPECT_EQ(spool_->status().dead_letters, 0);
  EXPECT_EQ(spool_->status().messages, 10);
  queue_.up = true;
  ASSERT_TRUE(drained());
  EXPECT_EQ(queue_.arrived(), numbered(0, 10));
}

TEST_F(SpoolTest, WhatTheQueueRefusesForGoodIsADeadLetterAndHoldsUpNobody) {
  std::atomic<bool> mended{false};
  queue_.judge = [&](const Request& request) -> std::optional<core::Error> {
    if (mended) return std::nullopt;
    if (request.id.str() == "m3") return core::invalid_argument("too long for RabbitMQ");
    if (request.id.str() == "m5") return core::internal("a bug");
    return std::nullopt;
  };
  open();
  queue_.up = false;
  spool(0, 8);
  queue_.up = true;
  ASSERT_TRUE(drained());
  EXPECT_EQ(spool_->status().dead_letters, 2);
  EXPECT_EQ(account().dead_lettered, 2);
  EXPECT_EQ(account().accepted, 2) << "what the queue has is counted there";
  const auto arrived = queue_.arrived();
  EXPECT_EQ(std::set<std::string>(arrived.begin(), arrived.end()), (std::set<std::string>{"m0", "m1", "m2", "m4", "m6", "m7"}));
  auto page = run(spool_->list(10, "", {})).value();
  ASSERT_EQ(page.letters.size(), 2u);
  EXPECT_EQ(find("m3")->reason, "invalid_argument: too long for RabbitMQ");
  EXPECT_EQ(find("m3")->state, core::Receipt::State::dead_lettered);
  auto letter = run(spool_->get(core::MessageId::parse("m5").value(), {})).value();
  EXPECT_EQ(letter.reason, "internal: a bug");
  EXPECT_EQ(letter.attempts, 10u) << "a bug has some tries";
  EXPECT_EQ(letter.payload, R"({"name":"test","data":"data"})");
  mended = true;
  ASSERT_TRUE(run(spool_->replay(core::MessageId::parse("m3").value(), {})));
  ASSERT_TRUE(drained());
  EXPECT_EQ(queue_.arrived().back(), "m3");
  ASSERT_TRUE(run(spool_->discard(core::MessageId::parse("m5").value(), {})));
  EXPECT_EQ(run(spool_->discard(core::MessageId::parse("m5").value(), {})).error().kind, ErrorKind::not_found);
  EXPECT_EQ(spool_->status().dead_letters, 0);
  EXPECT_EQ(spool_->status().bytes, 0);
}

TEST_F(SpoolTest, DeadLettersOfSeveralActionsUnderOneIdAreToldApart) {
  std::atomic<bool> mended{false};
  queue_.judge = [&](const Request&) -> std::optional<core::Error> {
    if (mended) return std::nullopt;
    return core::invalid_argument("too long for RabbitMQ");
  };
  open();
  queue_.up = false;
  auto mail = log_request("two");
  mail.action = "mail";
  mail.payload = core::Mail{"", "you@example.com", "s", "m"};
  ASSERT_TRUE(send(log_request("two")));
  ASSERT_TRUE(send(mail));
  queue_.up = true;
  ASSERT_TRUE(drained());
  ASSERT_EQ(spool_->status().dead_letters, 2);
  const auto two = core::MessageId::parse("two").value();
  EXPECT_EQ(run(spool_->get(two, {})).error().kind, ErrorKind::conflict);
  EXPECT_EQ(run(spool_->discard(two, {})).error().kind, ErrorKind::conflict);
  EXPECT_EQ(run(spool_->replay(two, {})).error().kind, ErrorKind::conflict);
  EXPECT_EQ(spool_->status().dead_letters, 2) << "nobody guessed";
  ASSERT_TRUE(run(spool_->discard({two, "mail"}, {})));
  mended = true;
  ASSERT_TRUE(run(spool_->replay(two, {}))) << "one is left, so the id says it";
  ASSERT_TRUE(drained());
  EXPECT_EQ(queue_.arrived(), std::vector<std::string>{"two"});
  EXPECT_EQ(spool_->status().dead_letters, 0);
  EXPECT_EQ(spool_->status().bytes, 0);
}

TEST_F(SpoolTest, ASweepReplaysOrDiscardsAllDeadLetters) {
  queue_.judge = [](const Request&) -> std::optional<core::Error> { return core::invalid_argument("too long for RabbitMQ"); };
  open();
  queue_.up = false;
  spool(0, 250);
  queue_.up = true;
  ASSERT_TRUE(drained());
  ASSERT_EQ(spool_->status().dead_letters, 250);
  core::DeadLetterSweep sweep{.action = "mail", .before = std::chrono::system_clock::now()};
  EXPECT_EQ(run(spool_->sweep(sweep, {})).value().letters, 0u);
  sweep.action.clear();
  auto replayed = run(spool_->sweep(sweep, {})).value();
  EXPECT_EQ(replayed.letters, 250u) << "more than one transaction's";
  EXPECT_FALSE(replayed.more);
  ASSERT_TRUE(drained());
  EXPECT_EQ(spool_->status().dead_letters, 250) << "they die again";
  EXPECT_EQ(run(spool_->sweep(sweep, {})).value().letters, 0u) << "newer than `before`";
  sweep = {.fate = core::DeadLetterSweep::Fate::discard, .before = std::chrono::system_clock::now()};
  EXPECT_EQ(run(spool_->sweep(sweep, {})).value().letters, 250u);
  EXPECT_EQ(spool_->status().dead_letters, 0);
  EXPECT_EQ(spool_->status().bytes, 0);
}

TEST_F(SpoolTest, AFrozenQueueIsWaitedForOnlySoLong) {
  options_.patience = std::chrono::milliseconds(20);
  open();
  queue_.hold = true;
  spool(0, 3);
  EXPECT_EQ(run(spool_->straight().handle(log_request("x"), {})).error().kind, ErrorKind::unavailable);
  queue_.hold = false;
  ASSERT_TRUE(drained());
  EXPECT_EQ(queue_.arrived(), (std::vector<std::string>{"m0", "m0", "m1", "m2"})) << "it had taken the first one";
}

TEST_F(SpoolTest, OneActionsQueueHoldsUpNoOther) {
  queue_.judge = [&](const Request& request) -> std::optional<core::Error> {
    if (request.action == "mail") return core::unavailable("flexi.mail has other arguments");
    return std::nullopt;
  };
  open();
  queue_.up = false;
  spool(0, 3);
  auto mail = log_request("mail");
  mail.action = "mail";
  mail.payload = core::Mail{"", "you@example.com", "s", "m"};
  ASSERT_TRUE(send(mail));
  queue_.up = true;
  ASSERT_TRUE(eventually([&] { return spool_->status().messages == 1; }));
  auto reply = send(log_request("m3"));
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply.value().way, "amqp") << "nothing of its action waits";
  EXPECT_EQ(queue_.arrived(), numbered(0, 4));
}

}  // namespace
}  // namespace flexi::transports::spool::testing
