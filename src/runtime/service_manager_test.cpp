// SPDX-License-Identifier: Apache-2.0
#include "runtime/service_manager.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/datagram_protocol.hpp>

namespace flexi::runtime {
namespace {

using Local = boost::asio::local::datagram_protocol;

std::string received_at(const std::string& bound, const std::string& told) {
  boost::asio::io_context loop;
  Local::socket socket(loop, Local::endpoint(bound));
  EXPECT_TRUE(notify("READY=1", told));
  std::array<char, 64> bytes{};
  return {bytes.data(), socket.receive(boost::asio::buffer(bytes))};
}

TEST(ServiceManager, IsToldInOneDatagram) {
  const std::string name = ::testing::TempDir() + "notify-" + std::to_string(::getpid());
  EXPECT_EQ(received_at(name, name), "READY=1");
  ::unlink(name.c_str());
  EXPECT_EQ(received_at(std::string(1, '\0') + name, "@" + name), "READY=1");
}

TEST(ServiceManager, WhoDidNotAskIsNotTold) { EXPECT_TRUE(notify("READY=1", "")); }

TEST(ServiceManager, WhatCantBeToldIsAnError) {
  for (auto& wrong : {std::string("/nowhere/at/all"), std::string("relative"), std::string(200, '/')}) {
    auto told = notify("READY=1", wrong);
    ASSERT_FALSE(told) << wrong;
    EXPECT_NE(told.error().message.find(wrong), std::string::npos);
  }
}

}  // namespace
}  // namespace flexi::runtime
