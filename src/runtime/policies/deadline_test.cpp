// SPDX-License-Identifier: Apache-2.0
#include "runtime/policies/deadline.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <gtest/gtest.h>

#include "runtime/policies/scripted_handler.hpp"

namespace flexi::runtime::policies {
namespace {

using namespace std::chrono_literals;
namespace asio = boost::asio;

TEST(Deadline, CapsAndDefaultsWhatTheInnerCallSees) {
  ScriptedHandler inner;
  Deadline deadline(inner, {.default_timeout = 10s, .max_timeout = 60s});
  EXPECT_TRUE(call(deadline, request_of("x")));
  EXPECT_TRUE(call(deadline, request_of("x"), core::CallContext::with_timeout(1h)));
  EXPECT_TRUE(call(deadline, request_of("x"), core::CallContext::with_timeout(2s)));
  ASSERT_EQ(inner.calls(), 3u);
  EXPECT_LE(inner.contexts[0].deadline, steady_now() + 10s);
  EXPECT_GT(inner.contexts[1].deadline, steady_now() + 30s);
  EXPECT_LE(inner.contexts[1].deadline, steady_now() + 60s);
  EXPECT_LE(inner.contexts[2].deadline, steady_now() + 2s);
}

TEST(Deadline, WithoutAnyLimitItStaysOutOfTheWay) {
  ScriptedHandler inner;
  Deadline deadline(inner, {.default_timeout = 0ms, .max_timeout = 0ms});
  EXPECT_TRUE(call(deadline, request_of("x")));
  EXPECT_FALSE(inner.contexts.at(0).has_deadline());
}

TEST(Deadline, AnExpiredCallNeverReachesTheHandler) {
  ScriptedHandler inner;
  Deadline deadline(inner, {});
  auto refused = call(deadline, request_of("x"), core::CallContext::with_timeout(-1ms));
  EXPECT_EQ(refused.error().kind, core::ErrorKind::deadline_exceeded);
  EXPECT_EQ(refused.error().sent, core::Sent::no);
  EXPECT_EQ(inner.calls(), 0u);
}

TEST(Deadline, CancelsTheInnerCallWhenItPasses) {
  ScriptedHandler inner;
  inner.hang = true;
  Deadline deadline(inner, {.default_timeout = 5ms});
  auto late = call(deadline, request_of("x"));
  EXPECT_EQ(late.error().kind, core::ErrorKind::deadline_exceeded);
  EXPECT_EQ(late.error().sent, core::Sent::maybe);
  EXPECT_EQ(inner.cancelled, 1);
  EXPECT_EQ(inner.running, 0);
}

TEST(Deadline, TheCallerGoesOnAfterIt) {
  // The alarm cancels the inner call alone: whoever called can still wait for other things.
  ScriptedHandler hanging, fine;
  hanging.hang = true;
  Deadline deadline(hanging, {.default_timeout = 5ms});
  auto test = [](Deadline& first, ScriptedHandler& second) -> core::awaitable<void> {
    auto late = co_await first.handle(request_of("x"), {});
    EXPECT_FALSE(late);
    co_await asio::post(asio::use_awaitable);
    auto good = co_await second.handle(request_of("x"), {});
    EXPECT_TRUE(good);
  };
  run_test(test(deadline, fine));
  EXPECT_EQ(fine.calls(), 1u);
}

TEST(Deadline, ABugOfTheInnerHandlerComesThrough) {
  ScriptedHandler inner;
  inner.on_call = [] { throw std::runtime_error("bug"); };
  Deadline deadline(inner, {});
  EXPECT_THROW((void)call(deadline, request_of("x")), std::runtime_error);
}

TEST(Deadline, TheCallersCancellationPassesThrough) {
  ScriptedHandler inner;
  inner.hang = true;
  Deadline deadline(inner, {.default_timeout = 1h, .max_timeout = 1h});
  asio::io_context io{1};
  asio::cancellation_signal signal;
  bool ended = false;
  auto test = [](Deadline& d) -> core::awaitable<void> { (void)co_await d.handle(request_of("x"), {}); };
  asio::co_spawn(io, test(deadline), asio::bind_cancellation_slot(signal.slot(), [&ended](std::exception_ptr) { ended = true; }));
  while (inner.running == 0) io.run_one();
  signal.emit(asio::cancellation_type::terminal);
  io.run();  // would wait for the hour's timer if that were left behind
  EXPECT_TRUE(ended);
  EXPECT_EQ(inner.cancelled, 1);
  EXPECT_EQ(inner.running, 0);
}

TEST(Deadline, AThousandAtOnceEachEndInTime) {
  ScriptedHandler inner;
  inner.hang = true;
  Deadline deadline(inner, {.default_timeout = 20ms});
  asio::io_context io{1};
  int late = 0;
  auto test = [](Deadline& d, int& count) -> core::awaitable<void> {
    auto result = co_await d.handle(request_of("x"), {});
    if (!result && result.error().kind == core::ErrorKind::deadline_exceeded) ++count;
  };
  for (int i = 0; i < 1000; ++i)
    asio::co_spawn(io, test(deadline, late), [](std::exception_ptr e) { EXPECT_FALSE(e); });
  io.run();
  EXPECT_EQ(late, 1000);
  EXPECT_EQ(inner.running, 0);
}

TEST(DeadlineOptions, SaysWhatIsWrong) {
  EXPECT_TRUE(DeadlineOptions{}.validate().empty());
  EXPECT_EQ((DeadlineOptions{.default_timeout = 2s, .max_timeout = 1s}.validate().at(0).path), "default_timeout");
}

}  // namespace
}  // namespace flexi::runtime::policies
