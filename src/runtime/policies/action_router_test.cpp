// SPDX-License-Identifier: Apache-2.0
#include "runtime/policies/action_router.hpp"

#include <gtest/gtest.h>

#include "runtime/policies/scripted_handler.hpp"

namespace flexi::runtime::policies {
namespace {

TEST(ActionRouter, ExactWinsOverPrefixAndTheLongerPrefixWins) {
  ScriptedHandler log, logs, tail, tails;
  ActionRouter router({{"logs.", logs}, {"log", log}, {"logs.tail.", tails}, {"logs.tail", tail}});
  for (auto& [action, handler] : {std::pair<const char*, ScriptedHandler*>{"log", &log}, {"logs.list", &logs}, {"logs.tail", &tail}, {"logs.tail.x", &tails}}) {
    EXPECT_TRUE(call(router, request_of(action)));
    EXPECT_EQ(handler->calls(), 1u) << action;
  }
}

TEST(ActionRouter, UnknownActionsAreUnimplementedOrGoElsewhere) {
  ScriptedHandler log, other;
  ActionRouter router({{"log", log}, {"logs.", log}});
  for (auto action : {"", "lo", "logx", "logs", "logs."}) {
    auto refused = call(router, request_of(action));
    ASSERT_FALSE(refused) << action;
    EXPECT_EQ(refused.error().kind, core::ErrorKind::unimplemented);
    EXPECT_EQ(refused.error().message, "unknown action");
  }
  ActionRouter open({{"log", log}}, &other);
  EXPECT_TRUE(call(open, request_of("nothing")));
  EXPECT_EQ(other.calls(), 1u);
  EXPECT_EQ(log.calls(), 0u);
}

TEST(ActionRouter, RoutingTwiceIsABug) {
  ScriptedHandler log;
  EXPECT_THROW(ActionRouter({{"log", log}, {"log", log}}), std::invalid_argument);
  EXPECT_THROW(ActionRouter({{"logs.", log}, {"logs.", log}}), std::invalid_argument);
}

}  // namespace
}  // namespace flexi::runtime::policies
