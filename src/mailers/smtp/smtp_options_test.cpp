// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <set>

#include "mailers/smtp/smtp_mailer.hpp"
#include "runtime/config.hpp"

namespace flexi::mailers::smtp {
namespace {

TEST(SmtpOptions, DefaultsAreValidAndUnconfigured) {
  SmtpOptions options;
  EXPECT_TRUE(options.validate().empty());
  EXPECT_FALSE(options.configured());
}

TEST(SmtpOptions, NamesEveryProblem) {
  SmtpOptions options;
  options.host = "mail host/";
  options.port = 0;
  options.password = "x\r\ny";
  options.encryption = "starttls";
  options.connections = 0;
  std::set<std::string> paths;
  for (auto& problem : options.validate()) paths.insert(problem.path);
  EXPECT_EQ(paths, (std::set<std::string>{"host", "port", "username", "password", "encryption", "connections"}));
}

TEST(SmtpOptions, TakesTheContractsEnvironment) {
  SmtpOptions options;
  runtime::ConfigSources sources;
  sources.environment = {{"MAIL_HOST", "mailhog"}, {"MAIL_PORT", "2525"}, {"MAIL_USERNAME", "u"}, {"MAIL_PASSWORD", "p"}, {"MAIL_ENCRYPTION", ""}};
  auto problems = runtime::read_config([&](runtime::OptionVisitor& v) { v.group("smtp", "", options); }, sources);
  EXPECT_TRUE(problems.empty()) << (problems.empty() ? "" : problems[0].message);
  EXPECT_EQ(options.host, "mailhog");
  EXPECT_EQ(options.port, 2525);
  EXPECT_EQ(options.password, "p");
  EXPECT_TRUE(options.validate().empty());
}

}  // namespace
}  // namespace flexi::mailers::smtp
