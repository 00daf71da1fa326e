// SPDX-License-Identifier: Apache-2.0
#include "runtime/net/address.hpp"

#include <gtest/gtest.h>

namespace flexi::runtime::net {
namespace {

TEST(Address, Endpoints) {
  auto plain = parse_endpoint("grpc://logger:50001", "grpc", 1);
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain.value().host, "logger");
  EXPECT_EQ(plain.value().port, 50001);
  EXPECT_EQ(parse_endpoint("http://logger/", "http", 80).value().port, 80);
  EXPECT_EQ(parse_endpoint("http://[::1]:8080", "http", 80).value().host, "::1");
  EXPECT_EQ(to_authority(parse_endpoint("http://[::1]:8080", "http", 80).value()), "[::1]:8080");
  EXPECT_EQ(parse_endpoint("http://a,b:8080", "http", 80).value().host, "a,b");
  for (auto* wrong : {"", "http", "http:/a", "http://", "http://:80", "http://a:0", "http://a:65536", "http://a:x", "http://a:", "http://a/b", "http://u@a", "http://a b",
                      "https://a", "http://[::1", "http://,", "http://a,", "http://,a", "http://a,,b"})
    EXPECT_FALSE(parse_endpoint(wrong, "http", 80)) << wrong;
}

TEST(Address, UrlsKeepTheirPathAsItIs) {
  const std::pair<const char*, const char*> table[] = {{"http://a", "/"},     {"http://a:9/", "/"},           {"http://a/b/c", "/b/c"},      {"http://a/b/", "/b/"},
                                                       {"http://a?q=1", "/?q=1"}, {"http://a:9/b?q=1/2", "/b?q=1/2"}, {"http://a/%20x", "/%20x"}};
  for (auto& [text, target] : table) {
    auto url = parse_url(text, "http", 80);
    ASSERT_TRUE(url) << text;
    EXPECT_EQ(url.value().target, target) << text;
    EXPECT_EQ(url.value().authority.host, "a") << text;
  }
  for (auto* wrong : {"http:///path", "http://a/b c", "http://a/#f", "http://a/\r\nX: 1", "http://a/\xC3\xA9", "ftp://a/", "http://a:0/", "http"})
    EXPECT_FALSE(parse_url(wrong, "http", 80)) << wrong;
}

TEST(Address, WhereToListen) {
  for (auto [text, right] : {std::pair{"127.0.0.1:8080", "127.0.0.1:8080"}, {"localhost:0", "127.0.0.1:0"}, {"*:80", "0.0.0.0:80"}, {":80", "0.0.0.0:80"},
                             {"[::]:443", "[::]:443"}, {"10.0.0.1", "10.0.0.1:7"}}) {
    auto endpoint = parse_listen(text, 7);
    ASSERT_TRUE(endpoint) << text;
    EXPECT_EQ(to_authority(endpoint.value()), right);
  }
  for (auto* wrong : {"nohost.invalid:8080", "logger:80", "127.0.0.1:x", "127.0.0.1:99999", "1.2.3:80", "127.0.0.1,127.0.0.2:80", "http://127.0.0.1:80"}) {
    auto endpoint = parse_listen(wrong, 7);
    ASSERT_FALSE(endpoint) << wrong;
    EXPECT_EQ(endpoint.error().kind, core::ErrorKind::invalid_argument);
    EXPECT_NE(endpoint.error().message.find(wrong), std::string::npos) << endpoint.error().message;
  }
}

}  // namespace
}  // namespace flexi::runtime::net
