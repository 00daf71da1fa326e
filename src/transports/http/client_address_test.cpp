// SPDX-License-Identifier: Apache-2.0
#include "transports/http/client_address.hpp"

#include <gtest/gtest.h>

namespace flexi::transports::http {
namespace {

boost::asio::ip::address at(const char* text) { return boost::asio::ip::make_address(text); }

TEST(Network, HoldsWhatBeginsAlike) {
  const auto ten = Network::parse("10.0.0.0/8").value(), one = Network::parse("192.0.2.1").value(), six = Network::parse("2001:db8:1::/45").value();
  EXPECT_TRUE(ten.contains(at("10.255.0.1")) && ten.contains(at("::ffff:10.1.2.3")) && one.contains(at("192.0.2.1")) && six.contains(at("2001:db8:7::1")));
  EXPECT_FALSE(ten.contains(at("11.0.0.1")) || one.contains(at("192.0.2.2")) || six.contains(at("2001:db8:8::1")) || ten.contains(at("::1")));
  EXPECT_TRUE(Network::parse("0.0.0.0/0").value().contains(at("203.0.113.1")));
  EXPECT_FALSE(Network::parse("0.0.0.0/0").value().contains(at("2001:db8::1"))) << "every IPv4 address is no IPv6 address";
  for (auto wrong : {"", "10.0.0.0/", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/8x", "proxy", "/8"}) EXPECT_FALSE(Network::parse(wrong)) << wrong;
}

TEST(ClientAddress, IsThePeerWhateverItSays) {
  EXPECT_EQ(client_address({}, at("203.0.113.7"), "198.51.100.1"), "203.0.113.7");
  EXPECT_EQ(client_address({Network::parse("10.0.0.0/8").value()}, at("203.0.113.7"), "198.51.100.1"), "203.0.113.7");
  EXPECT_EQ(client_address({}, at("::ffff:203.0.113.7"), ""), "203.0.113.7");
}

TEST(ClientAddress, IsWhomATrustedProxyNames) {
  const std::vector<Network> trusted{Network::parse("10.0.0.0/8").value(), Network::parse("::1").value()};
  EXPECT_EQ(client_address(trusted, at("10.0.0.1"), "198.51.100.1"), "198.51.100.1");
  EXPECT_EQ(client_address(trusted, at("::1"), "198.51.100.1:4711"), "198.51.100.1");
  EXPECT_EQ(client_address(trusted, at("10.0.0.1"), "[2001:db8::1]:4711"), "2001:db8::1");
  EXPECT_EQ(client_address(trusted, at("10.0.0.1"), "203.0.113.66, 198.51.100.1, 10.9.9.9"), "198.51.100.1") << "what a stranger wrote himself is before it";
  EXPECT_EQ(client_address(trusted, at("10.0.0.1"), "10.0.0.5, 10.0.0.6"), "10.0.0.5");
  for (auto said : {"", "unknown", "198.51.100.1, unknown", ",", " , "}) EXPECT_EQ(client_address(trusted, at("10.0.0.1"), said), "10.0.0.1") << said;
}

}  // namespace
}  // namespace flexi::transports::http
