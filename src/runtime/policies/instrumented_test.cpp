// SPDX-License-Identifier: Apache-2.0
#include "runtime/policies/instrumented.hpp"

#include <gtest/gtest.h>

#include "runtime/policies/scripted_handler.hpp"

namespace flexi::runtime::policies {
namespace {

using namespace std::chrono_literals;

struct InstrumentedTest : testing::Test {
  double count(const char* action, const char* way, const char* outcome) {
    return metrics.counter("flexi_requests_total", "Requests by action, transport and outcome", {{"action", action}, {"way", way}, {"outcome", outcome}}).value();
  }
  Metrics metrics;
  ManualClock clock;
  ScriptedHandler inner;
  Instrumented instrumented{inner, metrics, {"log", "mail"}, clock.now()};
};

TEST_F(InstrumentedTest, CountsByActionWayAndOutcome) {
  inner.way = "amqp;queue=embedded";
  EXPECT_TRUE(call(instrumented, request_of("log")));
  EXPECT_TRUE(call(instrumented, request_of("log")));
  inner.duplicate = true;
  EXPECT_TRUE(call(instrumented, request_of("log")));
  inner.fail(core::unavailable("down"));
  EXPECT_FALSE(call(instrumented, request_of("mail")));
  EXPECT_EQ(count("log", "amqp", "ok"), 2);
  EXPECT_EQ(count("log", "amqp", "duplicate"), 1);
  EXPECT_EQ(count("mail", "", "unavailable"), 1);
}

TEST_F(InstrumentedTest, StrangeLabelsStayBounded) {
  for (int i = 0; i < 100; ++i) {
    inner.way = "way" + std::to_string(i);
    EXPECT_TRUE(call(instrumented, request_of("action" + std::to_string(i))));
  }
  EXPECT_EQ(count("other", "", "ok"), 100);
  EXPECT_EQ(metrics.expose().find("action7"), std::string::npos);
}

TEST_F(InstrumentedTest, MeasuresTheTime) {
  inner.on_call = [this] { clock.time += 3ms; };
  EXPECT_TRUE(call(instrumented, request_of("log")));
  const auto text = metrics.expose();
  EXPECT_NE(text.find("flexi_request_duration_seconds_bucket{action=\"log\",le=\"0.0025\"} 0"), std::string::npos) << text;
  EXPECT_NE(text.find("flexi_request_duration_seconds_bucket{action=\"log\",le=\"0.005\"} 1"), std::string::npos) << text;
}

TEST_F(InstrumentedTest, AThrowingHandlerIsInternalAndALeavingCallerIsCancelled) {
  inner.on_call = [] { throw std::runtime_error("bug"); };
  EXPECT_THROW((void)call(instrumented, request_of("log")), std::runtime_error);
  inner.on_call = [] { throw boost::system::system_error(boost::asio::error::operation_aborted); };
  EXPECT_THROW((void)call(instrumented, request_of("log")), boost::system::system_error);
  EXPECT_EQ(count("log", "", "internal"), 1);
  EXPECT_EQ(count("log", "", "cancelled"), 1);
}

TEST_F(InstrumentedTest, WhatNeverHappenedIsNotExposed) { EXPECT_EQ(metrics.expose().find("flexi_requests_total"), std::string::npos); }

}  // namespace
}  // namespace flexi::runtime::policies
