// SPDX-License-Identifier: Apache-2.0
#include "services/broker/broker_options.hpp"

#include <gtest/gtest.h>

#include "runtime/config.hpp"

namespace flexi::services::broker {
namespace {

std::vector<std::string> paths(const runtime::Problems& problems) {
  std::vector<std::string> all;
  for (auto& problem : problems) all.push_back(problem.path);
  return all;
}

TEST(BrokerOptions, DefaultsAreRight) { EXPECT_TRUE(BrokerOptions{}.validate().empty()); }

TEST(BrokerOptions, OrdersAreReadFromText) {
  BrokerOptions options;
  runtime::ConfigSources sources;
  sources.environment = {{"FLEXI_BROKER_LOG_ACCEPTED_ORDER", "amqp,inproc"}, {"FLEXI_BROKER_CUSTOM_IDEMPOTENT", "true"}};
  sources.toml = "[broker.mail]\nforbidden = [\"http\", \"inproc\"]\n[broker.retry]\nattempts = 2\n";
  auto problems = runtime::read_config([&options](runtime::OptionVisitor& v) { v.group("broker", "Broker", options); }, sources);
  EXPECT_TRUE(problems.empty()) << problems.at(0).path << ": " << problems.at(0).message;
  EXPECT_EQ(vias_of(options.log.accepted_order), (std::vector{core::Via::amqp, core::Via::inproc}));
  EXPECT_EQ(options.mail.forbidden, (std::vector<std::string>{"http", "inproc"}));
  EXPECT_TRUE(options.custom.may_repeat());
  EXPECT_FALSE(options.mail.may_repeat());
  EXPECT_EQ(options.retry.attempts, 2);
}

TEST(BrokerOptions, AuthenticationHasNoAcknowledgementToChoose) {
  BrokerOptions options;
  runtime::ConfigSources sources;
  sources.environment = {{"FLEXI_BROKER_AUTH_ACK", "accepted"}};
  EXPECT_EQ(runtime::read_config([&options](runtime::OptionVisitor& v) { v.group("broker", "Broker", options); }, sources).size(), 1u);
}

TEST(BrokerOptions, AllThatIsWrongIsSaidAtOnce) {
  BrokerOptions options;
  options.log.ack = "perhaps";
  options.log.stored_order = {"inproc", "auto"};
  options.mail.accepted_order = {"amqp", "amqp"};
  options.custom.forbidden = {"inproc", "http", "grpc", "rpc", "amqp"};
  options.retry.attempts = 0;
  EXPECT_EQ(paths(options.validate()), (std::vector<std::string>{"log.ack", "log.stored_order", "mail.accepted_order", "custom.accepted_order",
                                                                "custom.stored_order", "retry.attempts"}));
}

}  // namespace
}  // namespace flexi::services::broker
