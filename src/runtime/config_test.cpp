// SPDX-License-Identifier: Apache-2.0
#include "runtime/config.hpp"

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace flexi::runtime {
namespace {

using testing::HasSubstr;

struct HttpPart {
  std::string listen = "127.0.0.1:8080";
  std::int64_t limit = 10;
  std::chrono::milliseconds timeout{1500};
  std::string password = "none";
  void describe(OptionVisitor& v) {
    v.field("listen", listen, "Where to listen");
    v.field("limit", limit, "How many");
    v.field("timeout", timeout, "How long");
    v.field("password", password, "Secret", {OptionVisitor::Secret::yes, "HTTP_PASSWORD"});
  }
};

struct Everything {
  std::string data_dir = "./data";
  bool color = true;
  double ratio = 0.5;
  std::vector<std::string> names{"a"};
  HttpPart http;
  std::string last = "last";
  void describe(OptionVisitor& v) {
    v.field("data_dir", data_dir, "Where the data lies");
    v.field("color", color, "Colours");
    v.field("ratio", ratio, "Ratio");
    v.field("names", names, "Names");
    v.group("http", "The HTTP server", http);
    v.field("last", last, "A field behind a group");
  }
};

Problems read(Everything& options, ConfigSources sources) {
  return read_config([&](OptionVisitor& v) { options.describe(v); }, sources);
}

TEST(Config, ADurationThatNoClockCanBearIsRefused) {
  for (auto* text : {"36501d", "9999999999999h", "3153600000001"}) {
    Everything options;
    ConfigSources sources;
    sources.environment = {{"FLEXI_HTTP_TIMEOUT", text}};
    EXPECT_EQ(read(options, sources).size(), 1u) << text;
    EXPECT_EQ(options.http.timeout, std::chrono::milliseconds(1500)) << text;
  }
  Everything options;
  ConfigSources sources;
  sources.toml = "[http]\ntimeout = 3153600000001\n";
  EXPECT_EQ(read(options, sources).size(), 1u);
  sources.toml = "[http]\ntimeout = \"36500d\"\n";
  EXPECT_THAT(read(options, sources), testing::IsEmpty());
}

TEST(Config, LaterSourcesWin) {
  Everything options;
  ConfigSources sources;
  sources.toml = "data_dir = \"/file\"\nratio = 2\nnames = [\"x\", \"y\"]\n[http]\nlisten = \"file:1\"\nlimit = 1\ntimeout = \"2s\"\n";
  sources.environment = {{"FLEXI_HTTP_LISTEN", "env:2"}, {"FLEXI_HTTP_LIMIT", "2"}, {"HTTP_PASSWORD", "contract"}, {"PATH", "/bin"}};
  sources.flags = {{"http-limit", "3"}};
  EXPECT_THAT(read(options, sources), testing::IsEmpty());
  EXPECT_EQ(options.data_dir, "/file");
  EXPECT_EQ(options.ratio, 2);
  EXPECT_THAT(options.names, testing::ElementsAre("x", "y"));
  EXPECT_EQ(options.http.listen, "env:2");
  EXPECT_EQ(options.http.limit, 3);
  EXPECT_EQ(options.http.timeout, std::chrono::seconds(2));
  EXPECT_EQ(options.http.password, "contract");
}

TEST(Config, AllProblemsComeAtOnce) {
  Everything options;
  ConfigSources sources;
  sources.file_name = "flexi.toml";
  sources.toml = "data_dirr = \"x\"\ncolor = \"red\"\n[http]\nlimit = \"many\"\n[htp]\nlisten = \"x\"\n";
  sources.environment = {{"FLEXI_HTTP_TIMEOUT", "soon"}, {"FLEXI_HTTP_LISTN", "x"}};
  sources.flags = {{"ratio", "half"}, {"http-password", "on the command line"}};
  std::map<std::string, std::string> found;
  for (auto& problem : read(options, sources)) found[problem.path] = problem.message;
  EXPECT_EQ(found.size(), 8u);
  EXPECT_THAT(found["data_dirr"], HasSubstr("did you mean data_dir?"));
  EXPECT_THAT(found["color"], HasSubstr("must be true or false (flexi.toml)"));
  EXPECT_THAT(found["http.limit"], HasSubstr("must be an integer"));
  EXPECT_THAT(found["htp"], HasSubstr("is not a known setting"));
  EXPECT_THAT(found["FLEXI_HTTP_TIMEOUT"], HasSubstr("must be a duration"));
  EXPECT_THAT(found["FLEXI_HTTP_LISTN"], HasSubstr("did you mean FLEXI_HTTP_LISTEN?"));
  EXPECT_THAT(found["--ratio"], HasSubstr("must be a number, not \"half\""));
  EXPECT_THAT(found["--http-password"], HasSubstr("is not a known setting"));
}

TEST(Config, WhatIsPrintedIsReadAgainWhateverTheText) {
  Everything options;
  ConfigSources sources;
  const std::string odd = "tab\t line\r\n bell\a del\x7f quote\" slash\\ \xC3\xA9";
  sources.environment = {{"FLEXI_LAST", odd}};
  ASSERT_THAT(read(options, sources), testing::IsEmpty());
  Everything again;
  ConfigSources printed;
  printed.toml = print_config([&](OptionVisitor& v) { options.describe(v); });
  EXPECT_THAT(read(again, printed), testing::IsEmpty()) << *printed.toml;
  EXPECT_EQ(again.last, odd);
}

struct Route {
  std::vector<std::string> url;
  bool idempotent = false;
  void describe(OptionVisitor& v) {
    v.field("url", url, "Where it is");
    v.field("idempotent", idempotent, "Twice does no harm");
  }
};

struct Routes {
  std::map<std::string, Route> routes;
  void describe(OptionVisitor& v) { v.sections("routes", "Routes", "url", routes); }
};

Problems read(Routes& options, ConfigSources sources) {
  return read_config([&](OptionVisitor& v) { options.describe(v); }, sources);
}

TEST(Config, SectionsThatTheUserNames) {
  Routes options;
  ConfigSources sources;
  sources.toml = "[routes.make-small]\nurl = \"http://a\"\n[routes.other]\nurl = [\"x\", \"y\"]\nidempotent = true\n";
  sources.environment = {{"FLEXI_ROUTES_MAKE_SMALL_IDEMPOTENT", "true"}, {"FLEXI_ROUTES_OTHER_URL", "z"}, {"FLEXI_ROUTES_NEW_ONE_URL", "http://b"}};
  EXPECT_THAT(read(options, sources), testing::IsEmpty());
  ASSERT_EQ(options.routes.size(), 3u);
  EXPECT_THAT(options.routes["make-small"].url, testing::ElementsAre("http://a"));
  EXPECT_TRUE(options.routes["make-small"].idempotent);
  EXPECT_THAT(options.routes["other"].url, testing::ElementsAre("z"));
  EXPECT_THAT(options.routes["new_one"].url, testing::ElementsAre("http://b"));

  const auto printed = print_config([&](OptionVisitor& v) { options.describe(v); });
  EXPECT_THAT(printed, HasSubstr("[routes.make-small]"));
  Routes again;
  sources.environment.clear();
  sources.toml = printed;
  EXPECT_THAT(read(again, sources), testing::IsEmpty());
  EXPECT_EQ(again.routes.size(), 3u);
  EXPECT_TRUE(again.routes["make-small"].idempotent);
}

TEST(Config, WrongSectionsAreNamed) {
  Routes options;
  ConfigSources sources;
  sources.toml = "[routes]\nurl = \"x\"\n[routes.\"a.b\"]\nurl = \"x\"\n[routes.\"\"]\nurl = \"x\"\n[routes.c]\nurll = \"x\"\nidempotent = 1\n";
  sources.environment = {{"FLEXI_ROUTES_URL", "x"}, {"FLEXI_ROUTES_NONE_IDEMPOTENT", "true"}};
  std::map<std::string, std::string> found;
  for (auto& problem : read(options, sources)) found[problem.path] = problem.message;
  EXPECT_THAT(found["routes.url"], HasSubstr("is not a known setting"));
  EXPECT_THAT(found["routes.a.b"], HasSubstr("a name may only hold"));
  EXPECT_THAT(found["routes."], HasSubstr("a name may only hold"));
  EXPECT_THAT(found["routes.c.urll"], HasSubstr("did you mean routes.c.url?"));
  EXPECT_THAT(found["routes.c.idempotent"], HasSubstr("must be true or false"));
  EXPECT_THAT(found["FLEXI_ROUTES_URL"], HasSubstr("is not a known setting"));
  EXPECT_THAT(found["FLEXI_ROUTES_NONE_IDEMPOTENT"], HasSubstr("is not a known setting"));
  EXPECT_EQ(found.size(), 7u);
}

TEST(Config, AnEmptyTableOfSectionsIsFine) {
  Routes options;
  ConfigSources sources;
  sources.toml = print_config([&](OptionVisitor& v) { options.describe(v); });
  EXPECT_THAT(*sources.toml, HasSubstr("[routes]"));
  EXPECT_THAT(read(options, sources), testing::IsEmpty());
  EXPECT_THAT(options.routes, testing::IsEmpty());
}

TEST(Config, BrokenTomlSaysWhere) {
  Everything options;
  ConfigSources sources;
  sources.toml = "data_dir = \n";
  auto problems = read(options, sources);
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_THAT(problems[0].message, HasSubstr("line 1"));
}

TEST(Config, PrintedSettingsReadBackAndHideSecrets) {
  Everything options;
  options.names = {"q\"uote", "b\\ack"};
  options.http.timeout = std::chrono::hours(24);
  const auto printed = print_config([&](OptionVisitor& v) { options.describe(v); });
  EXPECT_THAT(printed, HasSubstr("timeout = \"1d\""));
  EXPECT_THAT(printed, HasSubstr("\n# password = \"***\"  (set)\n"));
  EXPECT_THAT(printed, testing::Not(HasSubstr("none")));
  Everything again;
  ConfigSources sources;
  sources.toml = printed;
  EXPECT_THAT(read(again, sources), testing::IsEmpty());
  EXPECT_EQ(again.names, options.names);
  EXPECT_EQ(again.http.timeout, options.http.timeout);
  EXPECT_EQ(again.http.password, options.http.password) << "no secret is read from what is printed in its place";
}

TEST(Config, ASecretMayStandInAFile) {
  const auto file = std::filesystem::path(testing::TempDir()) / ("secret-" + std::to_string(::getpid()));
  std::ofstream(file) << "pa ss\n";
  Everything options;
  ConfigSources sources;
  sources.environment = {{"FLEXI_HTTP_PASSWORD_FILE", file}};
  EXPECT_THAT(read(options, sources), testing::IsEmpty());
  EXPECT_EQ(options.http.password, "pa ss") << "the line break at its end is the editor's";
  std::ofstream(file) << "\n";
  auto problems = read(options, sources);
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_THAT(problems[0].message, HasSubstr("is empty"));
  std::filesystem::remove(file);
  problems = read(options, sources);
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_EQ(problems[0].path, "FLEXI_HTTP_PASSWORD_FILE");
  EXPECT_THAT(problems[0].message, HasSubstr("can't be read"));
  sources.environment = {{"FLEXI_HTTP_PASSWORD_FILE", ""}};
  EXPECT_THAT(read(options, sources), testing::IsEmpty()) << "set to nothing it is not set, as Compose leaves a variable";
}

TEST(Config, ASecretStandsInOnePlace) {
  Everything options;
  ConfigSources sources;
  sources.environment = {{"FLEXI_HTTP_PASSWORD", "a"}, {"FLEXI_HTTP_PASSWORD_FILE", "/dev/null"}};
  const auto problems = read(options, sources);
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_THAT(problems[0].message, HasSubstr("set one of them"));
}

TEST(Config, OnlyASecretMayStandInAFile) {
  Everything options;
  ConfigSources sources;
  sources.environment = {{"FLEXI_HTTP_TIMEOUT_FILE", "/dev/null"}};
  EXPECT_EQ(read(options, sources).size(), 1u);
}

TEST(Config, TheSignOfASecretIsNoSecret) {
  Everything options;
  ConfigSources sources;
  sources.toml = "[http]\npassword = \"***\"\n";
  const auto problems = read(options, sources);
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_EQ(problems[0].path, "http.password");
}

}  // namespace
}  // namespace flexi::runtime
