// SPDX-License-Identifier: Apache-2.0
#include "runtime/policies/fallback.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <gtest/gtest.h>

#include "runtime/policies/scripted_handler.hpp"

namespace flexi::runtime::policies {
namespace {

using namespace std::chrono_literals;
namespace asio = boost::asio;
using core::ErrorKind;
using core::Sent;

struct FallbackTest : testing::Test {
  Fallback make(Idempotent idempotent, CircuitOptions options = {.failures = 3, .ejection = 1000ms, .max_ejection = 4000ms}) {
    return Fallback({{"inproc", a}, {"http", b}, {"amqp", c}}, options, idempotent, clock.now());
  }
  ManualClock clock;
  ScriptedHandler a, b, c;
};

TEST_F(FallbackTest, TheFirstWayThatIsThereAnswersAndIsNamed) {
  auto fallback = make(Idempotent::no);
  EXPECT_EQ(call(fallback, request_of("log")).value().way, "inproc");
  a.fail(core::unavailable("down"));
  EXPECT_EQ(call(fallback, request_of("log")).value().way, "http;fallback-from=inproc");
  a.fail(core::unimplemented("no"));
  b.fail(core::unavailable("down"));
  c.way = "amqp;queue=embedded";
  EXPECT_EQ(call(fallback, request_of("log")).value().way, "amqp;queue=embedded;fallback-from=inproc");
  EXPECT_EQ(a.calls(), 3u);
}

TEST_F(FallbackTest, WhatARemoteProcessSaysOfItsWaysIsNotOurs) {
  auto fallback = make(Idempotent::no);
  a.way = "grpc";
  EXPECT_EQ(call(fallback, request_of("log")).value().way, "inproc");
}

TEST_F(FallbackTest, ANonIdempotentRequestThatMayHaveBeenSentNeverMoves) {
  auto fallback = make(Idempotent::no);
  a.fail(core::unavailable("down"), Sent::no);
  b.fail(core::unavailable("cut off"), Sent::maybe);
  auto failed = call(fallback, request_of("mail"));
  EXPECT_EQ(failed.error().kind, ErrorKind::unavailable);
  EXPECT_EQ(failed.error().message, "down");
  EXPECT_EQ(failed.error().sent, Sent::maybe);
  EXPECT_EQ(c.calls(), 0u);
}

TEST_F(FallbackTest, WhatAWayMayHaveSentGoesByTheSameWayAgainAndByNoOther) {
  ScriptedHandler waiting;
  waiting.way = "amqp;queue=spool";
  const auto make = [&](Idempotent idempotent) {
    return Fallback({{"amqp", a}, {"http", b}, {.name = "amqp", .handler = waiting, .again = true}}, {.failures = 2, .ejection = 1000ms}, idempotent,
                    clock.now());
  };
  auto fallback = make(Idempotent::no);
  for (auto& lost : {core::unavailable("cut off"), core::deadline_exceeded("no confirm")}) {
    a.fail(lost, Sent::maybe);
    EXPECT_EQ(call(fallback, request_of("mail", core::LogEntry{"n", "d"})).value().way, "amqp;queue=spool;fallback-from=amqp");
    EXPECT_TRUE(core::same_payload(waiting.requests.back().payload, core::LogEntry{"n", "d"}));
  }
  EXPECT_EQ(b.calls(), 0u);
  clock.time += 1h;
  a.fail(core::unavailable("down"));
  EXPECT_EQ(call(fallback, request_of("mail")).value().way, "http;fallback-from=amqp") << "certainly unsent: the others first";

  clock.time += 1h;
  // What it can't take either is told in its words, and may have been sent all the same.
  a.fail(core::deadline_exceeded("no confirm"), Sent::maybe);
  waiting.fail(core::unavailable("the spool is full"));
  const auto refused = call(fallback, request_of("mail"));
  EXPECT_EQ(refused.error().message, "the spool is full");
  EXPECT_EQ(refused.error().sent, Sent::maybe);
  EXPECT_EQ(b.calls(), 1u);

  // Set aside, it is asked all the same.
  auto tired = make(Idempotent::no);
  waiting.fail_for_ever(core::unavailable("full"));
  for (int i = 0; i < 2; ++i) {
    a.fail(core::unavailable("cut off"), Sent::maybe);
    EXPECT_FALSE(call(tired, request_of("mail")));
    EXPECT_TRUE(call(tired, request_of("mail")));
  }
  waiting.heal();
  a.fail(core::unavailable("cut off"), Sent::maybe);
  EXPECT_EQ(call(tired, request_of("mail")).value().way, "amqp;queue=spool;fallback-from=amqp");

  auto repeatable = make(Idempotent::yes);
  a.fail(core::unavailable("cut off"), Sent::maybe);
  EXPECT_EQ(call(repeatable, request_of("log")).value().way, "http;fallback-from=amqp") << "moves as ever";
}

TEST_F(FallbackTest, AnErrorNamesTheLastWayThatWasTried) {
  auto fallback = make(Idempotent::yes);
  auto refused = core::unauthenticated("invalid credentials");
  refused.way = "grpc";  // what a remote process says of its own ways is not ours
  a.fail(refused);
  EXPECT_EQ(call(fallback, request_of("auth")).error().way, "inproc");
  a.fail(core::unavailable("down"));
  b.fail(refused);
  EXPECT_EQ(call(fallback, request_of("auth")).error().way, "http;fallback-from=inproc");
  a.fail(core::unavailable("first"));
  b.fail(core::unavailable("second"));
  c.fail(core::unavailable("third"));
  const auto failed = call(fallback, request_of("log"));
  EXPECT_EQ(failed.error().message, "first");
  EXPECT_EQ(failed.error().way, "amqp;fallback-from=inproc");
}

TEST_F(FallbackTest, AnIdempotentOneMoves) {
  auto fallback = make(Idempotent::yes);
  a.fail(core::unavailable("cut off"), Sent::maybe);
  EXPECT_TRUE(call(fallback, request_of("log", core::LogEntry{"n", "d"})));
  EXPECT_TRUE(core::same_payload(b.requests.at(0).payload, core::LogEntry{"n", "d"}));
  EXPECT_EQ(b.requests.at(0).id, a.requests.at(0).id);
}

TEST_F(FallbackTest, ADestinationsOwnAnswerIsFinal) {
  for (auto kind : core::kAllErrorKinds) {
    if (kind == ErrorKind::unavailable || kind == ErrorKind::unimplemented || kind == ErrorKind::deadline_exceeded) continue;
    ScriptedHandler first, second;
    core::Error error;
    error.kind = kind;
    first.fail(error);
    Fallback fallback({{"inproc", first}, {"amqp", second}}, {}, Idempotent::yes);
    EXPECT_EQ(call(fallback, request_of("log")).error().kind, kind);
    EXPECT_EQ(second.calls(), 0u) << core::to_string(kind);
  }
  auto fallback = make(Idempotent::yes);
  a.fail(core::unavailable("down"));
  b.fail(core::unauthenticated("invalid credentials"));
  EXPECT_EQ(call(fallback, request_of("auth")).error().kind, ErrorKind::unauthenticated);
}

TEST_F(FallbackTest, AServiceThatIsUnavailableIsNotTheWaysFault) {
  auto fallback = make(Idempotent::yes);
  auto refused = core::unavailable("the SMTP server can't take the mail now");
  refused.answered = true;
  a.fail_for_ever(refused);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(call(fallback, request_of("mail")).error().message, refused.message);
  EXPECT_EQ(a.calls(), 10u) << "the way is not set aside";
  EXPECT_EQ(b.calls(), 0u) << "no other way leads elsewhere";
  a.heal();
  EXPECT_EQ(call(fallback, request_of("mail")).value().way, "inproc");
  // What the destination says counts more than a way that was down before it.
  a.fail(core::unavailable("can't be reached"));
  b.fail(refused);
  EXPECT_EQ(call(fallback, request_of("mail")).error().message, refused.message);
  EXPECT_EQ(c.calls(), 0u);
  // A deadline of one way's attempt may come back as an answer: it says no more than that nothing came in time.
  auto late = core::deadline_exceeded("not answered in time");
  late.answered = true;
  a.fail(late, Sent::maybe);
  EXPECT_EQ(call(fallback, request_of("log")).value().way, "http;fallback-from=inproc");
}

TEST_F(FallbackTest, IfAllFailTheFirstErrorTellsUnlessItWasNotHere) {
  auto fallback = make(Idempotent::yes);
  a.fail(core::unavailable("first"));
  b.fail(core::unavailable("second"), Sent::maybe);
  c.fail(core::unavailable("third"));
  auto failed = call(fallback, request_of("log"));
  EXPECT_EQ(failed.error().message, "first");
  EXPECT_EQ(failed.error().sent, Sent::maybe);
  a.fail(core::unimplemented("not here"));
  b.fail(core::unavailable("second"));
  c.fail(core::unavailable("third"));
  EXPECT_EQ(call(fallback, request_of("log")).error().message, "second");
}

TEST_F(FallbackTest, AFailingWayIsPassedOverThenProbedForGrowingTimes) {
  auto fallback = make(Idempotent::yes);
  a.fail_for_ever(core::unavailable("down"));
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(call(fallback, request_of("log")));
  EXPECT_EQ(a.calls(), 3u);
  EXPECT_EQ(b.calls(), 20u);
  for (auto wait : {1000ms, 2000ms, 4000ms, 4000ms}) {
    clock.time += wait - 1ms;
    EXPECT_EQ(call(fallback, request_of("log")).value().way, "http;fallback-from=inproc");
    const auto before = a.calls();
    clock.time += 1ms;
    EXPECT_TRUE(call(fallback, request_of("log")));
    EXPECT_TRUE(call(fallback, request_of("log")));
    EXPECT_EQ(a.calls(), before + 1) << "one probe after " << wait.count() << " ms";
  }
  a.heal();
  clock.time += 4000ms;
  EXPECT_EQ(call(fallback, request_of("log")).value().way, "inproc");
  EXPECT_EQ(call(fallback, request_of("log")).value().way, "inproc");
}

TEST_F(FallbackTest, AWayThatIsSetAsideIsAskedWhenNothingElseIsLeft) {
  auto fallback = make(Idempotent::yes);
  for (auto* handler : {&a, &b, &c}) handler->fail_for_ever(core::unavailable("down"));
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(call(fallback, request_of("log")));
  EXPECT_EQ(c.calls(), 5u);
  b.heal();
  EXPECT_EQ(call(fallback, request_of("log")).value().way, "http;fallback-from=inproc");
}

TEST_F(FallbackTest, NothingIsTriedAfterTheDeadline) {
  auto fallback = make(Idempotent::yes);
  core::CallContext context;
  context.deadline = clock.time + 10ms;
  a.on_call = [this] { clock.time += 10ms; };
  a.fail(core::unavailable("slow"));
  EXPECT_FALSE(call(fallback, request_of("log"), context));
  EXPECT_EQ(b.calls(), 0u);
}

TEST_F(FallbackTest, CancellationReachesTheWayAndFreesTheProbe) {
  auto fallback = make(Idempotent::yes, {.failures = 1});
  a.fail(core::unavailable("down"));
  EXPECT_TRUE(call(fallback, request_of("log")));
  clock.time += 1h;
  a.hang = true;
  asio::io_context io{1};
  asio::cancellation_signal signal;
  bool ended = false;
  auto test = [](Fallback& f) -> core::awaitable<void> { (void)co_await f.handle(request_of("log"), core::CallContext{}); };
  asio::co_spawn(io, test(fallback), asio::bind_cancellation_slot(signal.slot(), [&ended](std::exception_ptr) { ended = true; }));
  while (a.running == 0) io.run_one();
  signal.emit(asio::cancellation_type::terminal);
  io.run();
  EXPECT_TRUE(ended);
  EXPECT_EQ(a.cancelled, 1);
  a.hang = false;
  clock.time += 1h;
  EXPECT_EQ(call(fallback, request_of("log")).value().way, "inproc");
}

TEST_F(FallbackTest, ACallerWhoLeavesIsNotTheWaysFault) {
  auto fallback = make(Idempotent::yes, {.failures = 1});
  a.hang = true;
  asio::io_context io{1};
  asio::cancellation_signal signal;
  auto test = [](Fallback& f) -> core::awaitable<void> {
    co_await asio::this_coro::throw_if_cancelled(false);  // as servers do
    EXPECT_FALSE(co_await f.handle(request_of("log"), core::CallContext{}));
  };
  asio::co_spawn(io, test(fallback), asio::bind_cancellation_slot(signal.slot(), [](std::exception_ptr e) { EXPECT_FALSE(e); }));
  while (a.running == 0) io.run_one();
  signal.emit(asio::cancellation_type::terminal);
  io.run();
  EXPECT_EQ(b.calls(), 0u) << "nobody waits for another way";
  a.hang = false;
  EXPECT_EQ(call(fallback, request_of("log")).value().way, "inproc") << "the way is not set aside";
}

TEST_F(FallbackTest, AThousandAtOnceOpenTheCircuitOnce) {
  auto fallback = make(Idempotent::yes);
  a.fail_for_ever(core::unavailable("down"));
  a.on_call = [] {};
  asio::io_context io{1};
  int answered = 0;
  auto test = [](Fallback& f, int& count) -> core::awaitable<void> {
    co_await asio::post(asio::use_awaitable);
    auto result = co_await f.handle(request_of("log"), {});
    if (result) ++count;
  };
  for (int i = 0; i < 1000; ++i)
    asio::co_spawn(io, test(fallback, answered), [](std::exception_ptr e) { EXPECT_FALSE(e); });
  io.run();
  EXPECT_EQ(answered, 1000);
  EXPECT_EQ(a.calls(), 3u);
  clock.time += 1000ms;  // the first ejection's time: it has not grown by the crowd
  a.heal();
  EXPECT_EQ(call(fallback, request_of("log")).value().way, "inproc");
}

}  // namespace
}  // namespace flexi::runtime::policies
