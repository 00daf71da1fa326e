// SPDX-License-Identifier: Apache-2.0
#include "transports/queue/queue_test_support.hpp"

namespace flexi::transports::queue::testing {
namespace {

class ReceiptTest : public QueueTest {
 protected:
  std::optional<core::Receipt> find(const std::string& id) { return run(queue_->find_receipt(core::MessageId::parse(id).value(), {})).value(); }
};

TEST_F(ReceiptTest, AMessageIsFoundInEachOfItsStates) {
  open();
  EXPECT_FALSE(find("m1"));
  const auto before = std::chrono::system_clock::now() - std::chrono::seconds(1);
  ASSERT_TRUE(publish(log_request("m1")));
  auto queued = find("m1");
  ASSERT_TRUE(queued);
  EXPECT_EQ(queued->id.str(), "m1");
  EXPECT_EQ(queued->action, "log");
  EXPECT_EQ(queued->state, core::Receipt::State::queued);
  EXPECT_EQ(queued->where, "queue");
  EXPECT_EQ(queued->attempts, 0u);
  EXPECT_GT(queued->accepted_at, before);

  ScriptedHandler handler([](const Request&, unsigned attempt) -> Result<Reply> {
    if (attempt < 3) return core::unavailable("not now");
    return Reply{.message = "done"};
  });
  handler.hold(true);
  serve(handler);
  ASSERT_TRUE(handler.wait_for_calls(1));
  EXPECT_EQ(find("m1")->where, "listener");
  stop_server(std::chrono::milliseconds(0));
  EXPECT_EQ(find("m1")->where, "queue") << "given back by the stop";
  handler.hold(false);
  serve(handler);
  ASSERT_TRUE(eventually([&] { return find("m1")->state == core::Receipt::State::stored; }));
  EXPECT_GT(find("m1")->at, before);
}

TEST_F(ReceiptTest, AWaitingRetrySaysWhenAndADeadLetterSaysWhy) {
  options_.retry_delay = options_.max_retry_delay = std::chrono::hours(1);
  options_.retry_jitter = 0;
  options_.max_attempts = 2;
  open();
  ScriptedHandler handler([](const Request& request, unsigned) -> Result<Reply> {
    if (request.id.str() == "bad") return core::invalid_argument("name is missing");
    return core::unavailable("not now");
  });
  serve(handler);
  ASSERT_TRUE(publish(log_request("later")));
  ASSERT_TRUE(publish(log_request("bad")));
  ASSERT_TRUE(eventually([&] { return find("later")->attempts == 1; }));
  EXPECT_EQ(find("later")->state, core::Receipt::State::queued);
  EXPECT_GT(find("later")->at, std::chrono::system_clock::now() + std::chrono::minutes(50));
  ASSERT_TRUE(eventually([&] { return find("bad")->state == core::Receipt::State::dead_lettered; }));
  EXPECT_EQ(find("bad")->reason, "invalid_argument: name is missing");
  EXPECT_EQ(find("bad")->attempts, 1u);
  ASSERT_TRUE(run(queue_->discard(core::MessageId::parse("bad").value(), {})));
  EXPECT_EQ(find("bad")->state, core::Receipt::State::discarded);
  EXPECT_EQ(find("bad")->reason, "discarded by an operator; it had failed: invalid_argument: name is missing");
  ASSERT_TRUE(publish(log_request("bad", "other"))) << "its id is free again";
  EXPECT_NE(find("bad")->state, core::Receipt::State::discarded);
}

TEST_F(ReceiptTest, HowAMessageEndedWithoutBeingStoredIsRememberedForAWhile) {
  open();
  ScriptedHandler handler([](const Request& request, unsigned) -> Result<Reply> {
    auto error = core::unavailable("the store is down");
    error.sent = request.id.str() == "perhaps" ? core::Sent::maybe : core::Sent::no;
    return error;
  });
  serve(handler);
  for (auto id : {"refused", "perhaps"}) EXPECT_FALSE(publish(log_request(id, "d", Ack::stored)));
  ASSERT_TRUE(eventually([&] { return find("perhaps") && find("perhaps")->state == core::Receipt::State::discarded; }));
  EXPECT_EQ(find("refused")->state, core::Receipt::State::discarded);
  EXPECT_EQ(find("refused")->reason, "unavailable: the store is down");
  auto doubts = run(queue_->doubts(10, {})).value();
  ASSERT_EQ(doubts.size(), 1u);
  EXPECT_EQ(doubts[0].id.str(), "perhaps");

  handler.hold(true);
  EXPECT_FALSE(publish(log_request("hold", "d"), core::CallContext::with_timeout(std::chrono::seconds(30))).has_error());
  stop_server(std::chrono::milliseconds(0));
  shift_ = std::chrono::hours(24 * 40);
  bool more = true;
  ASSERT_TRUE(database_->write_now([&](runtime::sqlite::Connection& c) -> Result<void> {
    more = queue_->purge_some(c);
    return core::ok();
  }));
  EXPECT_FALSE(find("refused"));
}

TEST_F(ReceiptTest, TraceAndHopsTravelWithTheMessage) {
  open();
  core::CallContext context = core::CallContext::with_timeout(std::chrono::seconds(30));
  context.trace = core::TraceContext::begin();
  context.add_hop("broker");
  ASSERT_TRUE(publish(log_request("m1"), context));
  EXPECT_EQ(find("m1")->trace_id, core::to_string(context.trace.trace_id));
  EXPECT_EQ(find("m1")->hops, context.hops);
  reopen();
  ScriptedHandler handler([](const Request&, unsigned attempt) -> Result<Reply> {
    if (attempt == 1) return core::invalid_argument("no");
    return Reply{.message = "done"};
  });
  serve(handler);
  ASSERT_TRUE(eventually([&] { return find("m1")->state == core::Receipt::State::dead_lettered; }));
  EXPECT_EQ(handler.last_context().hops, context.hops);
  EXPECT_EQ(handler.last_context().trace.trace_id, context.trace.trace_id);
  EXPECT_EQ(find("m1")->hops, context.hops);
  ASSERT_TRUE(run(queue_->replay(core::MessageId::parse("m1").value(), {})));
  ASSERT_TRUE(eventually([&] { return find("m1")->state == core::Receipt::State::stored; }));
  EXPECT_EQ(handler.last_context().hops, context.hops);
}

class AccountsTest : public QueueTest {
 protected:
  core::LedgerLine line() {
    auto accounts = run(queue_->accounts({})).value();
    EXPECT_EQ(accounts.size(), 1u);
    EXPECT_FALSE(accounts[0].book.empty());
    return accounts[0].lines.empty() ? core::LedgerLine{} : accounts[0].lines[0];
  }
};

TEST_F(AccountsTest, WhatItHoldsIsCountedNotAddedUpSoThatALossShows) {
  open();
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(publish(log_request("m" + std::to_string(i))));
  EXPECT_EQ(line().action, "log");
  EXPECT_EQ(line().way, "amqp");
  EXPECT_EQ(line().accepted, 5);
  EXPECT_EQ(line().in_flight, 5);
  EXPECT_EQ(line().unaccounted(), 0);
  ASSERT_TRUE(database_->write_now([](runtime::sqlite::Connection& c) { return c.execute("DELETE FROM queue_messages WHERE id = 'm2'"); }));
  EXPECT_EQ(line().unaccounted(), 1) << "a row is gone behind its back";
  EXPECT_EQ(ledger().in_flight, 5) << "its own book does not see that";
  ScriptedHandler handler([](const Request& request, unsigned) -> Result<Reply> {
    if (request.id.str() == "m3") return core::invalid_argument("no");
    return Reply{.message = "done"};
  });
  serve(handler);
  ASSERT_TRUE(eventually([&] { return line().in_flight == 0; }));
  EXPECT_EQ(line().stored, 3) << "nobody else counts it here";
  EXPECT_EQ(line().dead_lettered, 1);
  ASSERT_TRUE(database_->write_now([](runtime::sqlite::Connection& c) { return c.execute("DELETE FROM queue_dead"); }));
  EXPECT_EQ(line().unaccounted(), 2);
}

TEST_F(AccountsTest, AnEndInDoubtThatWasStoredIsCountedNoMore) {
  open();
  ScriptedHandler handler([](const Request&, unsigned) -> Result<Reply> {
    auto error = core::deadline_exceeded("late");
    error.sent = core::Sent::maybe;
    return error;
  });
  serve(handler);
  for (auto id : {"a", "b"}) EXPECT_FALSE(publish(log_request(id, "d", Ack::stored)));
  ASSERT_TRUE(eventually([&] { return line().discarded == 2; }));
  auto doubts = run(queue_->doubts(10, {})).value();
  ASSERT_EQ(doubts.size(), 2u);
  ASSERT_TRUE(run(queue_->resolve(doubts[0], true, {})));
  ASSERT_TRUE(run(queue_->resolve(doubts[0], true, {}))) << "twice changes nothing";
  ASSERT_TRUE(run(queue_->resolve(doubts[1], false, {})));
  EXPECT_EQ(line().discarded, 1);
  EXPECT_EQ(line().stored, 1);
  EXPECT_TRUE(run(queue_->doubts(10, {})).value().empty());
  EXPECT_EQ(ledger().accepted, 2);
  EXPECT_TRUE(ledger().adds_up());
}

}  // namespace
}  // namespace flexi::transports::queue::testing
