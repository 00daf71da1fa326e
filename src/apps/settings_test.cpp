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
