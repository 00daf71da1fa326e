// SPDX-License-Identifier: Apache-2.0
#include "runtime/policies/retry.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <gtest/gtest.h>

#include "runtime/policies/scripted_handler.hpp"

namespace flexi::runtime::policies {
namespace {

using namespace std::chrono_literals;
namespace asio = boost::asio;
using core::Sent;

/// Pauses that take no time but move the clock, and dice that always show the most.
struct RetryTest : testing::Test {
  RetryHooks hooks() {
    return {.now = clock.now(), .random = [] { return 1.0; }, .pause = [this](std::chrono::milliseconds time) { return pause(time); }};
  }
  core::awaitable<void> pause(std::chrono::milliseconds time) {
    pauses.push_back(time);
    clock.time += time;
    co_return;
  }
  ManualClock clock;
  std::vector<std::chrono::milliseconds> pauses;
  ScriptedHandler inner;
};

TEST_F(RetryTest, TransientUnsentErrorsAreTriedAgainWithGrowingPauses) {
  Retry retry(inner, {.attempts = 5, .base_delay = 20ms, .max_delay = 50ms}, Idempotent::no, hooks());
  for (int i = 0; i < 4; ++i) inner.fail(core::unavailable("down"));
  EXPECT_TRUE(call(retry, request_of("mail", core::Mail{.to = "a@b"})));
  EXPECT_EQ(pauses, (std::vector<std::chrono::milliseconds>{20ms, 40ms, 50ms, 50ms}));
  for (auto& request : inner.requests) EXPECT_TRUE(core::same_payload(request.payload, core::Mail{.to = "a@b"}));
}

TEST_F(RetryTest, AttemptsAreBounded) {
  Retry retry(inner, {.attempts = 3}, Idempotent::yes, hooks());
  inner.fail_for_ever(core::unavailable("down"));
  auto failed = call(retry, request_of("log"));
  EXPECT_EQ(failed.error().message, "down");
  EXPECT_EQ(inner.calls(), 3u);
}

TEST_F(RetryTest, WhatMayHaveBeenSentIsRepeatedOnlyWhereThatIsHarmless) {
  inner.fail_for_ever(core::unavailable("cut off"), Sent::maybe);
  Retry careful(inner, {}, Idempotent::no, hooks());
  EXPECT_EQ(call(careful, request_of("mail")).error().sent, Sent::maybe);
  EXPECT_EQ(inner.calls(), 1u);
  Retry free(inner, {}, Idempotent::yes, hooks());
  EXPECT_FALSE(call(free, request_of("log")));
  EXPECT_EQ(inner.calls(), 1u + 3u);
}

TEST_F(RetryTest, MaybeSentOnceIsMaybeSentForGood) {
  inner.fail(core::unavailable("cut off"), Sent::maybe);
  inner.fail(core::not_found("gone"), Sent::no);
  Retry retry(inner, {}, Idempotent::yes, hooks());
  auto failed = call(retry, request_of("log"));
  EXPECT_EQ(failed.error().kind, core::ErrorKind::not_found);
  EXPECT_EQ(failed.error().sent, Sent::maybe);
}

TEST_F(RetryTest, LastingErrorsAreNot) {
  for (auto kind : core::kAllErrorKinds) {
    if (core::is_transient(kind)) continue;
    ScriptedHandler one;
    core::Error error;
    error.kind = kind;
    one.fail(error);
    Retry retry(one, {}, Idempotent::yes, hooks());
    EXPECT_EQ(call(retry, request_of("log")).error().kind, kind);
    EXPECT_EQ(one.calls(), 1u) << core::to_string(kind);
  }
}

TEST_F(RetryTest, NeverPastTheDeadline) {
  Retry retry(inner, {.attempts = 10, .base_delay = 40ms, .max_delay = 40ms}, Idempotent::yes, hooks());
  inner.fail_for_ever(core::unavailable("down"));
  core::CallContext context;
  context.deadline = clock.time + 100ms;
  EXPECT_FALSE(call(retry, request_of("log"), context));
  EXPECT_EQ(inner.calls(), 3u);  // at 0, 40 and 80 ms
  EXPECT_LT(clock.time, context.deadline);
}

TEST_F(RetryTest, HonoursRetryAfter) {
  auto busy = core::overloaded("busy");
  busy.retry_after = 150ms;
  inner.fail(busy);
  Retry retry(inner, {.base_delay = 1ms, .max_delay = 200ms}, Idempotent::no, hooks());
  EXPECT_TRUE(call(retry, request_of("log")));
  EXPECT_EQ(pauses, (std::vector<std::chrono::milliseconds>{150ms}));
  busy.retry_after = 5s;  // longer than we keep anybody waiting: the caller is told instead
  inner.fail(busy);
  EXPECT_EQ(call(retry, request_of("log")).error().retry_after, 5s);
  EXPECT_EQ(pauses.size(), 1u);
}

TEST_F(RetryTest, TheBudgetKeepsRetriesAFifthOfRequests) {
  Retry retry(inner, {.attempts = 3, .budget = 0.2, .reserve = 10}, Idempotent::yes, hooks());
  inner.fail_for_ever(core::unavailable("down"));
  for (int i = 0; i < 1000; ++i) EXPECT_FALSE(call(retry, request_of("log")));
  const auto retries = inner.calls() - 1000;
  EXPECT_LE(retries, 10u + 200u);
  EXPECT_GE(retries, 200u);
}

TEST_F(RetryTest, OneAttemptIsNoRetry) {
  inner.fail(core::unavailable("down"));
  Retry retry(inner, {.attempts = 1}, Idempotent::yes, hooks());
  EXPECT_FALSE(call(retry, request_of("log")));
  EXPECT_EQ(inner.calls(), 1u);
}

TEST(Retry, CancellationEndsThePause) {
  ScriptedHandler inner;
  inner.fail_for_ever(core::unavailable("down"));
  Retry retry(inner, {.base_delay = 1h, .max_delay = 1h}, Idempotent::yes, {.random = [] { return 1.0; }});
  asio::io_context io{1};
  asio::cancellation_signal signal;
  bool ended = false;
  auto test = [](Retry& r) -> core::awaitable<void> { (void)co_await r.handle(request_of("x"), {}); };
  asio::co_spawn(io, test(retry), asio::bind_cancellation_slot(signal.slot(), [&ended](std::exception_ptr) { ended = true; }));
  while (inner.calls() == 0) io.run_one();
  io.poll();
  EXPECT_FALSE(ended);
  signal.emit(asio::cancellation_type::terminal);
  io.run();
  EXPECT_TRUE(ended);
  EXPECT_EQ(inner.calls(), 1u);
}

}  // namespace
}  // namespace flexi::runtime::policies
