// SPDX-License-Identifier: Apache-2.0
#include "services/broker/queue_watch.hpp"

#include <gtest/gtest.h>

namespace flexi::services::broker {
namespace {

using namespace std::chrono_literals;

struct QueueWatchTest : testing::Test {
  std::int64_t after(std::chrono::seconds pause, QueueSight sight, std::int64_t old, std::int64_t unknown = 0) {
    now += pause;
    watch.saw(sight, old, unknown, now);
    return watch.lost();
  }
  QueueWatch::Time now{1000s};
  QueueWatch watch{10s, 200};
};

TEST_F(QueueWatchTest, WhatIsMissingIsLostOnceNothingHasWaitedForAsLongAsItMayBeInHand) {
  EXPECT_EQ(after(0s, {.consumers = 1}, 3), 0);
  EXPECT_EQ(after(9s, {.consumers = 1}, 3), 0) << "still in hand, maybe";
  EXPECT_EQ(after(1s, {.consumers = 1}, 3), 3);
  EXPECT_EQ(after(1s, {.consumers = 1}, 2), 2) << "one was stored after all";
  EXPECT_EQ(after(1s, {.ready = 1, .consumers = 1}, 2), 0) << "it waits again";
  EXPECT_EQ(after(1s, {.consumers = 1}, 2), 0);
  EXPECT_EQ(after(9s, {.consumers = 1}, 2), 0);
  EXPECT_EQ(after(1s, {.consumers = 1}, 2), 2);
}

TEST_F(QueueWatchTest, WhatWaitsIsNotLost) {
  EXPECT_EQ(after(0s, {.ready = 500}, 500), 0);
  EXPECT_EQ(after(3600s, {.ready = 500}, 500), 0);
  EXPECT_EQ(after(1s, {.ready = 900}, 500), 0) << "others' messages";
}

TEST_F(QueueWatchTest, WhileSomeWaitWhatMayBeInHandIsNotLost) {
  EXPECT_EQ(after(0s, {.ready = 100, .consumers = 2}, 500), 0);
  EXPECT_EQ(after(60s, {.ready = 100, .consumers = 2}, 500), 0);
  // Beyond what two consumers may hold, and not for a moment only.
  EXPECT_EQ(after(1s, {.ready = 100, .consumers = 2}, 507), 0);
  EXPECT_EQ(after(5s, {.ready = 100, .consumers = 2}, 505), 0);
  EXPECT_EQ(after(5s, {.ready = 100, .consumers = 2}, 509), 5) << "the least of all that time";
  EXPECT_EQ(after(1s, {.ready = 120, .consumers = 2}, 509), 0);
}

TEST_F(QueueWatchTest, DeadLettersThatNobodyKnowsMayBeThem) {
  EXPECT_EQ(after(0s, {.dead = 2}, 3, 2), 0);
  EXPECT_EQ(after(10s, {.dead = 2}, 3, 2), 1);
}

TEST_F(QueueWatchTest, WhoDidNotLookKnowsNothing) {
  EXPECT_EQ(after(0s, {}, 3), 0);
  EXPECT_EQ(after(10s, {}, 3), 3);
  watch.forget();
  EXPECT_EQ(watch.lost(), 0);
  EXPECT_FALSE(watch.at_rest(now));
  EXPECT_EQ(after(10s, {}, 3), 0);
  EXPECT_EQ(after(10s, {}, 3), 3);
}

}  // namespace
}  // namespace flexi::services::broker
