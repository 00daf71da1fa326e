// SPDX-License-Identifier: Apache-2.0
#include "services/broker/make_broker.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>

#include <list>

#include "services/broker/broker_fixture.hpp"

namespace flexi::services::broker {
namespace {

namespace asio = boost::asio;
using MakeBrokerTest = BrokerFixture;

TEST_F(MakeBrokerTest, WhatItDoesIsCounted) {
  auto broker = make();
  EXPECT_TRUE(call(*broker, request_of("hit")));
  EXPECT_TRUE(call(*broker, contract_request("log")));
  EXPECT_FALSE(call(*broker, request_of("made-up")));
  EXPECT_TRUE(call(*broker, request_of("logs.list")));
  const auto text = metrics.expose();
  for (auto line : {R"(action="hit",outcome="ok",way="")", R"(action="log",outcome="ok",way="amqp")", R"(action="other",outcome="invalid_argument",way="")",
                    R"(action="logs.list",outcome="ok",way="")"})
    EXPECT_NE(text.find("flexi_requests_total{" + std::string(line) + "} 1"), std::string::npos) << line << "\n" << text;
  EXPECT_EQ(text.find("made-up"), std::string::npos);
}

TEST_F(MakeBrokerTest, TheRateLimitStandsBeforeEveryRequest) {
  options.rate_limit.per_second = 1;
  options.rate_limit.burst = 2;
  auto broker = make();
  EXPECT_TRUE(call(*broker, request_of("hit")));
  EXPECT_TRUE(call(*broker, contract_request("log")));
  auto refused = call(*broker, contract_request("log"));
  EXPECT_EQ(refused.error().kind, ErrorKind::overloaded);
  EXPECT_TRUE(refused.error().retry_after.has_value());
  EXPECT_EQ(calls(), 1u);
  EXPECT_EQ(call(*broker, request_of("made-up")).error().kind, ErrorKind::overloaded);
}

TEST_F(MakeBrokerTest, WhoReadsOrAdministersIsNotLimited) {
  options.rate_limit.per_second = 1;
  options.rate_limit.burst = 1;
  auto broker = make();
  EXPECT_TRUE(call(*broker, contract_request("log")));
  EXPECT_EQ(call(*broker, contract_request("log")).error().kind, ErrorKind::overloaded);
  for (auto action : {"logs.list", "dlq.list"}) {
    EXPECT_TRUE(call(*broker, request_of(action))) << action;
    EXPECT_TRUE(call(*broker->services(), request_of(action))) << action;
  }
  EXPECT_TRUE(call(*broker, request_of("logs.list"))) << "nor does looking use up the requests' room";
}

TEST_F(MakeBrokerTest, TheServicesShareTheBrokersRateLimit) {
  options.rate_limit.per_second = 1;
  options.rate_limit.burst = 2;
  auto broker = make();
  EXPECT_TRUE(call(*broker, contract_request("log")));
  EXPECT_TRUE(call(*broker->services(), contract_request("log")));
  for (core::Handler* door : {static_cast<core::Handler*>(broker.get()), broker->services()}) {
    auto refused = call(*door, contract_request("log"));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::overloaded);
    EXPECT_TRUE(refused.error().retry_after.has_value());
  }
  EXPECT_EQ(services.calls(), 1u);
}

TEST_F(MakeBrokerTest, TheServicesAreCountedAsTheBrokersActions) {
  auto broker = make();
  EXPECT_TRUE(call(*broker->services(), contract_request("log")));
  EXPECT_NE(metrics.expose().find(R"(flexi_requests_total{action="log",outcome="ok",way=""} 1)"), std::string::npos) << metrics.expose();
}

TEST_F(MakeBrokerTest, AKeyIsTheSameKeyAtBothDoors) {
  auto broker = make();
  auto request = contract_request("log");
  request.id = core::MessageId::parse("order-17").value();
  request.id_from_caller = true;
  EXPECT_TRUE(call(*broker->services(), request));
  EXPECT_TRUE(call(*broker->services(), request)) << "the same again is the destination's business";
  request.payload = core::LogEntry{"n", "another"};
  EXPECT_EQ(call(*broker, request).error().kind, ErrorKind::conflict);
  EXPECT_EQ(call(*broker->services(), request).error().kind, ErrorKind::conflict);
  EXPECT_EQ(services.calls(), 2u);
}

TEST_F(MakeBrokerTest, AProcessWithoutServicesHasNoSuchDoor) {
  auto without = parts();
  without.services = nullptr;
  EXPECT_EQ(make_broker(std::move(without), options)->services(), nullptr);
}

core::awaitable<void> call_into(core::Handler& handler, core::Request request, std::vector<core::Result<core::Reply>>& answers) {
  answers.push_back(co_await handler.handle(std::move(request), {}));
}

TEST_F(MakeBrokerTest, ASlowActionTakesNoOthersPlaces) {
  options.concurrency = {.initial = 50, .min = 50, .max = 50};
  auto broker = make();
  inproc.hang = true;
  asio::io_context io{1};
  std::list<asio::cancellation_signal> signals;
  std::vector<core::Result<core::Reply>> logins, others;
  for (int i = 0; i < 1000; ++i)
    asio::co_spawn(io, call_into(*broker, contract_request("auth"), logins), asio::bind_cancellation_slot(signals.emplace_back().slot(), [](std::exception_ptr) {}));
  io.poll();
  EXPECT_EQ(inproc.running, 50);
  EXPECT_EQ(call(*broker->services(), contract_request("auth")).error().kind, ErrorKind::overloaded) << "both doors share the places";
  ASSERT_EQ(logins.size(), 950u);
  for (auto& login : logins) EXPECT_EQ(login.error().kind, ErrorKind::overloaded);
  for (auto action : {"log", "hit", "logs.list"}) asio::co_spawn(io, call_into(*broker, contract_request(action), others), [](std::exception_ptr) {});
  io.restart();
  io.poll();
  ASSERT_EQ(others.size(), 3u);
  for (auto& other : others) EXPECT_TRUE(other);
  for (auto& signal : signals) signal.emit(asio::cancellation_type::terminal);
  io.restart();
  io.run();
  EXPECT_EQ(inproc.running, 0);
}

TEST_F(MakeBrokerTest, ARemoteWayMayGetAShareOfTheTime) {
  options.attempt_timeout = std::chrono::milliseconds(5);
  options.log.stored_order = {"http", "inproc"};
  auto broker = make();
  http.hang = true;
  auto answer = call(*broker, contract_request("log", Via::automatic, Ack::stored));
  EXPECT_EQ(answer.value().way, "inproc;fallback-from=http");
  EXPECT_EQ(http.cancelled, 1);
}

TEST_F(MakeBrokerTest, CustomActionsMayBringTheirOwnOptions) {
  auto with_own = parts();
  with_own.actions[3].options = RouteOptions{.ack = "accepted", .accepted_order = {"http"}, .forbidden = {"amqp"}};
  auto broker = make_broker(std::move(with_own), options);
  EXPECT_EQ(call(*broker, contract_request("invoice")).value().way, "http");
  EXPECT_EQ(call(*broker, contract_request("invoice", Via::amqp)).error().kind, ErrorKind::permission_denied);
}

}  // namespace
}  // namespace flexi::services::broker
