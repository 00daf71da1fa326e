// SPDX-License-Identifier: Apache-2.0
#include "apps/settings.hpp"

#include <gtest/gtest.h>

#include <set>

namespace flexi::apps {
namespace {

TEST(Settings, TheDefaultsAreValid) {
  for (auto& problem : Settings().validate()) ADD_FAILURE() << problem.path << ": " << problem.message;
}

TEST(Settings, EveryNameIsUniqueAndDescribed) {
  std::set<std::string> flags, variables;
  const auto settings = runtime::list_settings([](runtime::OptionVisitor& v) { Settings().describe(v); });
  EXPECT_GT(settings.size(), 50u);
  for (auto& setting : settings) {
    EXPECT_TRUE(flags.insert(setting.flag).second) << setting.flag;
    EXPECT_TRUE(variables.insert(setting.env).second) << setting.env;
    EXPECT_FALSE(setting.doc.empty()) << setting.key;
  }
}

TEST(Settings, AStopEndsBeforeDockerKills) {
  EXPECT_LE(Settings().stop_grace + std::chrono::seconds(2), std::chrono::seconds(10)) << "what has to close after the grace needs a moment, too";
}

std::string problems_of(const runtime::Problems& problems) {
  std::string all;
  for (auto& problem : problems) all += problem.path + ": " + problem.message + "\n";
  return all;
}

TEST(Settings, TwoListenersNeedTwoAddresses) {
  Settings settings;
  settings.http.listen = "127.0.0.1:9000";
  for (auto* listen : {"127.0.0.1:9000", "localhost:9000", "0.0.0.0:9000"}) {
    settings.grpc.listen = listen;
    EXPECT_NE(problems_of(settings.validate()).find("grpc.listen: " + std::string(listen) + " is taken by http.listen"), std::string::npos) << listen;
  }
  for (auto* listen : {"127.0.0.1:9001", "127.0.0.2:9000", ""}) {
    settings.grpc.listen = listen;
    EXPECT_EQ(problems_of(settings.validate()), "") << listen;
  }
  settings.http.listen = settings.grpc.listen = settings.rpc.listen = "127.0.0.1:0";
  EXPECT_EQ(problems_of(settings.validate()), "") << "each gets a free port";
}

TEST(Settings, FilesThatAreNamedMustBeThere) {
  Settings settings;
  EXPECT_EQ(problems_of(settings.check_files()), "");
  settings.admin_token_file = settings.smtp.ca_file = settings.grpc.key_file = "/no/such/file";
  EXPECT_EQ(problems_of(settings.check_files()), "admin_token_file: can't read /no/such/file\ngrpc.key_file: can't read /no/such/file\n")
      << "that of an SMTP server only where there is one";
  settings.smtp.host = "mail.example.com";
  settings.admin_token_file = settings.grpc.key_file = "";
  EXPECT_EQ(problems_of(settings.check_files()), "smtp.ca_file: can't read /no/such/file\n");
  settings.smtp.ca_file = "/etc/passwd";
  EXPECT_NE(problems_of(settings.check_files()).find("smtp.ca_file: /etc/passwd is no PEM file"), std::string::npos);
}

TEST(Settings, WhatTheBrokerAcceptsItsWaysMustCarry) {
  const auto paths = [](const Settings& settings) {
    std::vector<std::string> all;
    for (auto& problem : settings.validate()) all.push_back(problem.path);
    return all;
  };
  Settings settings;
  settings.broker.max_payload_bytes = 8 << 20;
  EXPECT_EQ(paths(settings), std::vector<std::string>{"broker.max_payload_bytes"});
  settings.rpc_client.max_request_bytes = 8 << 20;
  EXPECT_EQ(paths(settings), std::vector<std::string>{});
  settings.amqp.url = "amqp://localhost";
  EXPECT_EQ(paths(settings), std::vector<std::string>{"broker.max_payload_bytes"});
}

TEST(Settings, TheExampleUserStaysOnLoopback) {
  Settings settings;
  for (auto* listen : {"127.0.0.1:8080", "localhost:0", "[::1]:80", "127.5.0.1:1"}) {
    settings.http.listen = listen;
    EXPECT_TRUE(settings.wants_example_user()) << listen;
  }
  for (auto* listen : {"0.0.0.0:8080", "[::]:8080", "192.0.2.7:80"}) {
    settings.http.listen = listen;
    EXPECT_FALSE(settings.wants_example_user()) << listen;
  }
  settings.example_user = "yes";
  EXPECT_TRUE(settings.wants_example_user());
}

TEST(Settings, ATokenThatIsAlwaysWantedMustBeThere) {
  Settings settings;
  settings.admin_token_always = true;
  ASSERT_EQ(settings.validate().size(), 1u);
  EXPECT_EQ(settings.validate().front().path, "admin_token_always");
  settings.admin_token_file = "token";
  EXPECT_TRUE(settings.validate().empty());
}

TEST(Settings, ClientsFindTheServerOfTheSameSettings) {
  Settings settings;
  for (auto [listen, url] : {std::pair{"127.0.0.1:9000", "http://127.0.0.1:9000"}, {"0.0.0.0:80", "http://127.0.0.1:80"}, {"[::]:80", "http://[::1]:80"},
                             {"192.0.2.7:80", "http://192.0.2.7:80"}, {"127.0.0.1:0", "http://127.0.0.1:8080"}, {"nonsense", "http://127.0.0.1:8080"}}) {
    settings.http.listen = listen;
    EXPECT_EQ(settings.local_url(), url) << listen;
  }
}

}  // namespace
}  // namespace flexi::apps
