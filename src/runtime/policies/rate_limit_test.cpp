// SPDX-License-Identifier: Apache-2.0
#include "runtime/policies/rate_limit.hpp"

#include <gtest/gtest.h>

#include <thread>

#include "runtime/policies/scripted_handler.hpp"

namespace flexi::runtime::policies {
namespace {

using namespace std::chrono_literals;

core::CallContext as(std::string caller) {
  core::CallContext context;
  context.caller = std::move(caller);
  return context;
}

struct RateLimitTest : testing::Test {
  int let_through(RateLimit& limit, int calls, const std::string& caller = {}) {
    int through = 0;
    for (int i = 0; i < calls; ++i) through += call(limit, request_of("x"), as(caller)) ? 1 : 0;
    return through;
  }
  ManualClock clock;
  ScriptedHandler inner;
};

TEST_F(RateLimitTest, IsOffByDefault) {
  RateLimit limit(inner, {}, clock.now());
  EXPECT_EQ(let_through(limit, 1000), 1000);
}

TEST_F(RateLimitTest, LetsABurstThroughThenTheRate) {
  RateLimit limit(inner, {.per_second = 100, .burst = 10}, clock.now());
  EXPECT_EQ(let_through(limit, 50), 10);
  auto refused = call(limit, request_of("x"));
  EXPECT_EQ(refused.error().kind, core::ErrorKind::overloaded);
  EXPECT_EQ(refused.error().retry_after, 10ms);
  clock.time += *refused.error().retry_after;
  EXPECT_EQ(let_through(limit, 5), 1) << "retry_after must be enough, and no more than enough";
  clock.time += 50ms;
  EXPECT_EQ(let_through(limit, 50), 5);
  clock.time += 1h;
  EXPECT_EQ(let_through(limit, 50), 10) << "a quiet hour saves up a burst and no more";
}

TEST_F(RateLimitTest, CallersHaveTheirOwnBuckets) {
  RateLimit limit(inner, {.per_second = 1000, .burst = 1000, .caller_per_second = 1, .caller_burst = 2}, clock.now());
  EXPECT_EQ(let_through(limit, 10, "a"), 2);
  EXPECT_EQ(let_through(limit, 10, "b"), 2);
  EXPECT_EQ(let_through(limit, 10), 2);
  clock.time += 1s;
  EXPECT_EQ(let_through(limit, 10, "a"), 1);
}

TEST_F(RateLimitTest, RememberedCallersAreBoundedAndNobodyIsForgiven) {
  RateLimit limit(inner, {.caller_per_second = 1, .caller_burst = 1, .max_callers = 160}, clock.now());
  EXPECT_EQ(let_through(limit, 1, "early"), 1);
  for (int i = 0; i < 5000; ++i) let_through(limit, 1, "c" + std::to_string(i));
  EXPECT_LE(limit.callers(), 160u);
  EXPECT_EQ(let_through(limit, 1, "early"), 0);
  clock.time += 10s;
  EXPECT_EQ(let_through(limit, 1, "new"), 1) << "callers who were quiet make room";
}

TEST(TokenBucket, ThreadsNeverTakeMoreThanThereIs) {
  TokenBucket bucket;
  const auto rate = TokenBucket::Rate::per_second(1, 1000);
  std::atomic<int> taken{0};
  auto take = [&] {
    for (int i = 0; i < 1000; ++i)
      if (!bucket.take(rate, 1'000'000'000)) ++taken;
  };
  std::thread other(take);
  take();
  other.join();
  EXPECT_EQ(taken, 1000);
}

TEST(RateLimitOptions, SaysWhatIsWrong) {
  EXPECT_TRUE(RateLimitOptions{}.validate().empty());
  EXPECT_EQ((RateLimitOptions{.per_second = -1, .burst = 0}.validate().size()), 2u);
}

}  // namespace
}  // namespace flexi::runtime::policies
