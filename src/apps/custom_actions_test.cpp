// SPDX-License-Identifier: Apache-2.0
#include "apps/custom_actions.hpp"

#include <gtest/gtest.h>

#include "runtime/policies/scripted_handler.hpp"

namespace flexi::apps {
namespace {

using core::Via;
using runtime::policies::call;
using runtime::policies::request_of;
using runtime::policies::ScriptedHandler;
using services::broker::BrokerWay;

class ScriptedClient final : public core::Client {
 public:
  explicit ScriptedClient(ScriptedHandler& handler) : handler_(handler) {}
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override {
    return handler_.handle(std::move(request), std::move(context));
  }
  core::awaitable<void> stop(core::StopOptions) override { co_return; }

 private:
  ScriptedHandler& handler_;
};

struct CustomActionsTest : testing::Test {
  std::unique_ptr<CustomServices> open(std::vector<std::string> url) {
    services::broker::CustomActions actions;
    actions["resize"].url = std::move(url);
    auto connect = [this](const std::string&) -> core::Result<std::unique_ptr<core::Client>> {
      return std::unique_ptr<core::Client>(std::make_unique<ScriptedClient>(http));
    };
    return std::move(CustomServices::open(actions, connect, {})).value();
  }
  /// The spool, and what goes past it while RabbitMQ is there.
  BrokerWay queue() { return {Via::amqp, spool, &straight}; }
  ScriptedHandler http, spool, straight;
};

TEST_F(CustomActionsTest, TheWayToAConsumerOfTheUsersOwnHasItsStraightWay) {
  auto services = open({"http://127.0.0.1:1/", "amqp:action.resize"});
  const auto actions = services->broker_actions(queue());
  ASSERT_EQ(actions.size(), 1u);
  ASSERT_EQ(actions[0].ways.size(), 2u);
  const auto& way = actions[0].ways[1];
  ASSERT_EQ(way.via, Via::amqp);
  ASSERT_NE(way.straight, nullptr) << "else auto would spool before it tries another way";
  auto request = request_of("resize");
  request.ack = core::Ack::accepted;
  EXPECT_TRUE(call(*way.straight, request));
  EXPECT_EQ(straight.calls(), 1u);
  EXPECT_EQ(spool.calls(), 0u);
  EXPECT_TRUE(call(way.handler.get(), request));
  EXPECT_EQ(spool.calls(), 1u);
  request.ack = core::Ack::stored;
  EXPECT_EQ(call(*way.straight, request).error().kind, core::ErrorKind::invalid_argument);
}

TEST_F(CustomActionsTest, AQueueWithoutASpoolHasNone) {
  auto services = open({"amqp:action.resize"});
  EXPECT_EQ(services->broker_actions(BrokerWay{Via::amqp, spool})[0].ways[0].straight, nullptr);
}

}  // namespace
}  // namespace flexi::apps
