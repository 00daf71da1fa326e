// SPDX-License-Identifier: Apache-2.0
#include "runtime/policies/concurrency_limit.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <gtest/gtest.h>

#include <list>

#include "runtime/policies/scripted_handler.hpp"

namespace flexi::runtime::policies {
namespace {

using namespace std::chrono_literals;
namespace asio = boost::asio;

TEST(ConcurrencyLimit, PastTheLimitIsOverloadedAndCancellationGivesThePlaceBack) {
  ScriptedHandler inner;
  inner.hang = true;
  ConcurrencyLimit limit(inner, {.initial = 100, .min = 1, .max = 100, .retry_after = 2s});
  asio::io_context io{1};
  std::list<asio::cancellation_signal> signals;
  int refused = 0;
  auto test = [](ConcurrencyLimit& l, int& count) -> core::awaitable<void> {
    auto result = co_await l.handle(request_of("x"), {});
    if (!result && result.error().kind == core::ErrorKind::overloaded && result.error().retry_after == 2s) ++count;
  };
  for (int i = 0; i < 1000; ++i)
    asio::co_spawn(io, test(limit, refused), asio::bind_cancellation_slot(signals.emplace_back().slot(), [](std::exception_ptr) {}));
  io.poll();
  EXPECT_EQ(refused, 900);
  EXPECT_EQ(limit.state().running(), 100);
  for (auto& signal : signals) signal.emit(asio::cancellation_type::terminal);
  io.restart();
  io.run();
  EXPECT_EQ(limit.state().running(), 0);
  EXPECT_EQ(inner.cancelled, 100);
}

TEST(ConcurrencyLimit, AnExceptionGivesThePlaceBack) {
  ScriptedHandler inner;
  inner.on_call = [] { throw std::runtime_error("bug"); };
  ConcurrencyLimit limit(inner, {});
  EXPECT_THROW((void)call(limit, request_of("x")), std::runtime_error);
  EXPECT_EQ(limit.state().running(), 0);
}

TEST(ConcurrencyLimit, ZeroIsNoLimit) {
  ScriptedHandler inner;
  ConcurrencyLimit limit(inner, {.initial = 0});
  EXPECT_TRUE(call(limit, request_of("x")));
}

/// Plays windows of calls with a given latency, the limit fully used.
struct AdaptiveLimitTest : testing::Test {
  void play(AdaptiveLimit& limit, int windows, std::chrono::nanoseconds latency, int used_percent = 100) {
    for (int w = 0; w < windows; ++w) {
      const auto places = std::max<std::int64_t>(20, limit.limit() * used_percent / 100);
      std::int64_t taken = 0;
      while (taken < places && limit.try_acquire()) ++taken;
      time += 200ms;
      for (std::int64_t i = 0; i < taken; ++i) limit.release(AdaptiveLimit::Outcome::done, time - latency, time);
    }
  }
  TimePoint time = steady_now();
  ConcurrencyLimitOptions options{.initial = 200, .min = 20, .max = 2000};
};

TEST_F(AdaptiveLimitTest, RisesWhileAllIsUsedAndLatencyStays) {
  AdaptiveLimit limit(options, time);
  play(limit, 50, 1ms);
  EXPECT_GT(limit.limit(), 500);
  play(limit, 500, 1ms);
  EXPECT_EQ(limit.limit(), 2000);
}

TEST_F(AdaptiveLimitTest, AnIdleHandlerTeachesNothing) {
  AdaptiveLimit limit(options, time);
  play(limit, 100, 1ms, 10);
  EXPECT_EQ(limit.limit(), 200);
}

TEST_F(AdaptiveLimitTest, FallsWhenLatencyGrowsAndRecovers) {
  AdaptiveLimit limit(options, time);
  play(limit, 10, 1ms);
  const auto before = limit.limit();
  play(limit, 15, 20ms);
  EXPECT_LT(limit.limit(), before / 2);
  EXPECT_GE(limit.limit(), options.min);
  play(limit, 100, 1ms);
  EXPECT_GT(limit.limit(), before);
}

TEST_F(AdaptiveLimitTest, FallsByATenthPerWindowOfOverload) {
  AdaptiveLimit limit(options, time);
  ASSERT_TRUE(limit.try_acquire());
  limit.release(AdaptiveLimit::Outcome::overload, time, time);
  play(limit, 1, 1ms);
  EXPECT_EQ(limit.limit(), 180);
}

TEST(ConcurrencyLimitOptions, SaysWhatIsWrong) {
  EXPECT_TRUE(ConcurrencyLimitOptions{}.validate().empty());
  EXPECT_EQ((ConcurrencyLimitOptions{.initial = 1, .min = 2, .max = 1}.validate().size()), 2u);
}

}  // namespace
}  // namespace flexi::runtime::policies
