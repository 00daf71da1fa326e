// SPDX-License-Identifier: Apache-2.0
#include "apps/loop_back.hpp"

#include <gtest/gtest.h>

#include "runtime/policies/scripted_handler.hpp"

namespace flexi::apps {
namespace {

using runtime::policies::call;
using runtime::policies::request_of;
using runtime::policies::ScriptedHandler;

core::Request with_id(std::string_view id) {
  auto request = request_of("log");
  request.id = core::MessageId::parse(id).value();
  return request;
}

struct LoopBackTest : testing::Test {
  OwnCalls calls;
  ScriptedHandler services, limited;
  ServicesDoor door{calls, services, limited};
  LoopBack loop{calls};
};

TEST_F(LoopBackTest, BeforeThereIsAListenerItIsUnavailable) {
  EXPECT_EQ(call(loop, with_id("a")).error().kind, core::ErrorKind::unavailable);
  EXPECT_FALSE(calls.holds("a"));
}

TEST_F(LoopBackTest, OwnCallsPassTheLimitOnce) {
  loop.set(door);
  EXPECT_TRUE(call(loop, with_id("a")));
  EXPECT_EQ(services.calls(), 1u);
  EXPECT_EQ(limited.calls(), 0u);
  EXPECT_FALSE(calls.holds("a")) << "it is forgotten with its answer";
}

TEST_F(LoopBackTest, OthersAreLimitedAlsoWhileOwnCallsAreUnderWay) {
  const OwnCalls::Note own(calls, "own");
  EXPECT_TRUE(call(door, with_id("a-stranger")));
  EXPECT_EQ(limited.calls(), 1u);
  EXPECT_EQ(services.calls(), 0u);
}

TEST_F(LoopBackTest, AnIdMayBeUnderWayTwice) {
  const OwnCalls::Note first(calls, "key");
  { const OwnCalls::Note second(calls, "key"); }
  EXPECT_TRUE(calls.holds("key"));
}

}  // namespace
}  // namespace flexi::apps
