// SPDX-License-Identifier: Apache-2.0
#include "services/broker/custom_action_options.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/config.hpp"

namespace flexi::services::broker {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

CustomActions read(std::string toml, runtime::Problems* wrong = nullptr) {
  CustomActions actions;
  runtime::ConfigSources sources;
  sources.toml = std::move(toml);
  auto problems = runtime::read_config([&](runtime::OptionVisitor& v) { v.sections("actions", "Action of your own", "url", actions); }, sources);
  if (wrong) *wrong = std::move(problems);
  else EXPECT_TRUE(problems.empty()) << problems.at(0).path << ": " << problems.at(0).message;
  return actions;
}

/// "path: message" of the one problem; all of them where there are more.
std::string problem_of(std::string toml) {
  std::string all;
  for (auto& problem : validate(read(std::move(toml)))) all += (all.empty() ? "" : "\n") + problem.path + ": " + problem.message;
  return all;
}

TEST(CustomActionOptions, TargetsOfEachTransport) {
  auto actions = read("[actions.resize]\nurl = [\"http://images:9000/v1/resize?fast=1\", \"grpc://images:50001\", \"rpc://images:5001\", \"amqp:action.resize\"]\n"
                      "idempotent = true\nforbidden = [\"rpc\"]\n[actions.report]\nurl = \"http://[::1]:8000\"\n");
  EXPECT_TRUE(validate(actions).empty());
  auto targets = actions["resize"].targets();
  ASSERT_EQ(targets.size(), 4u);
  EXPECT_EQ(targets[0].via, core::Via::http);
  EXPECT_EQ(targets[0].endpoint, "http://images:9000/v1/resize?fast=1");
  EXPECT_EQ(targets[1].via, core::Via::grpc);
  EXPECT_EQ(targets[2].via, core::Via::rpc);
  EXPECT_EQ(targets[3].via, core::Via::amqp);
  EXPECT_EQ(targets[3].endpoint, "action.resize");
  EXPECT_TRUE(actions["resize"].route.may_repeat());
  EXPECT_FALSE(actions["report"].route.may_repeat());
  EXPECT_FALSE(actions["report"].has_own_consumer());
  EXPECT_TRUE(actions["resize"].has_own_consumer());
  EXPECT_EQ(parse_action_target("grpcs://images:443").value().via, core::Via::grpc);
}

TEST(CustomActionOptions, WrongNames) {
  for (auto* name : {"auth", "log", "mail", "hit", "action", "via", "ack", "id"})
    EXPECT_THAT(problem_of("[actions." + std::string(name) + "]\nurl = \"http://a:1/\"\n"), HasSubstr(std::string(name) + ": is taken")) << name;
  for (auto name : {std::string("1st"), std::string("-a"), std::string("_a"), std::string(49, 'a')})
    EXPECT_THAT(problem_of("[actions." + name + "]\nurl = \"http://a:1/\"\n"), HasSubstr("must begin with a letter")) << name;
  EXPECT_EQ(problem_of("[actions." + std::string(48, 'a') + "]\nurl = \"http://a:1/\"\n"), "");
  // A dot is for our own: "logs.list". The reader of the file says so.
  runtime::Problems wrong;
  EXPECT_TRUE(read("[actions.\"logs.list\"]\nurl = \"http://a:1/\"\n", &wrong).empty());
  EXPECT_EQ(wrong.size(), 1u);
}

TEST(CustomActionOptions, WrongTargets) {
  EXPECT_THAT(problem_of("[actions.a]\nack = \"stored\"\n"), HasSubstr("a.url: is required"));
  for (auto* url : {"ftp://a:1", "https://a:1/", "a:1", "http:/a", "http://", "http://:80/", "http://a:0/", "http://a:99999/", "http://user@a:1/", "http://a:1/two words",
                    "http://a:1/#part", "grpc://a:1/path", "rpc://", "amqp:", "amqp:action.", "amqp://guest@rabbitmq", ""})
    EXPECT_THAT(problem_of("[actions.a]\nurl = [\"" + std::string(url) + "\"]\n"), HasSubstr("a.url: ")) << url;
  EXPECT_THAT(problem_of("[actions.a]\nurl = \"http://a:1/\\r\\nX-Evil: 1\"\n"), HasSubstr("a.url: "));
  EXPECT_THAT(problem_of("[actions.a]\nurl = [\"http://a:1/\", \"http://b:1/\"]\n"), HasSubstr("has two of http"));
  EXPECT_THAT(problem_of("[actions.a]\nurl = \"amqp:action.b\"\nack = \"accepted\"\n"), HasSubstr("amqp:action.a"));
}

TEST(CustomActionOptions, WhatCanNeverBeAnsweredIsRefused) {
  EXPECT_THAT(problem_of("[actions.a]\nurl = \"amqp:action.a\"\n"), HasSubstr("a.ack: must be accepted"));
  EXPECT_EQ(problem_of("[actions.a]\nurl = \"amqp:action.a\"\nack = \"accepted\"\n"), "");
  EXPECT_THAT(problem_of("[actions.a]\nurl = \"http://a:1/\"\nforbidden = [\"http\", \"amqp\"]\n"), HasSubstr("a.stored_order: names no transport"));
  EXPECT_THAT(problem_of("[actions.a]\nurl = \"http://a:1/\"\nack = \"accepted\"\naccepted_order = [\"grpc\"]\n"), HasSubstr("a.accepted_order: names no transport"));
  EXPECT_THAT(problem_of("[actions.a]\nurl = \"http://a:1/\"\nforbidden = [\"htp\"]\n"), HasSubstr("a.forbidden: "));
}

}  // namespace
}  // namespace flexi::services::broker
