// SPDX-License-Identifier: Apache-2.0
#include "transports/http/security.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace flexi::transports::http {
namespace {

using core::ErrorKind;

struct Case {
  const char* what;
  Asker asker;
  std::optional<ErrorKind> refused;
};

TEST(Security, WhoMayAdminister) {
  const auto at = [](const char* address) { return boost::asio::ip::make_address(address); };
  const AdminRules rules{"token", "10.0.0.5", {"https://ops.example"}};
  const Case cases[] = {
      {"local", {at("127.0.0.1"), "localhost:8080"}, {}},
      {"local, IPv6", {at("::1"), "[::1]:8080"}, {}},
      {"local, mapped", {at("::ffff:127.0.0.1"), "127.0.0.1:8080"}, {}},
      {"local, own address", {at("127.0.0.1"), "10.0.0.5:8080"}, {}},
      {"rebound name", {at("127.0.0.1"), "evil.example:8080"}, ErrorKind::unauthenticated},
      {"name that only begins so", {at("127.0.0.1"), "localhost.evil.example"}, ErrorKind::unauthenticated},
      {"remote with a local name", {at("10.0.0.9"), "localhost"}, ErrorKind::unauthenticated},
      {"remote with the token", {.peer = at("10.0.0.9"), .host = "broker", .authorization = "Bearer token"}, {}},
      {"remote with a wrong token", {.peer = at("10.0.0.9"), .host = "broker", .authorization = "Bearer tokem"}, ErrorKind::unauthenticated},
      {"remote with a prefix", {.peer = at("10.0.0.9"), .host = "broker", .authorization = "Bearer tok"}, ErrorKind::unauthenticated},
      {"through a proxy", {.peer = at("127.0.0.1"), .host = "localhost", .forwarded = true}, ErrorKind::unauthenticated},
      {"same origin", {.peer = at("127.0.0.1"), .host = "localhost:8080", .origin = "http://localhost:8080"}, {}},
      {"other port", {.peer = at("127.0.0.1"), .host = "localhost:8080", .origin = "http://localhost:9090"}, ErrorKind::permission_denied},
      {"configured origin", {.peer = at("127.0.0.1"), .host = "localhost:8080", .origin = "https://ops.example"}, {}},
      {"foreign origin with the token",
       {.peer = at("127.0.0.1"), .host = "localhost", .origin = "https://evil.example", .authorization = "Bearer token"},
       ErrorKind::permission_denied},
      {"null origin", {.peer = at("127.0.0.1"), .host = "localhost", .origin = "null"}, ErrorKind::permission_denied},
      {"embedded elsewhere", {.peer = at("127.0.0.1"), .host = "localhost", .fetch_site = "cross-site", .fetch_mode = "no-cors"}, ErrorKind::permission_denied},
      {"followed a link", {.peer = at("127.0.0.1"), .host = "localhost", .fetch_site = "cross-site", .fetch_mode = "navigate"}, {}},
  };
  for (auto& c : cases) {
    const auto result = check_administrator(rules, c.asker);
    EXPECT_EQ(!result, c.refused.has_value()) << c.what;
    if (!result && c.refused) EXPECT_EQ(core::to_string(result.error().kind), core::to_string(*c.refused)) << c.what;
  }
}

TEST(Security, ALoginsTokenIsTriedOnlyWhereItIsAskedAbout) {
  AdminRules rules{"token", "", {}};
  Asker asker{.peer = boost::asio::ip::make_address("127.0.0.1"), .host = "localhost", .authorization = "Bearer eyJhbGciOiJIUzI1NiJ9.e30.x"};
  EXPECT_EQ(check_administrator(rules, asker).error().kind, ErrorKind::unauthenticated);
  rules.login_tokens = true;
  EXPECT_EQ(check_administrator(rules, asker).value(), Admission::by_login_token) << "on this machine, too: who shows a token is its owner";
  asker.peer = boost::asio::ip::make_address("203.0.113.66");
  EXPECT_EQ(check_administrator(rules, asker).value(), Admission::by_login_token);
  asker.origin = "https://evil.example";
  EXPECT_EQ(check_administrator(rules, asker).error().kind, ErrorKind::permission_denied);
  asker.origin = {};
  for (auto other : {"Bearer tokem", "Bearer eyJ.x", "Bearer eyJ.x.y.z", "Bearer eyJ.x.y ", "Basic eyJ.x.y", ""}) {
    asker.authorization = other;
    EXPECT_FALSE(check_administrator(rules, asker)) << other;
  }
  asker.authorization = "Bearer token";
  EXPECT_EQ(check_administrator(rules, asker).value(), Admission::administrator);
}

TEST(Security, ATokenThatIsAlwaysWantedIsWantedHereToo) {
  AdminRules rules{"token", "127.0.0.1", {}, true};
  const auto local = boost::asio::ip::make_address("127.0.0.1");
  EXPECT_EQ(check_administrator(rules, {.peer = local, .host = "localhost"}).error().kind, ErrorKind::unauthenticated);
  EXPECT_TRUE(check_administrator(rules, {.peer = local, .host = "localhost", .authorization = "Bearer token"}));
  EXPECT_FALSE(is_secret("", ""));
  EXPECT_FALSE(is_secret("abc", "abd"));
  EXPECT_TRUE(is_secret("abc", "abc"));
}

TEST(Security, AHostThatIsNotLoopbacksIsNamedAsTheReason) {
  const auto local = boost::asio::ip::make_address("127.0.0.1");
  for (const std::string token : {"", "token"}) {
    const AdminRules rules{token, "127.0.0.1", {}};
    const auto result = check_administrator(rules, {.peer = local, .host = "flexi.local:8080"});
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().kind, token.empty() ? ErrorKind::permission_denied : ErrorKind::unauthenticated);
    for (auto* part : {"Host", "flexi.local", "localhost", token.empty() ? "FLEXI_ADMIN_TOKEN_FILE" : "Authorization: Bearer"})
      EXPECT_THAT(result.error().message, testing::HasSubstr(part));
    EXPECT_THAT(result.error().message, testing::Not(testing::HasSubstr("another machine")));
    const auto proxied = check_administrator(rules, {.peer = local, .host = "flexi.local:8080", .forwarded = true});
    EXPECT_THAT(proxied.error().message, testing::Not(testing::HasSubstr("Host"))) << "its Host is the proxy's business";
  }
}

TEST(Security, WithoutATokenARemoteIsToldHowToSetOne) {
  const AdminRules rules{"", "0.0.0.0", {}};
  const auto remote = boost::asio::ip::make_address("10.0.0.9");
  const auto result = check_administrator(rules, {.peer = remote, .host = "broker"});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::permission_denied);
  EXPECT_THAT(result.error().message, testing::HasSubstr("FLEXI_ADMIN_TOKEN_FILE"));
  EXPECT_FALSE(check_administrator(rules, {.peer = remote, .host = "broker", .authorization = "Bearer "}));
}

}  // namespace
}  // namespace flexi::transports::http
