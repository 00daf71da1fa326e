// SPDX-License-Identifier: Apache-2.0
#include "runtime/buckets.hpp"

#include <gtest/gtest.h>

#include "runtime/metrics.hpp"

namespace flexi::runtime {
namespace {

TEST(Buckets, AQuantileLiesWithinItsBucket) {
  const Buckets buckets{{1, 2, 4}, {10, 0, 10, 0}};
  EXPECT_DOUBLE_EQ(buckets.quantile(0.25).value(), 0.5);
  EXPECT_DOUBLE_EQ(buckets.quantile(0.5).value(), 1.0);
  EXPECT_DOUBLE_EQ(buckets.quantile(0.75).value(), 3.0);
  EXPECT_DOUBLE_EQ(buckets.quantile(1).value(), 4.0);
  EXPECT_EQ(buckets.total(), 20u);
}

TEST(Buckets, WhatLiesAboveTheLastBoundCountsAsThatBound) {
  EXPECT_DOUBLE_EQ((Buckets{{1, 2}, {1, 0, 99}}.quantile(0.99).value()), 2.0);
}

TEST(Buckets, NothingHasNoQuantile) {
  EXPECT_FALSE((Buckets{{1, 2}, {0, 0, 0}}.quantile(0.5)));
  EXPECT_FALSE(Buckets{}.quantile(0.5));
}

TEST(Buckets, OnlyWhatCameSince) {
  const Buckets earlier{{1, 2}, {5, 0, 1}}, now{{1, 2}, {5, 4, 1}};
  EXPECT_EQ(now.since(earlier).total(), 4u);
  EXPECT_DOUBLE_EQ(now.since(earlier).quantile(0.5).value(), 1.5);
  EXPECT_EQ(now.since({}).total(), 10u);
}

TEST(Buckets, OfAHistogram) {
  Metrics metrics;
  auto histogram = metrics.histogram("flexi_test_seconds", "Test");
  EXPECT_EQ(histogram.buckets().total(), 0u);
  for (int i = 0; i < 100; ++i) histogram.observe(0.0015);
  histogram.observe(100);
  const auto buckets = histogram.buckets();
  EXPECT_EQ(buckets.total(), 101u);
  EXPECT_EQ(buckets.counts.size(), buckets.bounds.size() + 1);
  EXPECT_GT(buckets.quantile(0.5).value(), 0.001);
  EXPECT_LE(buckets.quantile(0.5).value(), 0.0025);
  EXPECT_EQ(buckets.counts.back(), 1u);
}

}  // namespace
}  // namespace flexi::runtime
