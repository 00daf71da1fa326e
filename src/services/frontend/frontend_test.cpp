// SPDX-License-Identifier: Apache-2.0
#include "services/frontend/frontend.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <regex>

namespace flexi::services::frontend {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

std::map<std::string, StaticFile> files(const std::string& broker_url = "") {
  std::map<std::string, StaticFile> by_path;
  for (auto& file : static_files({.broker_url = broker_url})) by_path[file.path] = file;
  return by_path;
}

std::string header(const StaticFile& file, const std::string& name) {
  for (const auto& [key, value] : file.headers)
    if (key == name) return value;
  return {};
}

TEST(FrontEnd, GivesThePageItsPartsAndTheDescription) {
  auto all = files();
  ASSERT_TRUE(all.contains("/"));
  EXPECT_EQ(all["/"].content_type, "text/html; charset=utf-8");
  EXPECT_THAT(all["/"].body, StartsWith("<!doctype html>"));
  ASSERT_TRUE(all.contains("/openapi.yaml"));
  EXPECT_EQ(all["/openapi.yaml"].content_type, "application/yaml");
  EXPECT_THAT(all["/openapi.yaml"].body, StartsWith("# SPDX"));
  EXPECT_EQ(all["/app/app.js"].content_type, "text/javascript; charset=utf-8");
  EXPECT_EQ(all["/app/icon.svg"].content_type, "image/svg+xml");
}

TEST(FrontEnd, EveryPartThatThePageNamesIsThere) {
  auto all = files();
  std::regex reference(R"re((?:src|href)="(app/[^"]+)")re");
  std::string page = all["/"].body;
  std::size_t found = 0;
  for (std::sregex_iterator it(page.begin(), page.end(), reference), end; it != end; ++it, ++found)
    EXPECT_TRUE(all.contains("/" + (*it)[1].str())) << (*it)[1];
  EXPECT_GE(found, 3u);
  std::regex import(R"re(from "\./([^"]+)")re");
  for (const auto& [path, file] : all)
    for (std::sregex_iterator it(file.body.begin(), file.body.end(), import), end; it != end; ++it)
      EXPECT_TRUE(all.contains("/app/" + (*it)[1].str())) << path << " imports " << (*it)[1];
}

TEST(FrontEnd, NothingInThePageNeedsAnInlineScriptOrAnotherHost) {
  auto all = files();
  const auto& page = all["/"].body;
  EXPECT_FALSE(std::regex_search(page, std::regex(R"(<script(?![^>]* src=))")));
  EXPECT_FALSE(std::regex_search(page, std::regex(R"(\son[a-z]+\s*=|\sstyle\s*=|<style)")));
  EXPECT_FALSE(std::regex_search(page, std::regex(R"re((src|href)="(https?:)?//)re")));
}

TEST(FrontEnd, PolicyAllowsOwnScriptsOnlyAndNoFraming) {
  auto policy = header(files()["/"], "Content-Security-Policy");
  EXPECT_THAT(policy, HasSubstr("script-src 'self';"));
  EXPECT_THAT(policy, HasSubstr("object-src 'none'"));
  EXPECT_THAT(policy, HasSubstr("frame-ancestors 'none'"));
  EXPECT_THAT(policy, ::testing::EndsWith("connect-src 'self'"));
  for (const auto& [path, file] : files()) EXPECT_EQ(header(file, "X-Content-Type-Options"), "nosniff") << path;
}

TEST(FrontEnd, GzippedVariantsAreSmallerGzip) {
  for (const auto& [path, file] : files()) {
    ASSERT_THAT(file.gzip, StartsWith("\x1f\x8b")) << path;
    EXPECT_LT(file.gzip.size(), file.body.size()) << path;
  }
}

TEST(FrontEnd, BrokerUrlStandsInPageAndPolicyAndChangesTheEtag) {
  auto page = files("https://broker.example:8443/api")["/"];
  EXPECT_THAT(page.body, HasSubstr(R"(<meta name="broker-url" content="https://broker.example:8443/api">)"));
  EXPECT_THAT(header(page, "Content-Security-Policy"), ::testing::EndsWith("connect-src 'self' https://broker.example:8443"));
  EXPECT_THAT(page.gzip, IsEmpty());
  EXPECT_NE(page.etag, files()["/"].etag);
  EXPECT_THAT(files()["/"].body, HasSubstr(R"(<meta name="broker-url" content="">)"));
}

TEST(FrontEnd, RefusesABrokerUrlThatCouldBreakOut) {
  for (const char* good : {"", "http://localhost:8080", "https://b.example/api/", "http://[::1]:8080"})
    EXPECT_THAT((FrontEndOptions{good}.validate()), IsEmpty()) << good;
  for (const char* bad : {"localhost:8080", "ftp://x", "http://", "http:///x", "http://a\"><script>", "http://a;script-src *", "http://a b",
                          "http://a\r\nX: y", "javascript:alert(1)", "http://user@host", "http://a?x=1", "http://a#x", "http://a'b"})
    EXPECT_THAT((FrontEndOptions{bad}.validate()), Not(IsEmpty())) << bad;
}

}  // namespace
}  // namespace flexi::services::frontend
