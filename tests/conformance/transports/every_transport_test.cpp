// SPDX-License-Identifier: Apache-2.0
// The suite's list is the product's: a transport that can be asked for, or that a process serves, is under test.
#include <gtest/gtest.h>

#include <set>

#include "apps/all_transports.hpp"
#include "transports.hpp"

namespace flexi::conformance {
namespace {

using core::Via;

std::set<std::string> names_under_test() {
  std::set<std::string> names;
  for (auto& transport : all_transports_under_test()) names.insert(transport.name);
  return names;
}

TEST(EveryTransport, ThatCanBeAskedForIsUnderTest) {
  // "auto", and one after the other until there is no such value.
  int count = 0;
  for (auto via = Via::automatic; core::via_from(core::to_string(via)) == via; via = static_cast<Via>(++count))
    if (via != Via::automatic) EXPECT_TRUE(names_under_test().contains(std::string(core::to_string(via)))) << core::to_string(via);
  EXPECT_GE(count, 6);
}

TEST(EveryTransport, UnderTestSpeaksWhatItsNameSays) {
  runtime::Shards shards{1};
  for (auto& transport : all_transports_under_test()) {
    if (transport.missing && transport.missing()) continue;
    const auto spoken = core::to_string(transport.make(shards)->transport().via());
    EXPECT_EQ(spoken, transport.name == "queue" ? "amqp" : transport.name);
  }
}

core::awaitable<void> stop_all(std::vector<apps::Listening>* all) {
  for (auto& one : *all) co_await one.server->stop({});
}

TEST(EveryTransport, ThatTheProductServesOrReachesIsUnderTest) {
  apps::Settings settings;
  settings.http.listen = settings.grpc.listen = settings.rpc.listen = "127.0.0.1:0";
  apps::Process process(settings, 1);
  apps::AllTransports product(settings, process, "token");
  std::vector<apps::Listening> listening;
  ASSERT_TRUE(product.serve({}, listening));
  std::set<std::string> own_sockets, served;
  for (auto& transport : all_transports_under_test())
    if (transport.can.socket == Capabilities::Socket::own) own_sockets.insert(transport.name);
  for (auto& one : listening) {
    served.emplace(core::to_string(one.via));
    EXPECT_EQ(apps::AllTransports::via_of(one.server->endpoint()), one.via) << "what it serves it can reach: " << one.server->endpoint();
    EXPECT_TRUE(product.connect(one.server->endpoint()));
  }
  EXPECT_EQ(served, own_sockets) << "src/apps/all_transports.cpp and tests/conformance/transports/all_transports.cpp name the same";
  process.shards.run(stop_all(&listening));
}

}  // namespace
}  // namespace flexi::conformance
