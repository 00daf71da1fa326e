// SPDX-License-Identifier: Apache-2.0
#include "runtime/policies/way_figures.hpp"

#include <gtest/gtest.h>

namespace flexi::runtime::policies {
namespace {

using namespace std::chrono_literals;
using core::ErrorKind;

TEST(WayFigures, CountsWhatTheWayIsToBlameFor) {
  Metrics metrics;
  WayFigures figures(metrics, "log", "http");
  EXPECT_EQ(figures.sample().durations.total(), 0u);
  EXPECT_EQ(metrics.expose().find("flexi_way"), std::string::npos) << "no series before the first call";
  figures.record(std::nullopt, 2ms);
  for (auto kind : core::kAllErrorKinds) figures.record(kind, 2ms);
  EXPECT_EQ(figures.sample().durations.total(), 12u);
  EXPECT_EQ(figures.sample().errors, 4);
  EXPECT_NE(metrics.expose().find("flexi_way_errors_total{action=\"log\",way=\"http\"} 4"), std::string::npos) << metrics.expose();
}

TEST(Minute, RatesOfAWindow) {
  Metrics metrics;
  WayFigures figures(metrics, "log", "http");
  Minute minute;
  EXPECT_EQ(minute.over(10s).calls_per_second, 0);
  TimePoint now(1h);
  // A minute of 10 calls a second, then 10 seconds of 100.
  for (int second = 0; second <= 70; ++second, now += 1s) {
    minute.push(now, figures.sample());
    for (int i = 0; i < (second < 60 ? 10 : 100); ++i) figures.record(second < 60 ? std::nullopt : std::optional(ErrorKind::unavailable), second < 60 ? 200us : 40ms);
  }
  EXPECT_DOUBLE_EQ(minute.over(10s).calls_per_second, 100);
  EXPECT_DOUBLE_EQ(minute.over(10s).errors_per_second, 100);
  EXPECT_NEAR(minute.over(60s).calls_per_second, 25, 0.001);
  EXPECT_GT(minute.over(10s).p50.value(), 0.025);
  EXPECT_LT(minute.over(60s).p99.value(), 0.051);
  EXPECT_EQ(minute.calls(), 1600u);
  EXPECT_EQ(minute.errors(), 1000);
}

TEST(Minute, AYoungProcessKnowsLess) {
  Metrics metrics;
  WayFigures figures(metrics, "log", "http");
  Minute minute;
  minute.push(TimePoint(1h), figures.sample());
  for (int i = 0; i < 6; ++i) figures.record(std::nullopt, 1ms);
  minute.push(TimePoint(1h) + 2s, figures.sample());
  EXPECT_DOUBLE_EQ(minute.over(60s).calls_per_second, 3);
}

}  // namespace
}  // namespace flexi::runtime::policies
