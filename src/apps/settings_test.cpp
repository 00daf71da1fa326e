// SPDX-License-Identifier: Apache-2.0
#include "apps/settings.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
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

TEST(Settings, InAContainerAServiceHasTheContractsPorts) {
  for (auto& role : kRoles) {
    const auto settings = Settings::of(role.role, Profile::container);
    EXPECT_EQ(settings.http.listen, "0.0.0.0:80") << role.command;
    EXPECT_EQ(settings.grpc.listen, role.grpc.empty() ? "" : "0.0.0.0:50001") << role.command;
    EXPECT_EQ(settings.rpc.listen, role.rpc.empty() ? "" : "0.0.0.0:5001") << role.command;
    EXPECT_EQ(settings.local_url(), "http://127.0.0.1:80") << "what healthcheck asks";
    EXPECT_FALSE(settings.wants_example_user()) << role.command;
  }
}

TEST(Settings, OnAHostNoTwoServicesMeet) {
  std::set<std::string_view> taken;
  for (auto& role : kRoles)
    for (auto& address : {role.http, role.grpc, role.rpc})
      if (!role.command.empty() && !address.empty()) EXPECT_TRUE(taken.insert(address).second) << role.command << " " << address;
}

TEST(Settings, InAContainerTheOthersHaveTheContractsNames) {
  const auto broker = Settings::of(Role::broker, Profile::container);
  EXPECT_EQ(broker.peers.authentication, (std::vector<std::string>{"http://authentication-service:80", "grpc://authentication-service:50001", "rpc://authentication-service:5001"}));
  EXPECT_EQ(broker.peers.logger, (std::vector<std::string>{"http://logger-service:80", "grpc://logger-service:50001", "rpc://logger-service:5001"}));
  EXPECT_EQ(broker.peers.mail, (std::vector<std::string>{"http://mail-service:80", "grpc://mail-service:50001", "rpc://mail-service:5001"}));
  EXPECT_EQ(broker.amqp.url, "amqp://guest:guest@rabbitmq");
  EXPECT_EQ(Settings::of(Role::listener, Profile::container).amqp.url, broker.amqp.url);
  EXPECT_EQ(Settings::of(Role::logger, Profile::container).mongo.uri, "mongodb://admin:password@mongo:27017");
  EXPECT_EQ(Settings::of(Role::mail, Profile::container).smtp.host, "mailhog");
  EXPECT_EQ(Settings::of(Role::mail).smtp.host, "") << "on a host nobody is known";
  EXPECT_FALSE(Settings::of(Role::all_in_one, Profile::container).has_rabbitmq()) << "everything in one process needs no others";
}

/// The process's environment is what a service is configured by.
class Environment {
 public:
  explicit Environment(const std::vector<std::pair<const char*, const char*>>& variables) {
    for (char** entry = ::environ; *entry; ++entry) before_.emplace_back(*entry);
    ::clearenv();  // that of the test run names servers
    for (auto& [name, value] : variables) ::setenv(name, value, 1);
  }
  ~Environment() {
    ::clearenv();
    for (auto& entry : before_) ::setenv(entry.substr(0, entry.find('=')).c_str(), entry.substr(entry.find('=') + 1).c_str(), 1);
  }
  Environment(const Environment&) = delete;

 private:
  std::vector<std::string> before_;
};

TEST(Settings, TheProfileChangesDefaultsAndNothingElse) {
  Environment environment({{"FLEXI_PROFILE", "container"}, {"FLEXI_GRPC_LISTEN", "127.0.0.1:1"}, {"FLEXI_PEERS_MAIL", "http://elsewhere:1"}});
  const auto loaded = load_settings(Role::broker, "", {{"http-listen", "127.0.0.1:2"}});
  EXPECT_EQ(problems_of(loaded.problems), "");
  EXPECT_EQ(loaded.settings.http.listen, "127.0.0.1:2");
  EXPECT_EQ(loaded.settings.grpc.listen, "127.0.0.1:1");
  EXPECT_EQ(loaded.settings.rpc.listen, "0.0.0.0:5001");
  EXPECT_EQ(loaded.settings.peers.mail, std::vector<std::string>{"http://elsewhere:1"});
  EXPECT_EQ(loaded.settings.peers.logger.front(), "http://logger-service:80");
  const auto text = runtime::print_config([copy = loaded.settings](runtime::OptionVisitor& v) mutable { copy.describe(v); });
  EXPECT_NE(text.find("\nprofile = \"container\"\n"), std::string::npos);

  const auto wrong = load_settings(Role::broker, "", {{"profile", "pod"}});
  EXPECT_NE(problems_of(wrong.problems).find("profile: must be host or container"), std::string::npos);
}

TEST(Settings, TheContractsVariablesAreWeakerThanOurs) {
  {
    Environment environment({{"AMQP_URI", "amqp://theirs"}, {"MAIL_HOST", "mail.example.com"}, {"MAIL_PORT", "25"}, {"MAIL_USERNAME", "me"}, {"MAIL_PASSWORD", "secret"},
                             {"MAIL_ENCRYPTION", "tls"}, {"MAIL_DOMAIN", "example.com"}, {"FROM_NAME", "Me"}, {"FROM_ADDRESS", "me@example.com"}, {"BROKER_URL", "http://broker.example.com"}});
    const auto settings = load_settings(Role::all_in_one, "", {}).settings;
    EXPECT_EQ(settings.amqp.url, "amqp://theirs");
    EXPECT_EQ(settings.smtp.host, "mail.example.com");
    EXPECT_EQ(settings.smtp.port, 25);
    EXPECT_EQ(settings.smtp.username, "me");
    EXPECT_EQ(settings.smtp.password, "secret");
    EXPECT_EQ(settings.smtp.encryption, "tls");
    EXPECT_EQ(settings.mail.domain, "example.com");
    EXPECT_EQ(settings.mail.from_name, "Me");
    EXPECT_EQ(settings.mail.from_address, "me@example.com");
    EXPECT_EQ(settings.front_end.broker_url, "http://broker.example.com");
  }
  Environment environment({{"AMQP_URI", "amqp://theirs"}, {"FLEXI_AMQP_URL", "amqp://ours"}, {"MAIL_HOST", "theirs"}, {"FLEXI_SMTP_HOST", "ours"}});
  const auto settings = load_settings(Role::all_in_one, "", {}).settings;
  EXPECT_EQ(settings.amqp.url, "amqp://ours");
  EXPECT_EQ(settings.smtp.host, "ours");
}

TEST(Settings, AServiceAloneNamesWhatItLacks) {
  const auto of = [](Role role) { return problems_of(Settings::of(role).validate()); };
  EXPECT_EQ(of(Role::authentication), "storage: the authentication service alone has no database: name a PostgreSQL with postgres.dsn (DSN); or \"embedded\" keeps its data in data_dir\n");
  EXPECT_EQ(of(Role::logger), "storage: the logger service alone has no database: name a MongoDB with mongo.uri (MONGO_URI); or \"embedded\" keeps its data in data_dir\n");
  EXPECT_EQ(of(Role::mail), "storage: the mail service alone has no SMTP server: name one with smtp.host (MAIL_HOST); or \"embedded\" keeps its data in data_dir\n");
  EXPECT_NE(of(Role::listener).find("amqp.url: is missing"), std::string::npos);
  for (auto role : {Role::broker, Role::front_end, Role::all_in_one}) EXPECT_EQ(of(role), "");
  for (auto role : {Role::logger, Role::mail, Role::broker, Role::listener, Role::front_end})
    EXPECT_EQ(problems_of(Settings::of(role, Profile::container).validate()), "") << "the contract's names of containers are enough";
  Environment environment({{"DSN", "host=localhost dbname=users"}, {"MONGO_URI", "mongodb://localhost"}, {"MAIL_HOST", "localhost"}});
  for (auto role : {Role::authentication, Role::logger, Role::mail}) {
    const auto loaded = load_settings(role, "", {});
    EXPECT_EQ(problems_of(loaded.problems), "");
  }
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
