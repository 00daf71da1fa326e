// SPDX-License-Identifier: Apache-2.0
#include "runtime/net/listen.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>

#include "runtime/net/address.hpp"

namespace flexi::runtime::net {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

const tcp::endpoint kAnyPort(asio::ip::address_v4::loopback(), 0);

Handing handed(const tcp::acceptor& socket) { return {.pid = std::to_string(::getpid()), .count = "1", .first = const_cast<tcp::acceptor&>(socket).native_handle()}; }

TEST(Listen, NewSocketsShareOnePortAndNobodyElseGetsIt) {
  Shards shards(2);
  auto acceptors = listen(shards, kAnyPort, "any", {});
  ASSERT_TRUE(acceptors);
  ASSERT_EQ(acceptors.value().size(), 2u);
  const auto endpoint = acceptors.value()[0].local_endpoint();
  EXPECT_EQ(acceptors.value()[1].local_endpoint(), endpoint);
  auto second = listen(shards, endpoint, "the same", {});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, core::ErrorKind::unavailable);
  EXPECT_NE(second.error().message.find("the same"), std::string::npos);
}

TEST(Listen, AHandedSocketOfTheAddressIsTakenAndOutlivesItsUser) {
  asio::io_context loop;
  tcp::acceptor kept(loop, kAnyPort);
  Shards shards(2);
  {
    auto acceptors = listen(shards, kept.local_endpoint(), "handed", handed(kept));
    ASSERT_TRUE(acceptors);
    ASSERT_EQ(acceptors.value().size(), 2u);
    for (auto& acceptor : acceptors.value()) EXPECT_EQ(acceptor.local_endpoint(), kept.local_endpoint());
  }
  tcp::socket waiting(loop);
  waiting.connect(kept.local_endpoint());  // nobody serves it now: it waits
  auto next = listen(shards, kept.local_endpoint(), "handed", handed(kept));
  ASSERT_TRUE(next);
  EXPECT_EQ(next.value()[0].accept().remote_endpoint(), waiting.local_endpoint());
}

TEST(Listen, AHandedSocketOfAnotherAddressIsNotTaken) {
  asio::io_context loop;
  tcp::acceptor kept(loop, kAnyPort);
  Shards shards(1);
  auto acceptors = listen(shards, kAnyPort, "another", handed(kept));
  ASSERT_TRUE(acceptors);
  EXPECT_NE(acceptors.value()[0].local_endpoint(), kept.local_endpoint());
}

TEST(HandedSockets, AreThoseOfThisProcessAlone) {
  asio::io_context loop;
  tcp::acceptor kept(loop, kAnyPort);
  auto handing = handed(kept);
  auto own = handed_sockets(handing);
  ASSERT_TRUE(own);
  ASSERT_EQ(own.value().size(), 1u);
  EXPECT_EQ(own.value()[0].endpoint, kept.local_endpoint());
  handing.pid = std::to_string(::getppid());
  EXPECT_TRUE(handed_sockets(handing).value().empty());
  EXPECT_TRUE(handed_sockets({}).value().empty());
}

TEST(HandedSockets, WhatIsNoListeningTcpSocketIsRefused) {
  asio::io_context loop;
  tcp::acceptor bound(loop);
  bound.open(tcp::v4());
  EXPECT_FALSE(handed_sockets(handed(bound)));
  Handing handing{.pid = std::to_string(::getpid()), .first = 1'000'000};
  for (auto* wrong : {"1", "65", "-1", "x", "1x", ""}) {
    handing.count = wrong;
    auto sockets = handed_sockets(handing);
    ASSERT_FALSE(sockets) << wrong;
    EXPECT_EQ(sockets.error().kind, core::ErrorKind::invalid_argument);
  }
}

}  // namespace
}  // namespace flexi::runtime::net
