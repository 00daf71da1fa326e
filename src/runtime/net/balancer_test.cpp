// SPDX-License-Identifier: Apache-2.0
#include "runtime/net/balancer.hpp"

#include <gtest/gtest.h>

#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <map>
#include <set>

#include "runtime/shards.hpp"

namespace flexi::runtime::net {
namespace {

using namespace std::chrono_literals;
using core::Result;
using core::Reply;

AddressHealth::Time at(std::chrono::milliseconds time) { return AddressHealth::Time(1h) + time; }

Result<Reply> failure() { return core::unavailable("down"); }

TEST(AddressHealth, FailuresInARowSetItAsideAndTheTimeGrows) {
  AddressHealth health({.set_aside = 1s, .max_set_aside = 3s, .failures = 3});
  health.failed(at(0ms), true), health.failed(at(0ms), true);
  health.succeeded(at(0ms));
  health.failed(at(0ms), true), health.failed(at(0ms), true);
  EXPECT_TRUE(health.enter(at(0ms))) << "two of three";
  health.failed(at(0ms), true);
  EXPECT_FALSE(health.enter(at(999ms)));
  EXPECT_TRUE(health.enter(at(1000ms))) << "the probe";
  EXPECT_FALSE(health.enter(at(1000ms))) << "one probe at a time";
  health.failed(at(1000ms), true);
  EXPECT_FALSE(health.enter(at(2999ms))) << "twice as long";
  EXPECT_TRUE(health.enter(at(3000ms)));
  health.failed(at(3000ms), true);
  EXPECT_FALSE(health.enter(at(5999ms)));
  EXPECT_TRUE(health.enter(at(6000ms))) << "not longer than the longest";
  health.succeeded(at(6000ms));
  EXPECT_TRUE(health.enter(at(6000ms)));
  EXPECT_TRUE(health.enter(at(6000ms)));
}

TEST(AddressHealth, ALongGoodStretchIsForgiving) {
  AddressHealth health({.set_aside = 1s, .max_set_aside = 4s, .failures = 1});
  auto sick_for = [&](AddressHealth::Time now) {
    health.failed(now, true);
    auto wait = 0ms;
    while (!health.enter(now + wait)) wait += 100ms;
    return wait;
  };
  EXPECT_EQ(sick_for(at(0s)), 1s);
  health.succeeded(at(1s));
  EXPECT_EQ(sick_for(at(2s)), 2s) << "a relapse";
  health.succeeded(at(4s));
  EXPECT_EQ(sick_for(at(9s)), 1s);
}

TEST(AddressHealth, AProbeThatNobodyTellsOfIsTriedAgain) {
  AddressHealth health({.set_aside = 100ms, .max_set_aside = 1s, .failures = 1});
  health.failed(at(0ms), true);
  EXPECT_TRUE(health.enter(at(100ms)));
  EXPECT_FALSE(health.enter(at(500ms)));
  EXPECT_TRUE(health.enter(at(1100ms)));
}

TEST(AddressHealth, LateFailuresDontMakeTheTimeGrow) {
  AddressHealth health({.set_aside = 1s, .max_set_aside = 30s, .failures = 2});
  for (int i = 0; i < 50; ++i) health.failed(at(0ms), true);
  for (int i = 0; i < 50; ++i) health.unreachable(at(10ms));
  EXPECT_TRUE(health.enter(at(1000ms)));
}

TEST(AddressHealth, OneFailedConnectIsEnoughAndOneThatWorksMakesItGood) {
  AddressHealth health({.set_aside = 1s, .max_set_aside = 30s, .failures = 5});
  health.unreachable(at(0ms));
  EXPECT_FALSE(health.enter(at(0ms)));
  EXPECT_TRUE(health.view(at(0ms)).unreachable);
  health.connected(at(10ms));
  EXPECT_TRUE(health.enter(at(10ms)));
  for (int i = 0; i < 5; ++i) health.failed(at(20ms), true);
  health.connected(at(30ms));
  EXPECT_FALSE(health.enter(at(30ms))) << "it takes connections and fails calls all the same";
  EXPECT_EQ(health.view(at(30ms)).aside_for, 1990ms) << "a relapse";
}

TEST(AddressHealth, CallsNeverEjectWhereThatIsSwitchedOffOrRefused) {
  AddressHealth off({.set_aside = 1s, .max_set_aside = 30s, .failures = 0}), kept({.set_aside = 1s, .max_set_aside = 30s, .failures = 1});
  for (int i = 0; i < 100; ++i) off.failed(at(0ms), true), kept.failed(at(0ms), false);
  EXPECT_FALSE(off.aside());
  EXPECT_FALSE(kept.aside());
}

class BalancerTest : public testing::Test {
 protected:
  BalancerTest() : scope_(shards_.executor(0), "balancer test", LogSink::none()) {}
  /// How often each address comes up.
  static std::map<std::string, int> turns(Balancer& balancer, int count) {
    std::map<std::string, int> seen;
    for (int i = 0; i < count; ++i) ++seen[balancer.next().address().to_string()];
    return seen;
  }
  static Balancer::Endpoint endpoint(const char* address) { return {boost::asio::ip::make_address(address), 80}; }
  void fail(Balancer& balancer, const char* address, int times, std::chrono::milliseconds allowed = 10s) {
    for (int i = 0; i < times; ++i) balancer.report(endpoint(address), failure(), allowed);
  }

  Shards shards_{1};
  TaskScope scope_;
};

TEST_F(BalancerTest, AllAddressesInTurn) {
  Balancer balancer(scope_, {}, {"127.0.0.1,127.0.0.2,127.0.0.1", 80});
  EXPECT_EQ(balancer.size(), 2u);
  EXPECT_EQ(turns(balancer, 10), (std::map<std::string, int>{{"127.0.0.1", 5}, {"127.0.0.2", 5}}));
}

TEST_F(BalancerTest, TheOneThatFailsIsLeftOutAndNeverMoreThanHalf) {
  Balancer balancer(scope_, {.set_aside = 1h, .max_set_aside = 1h}, {"127.0.0.1,127.0.0.2,127.0.0.3", 80});
  fail(balancer, "127.0.0.1", 4);
  EXPECT_EQ(turns(balancer, 30).size(), 3u);
  fail(balancer, "127.0.0.1", 1);
  EXPECT_EQ(turns(balancer, 30), (std::map<std::string, int>{{"127.0.0.2", 15}, {"127.0.0.3", 15}}));
  fail(balancer, "127.0.0.2", 100);
  EXPECT_EQ(turns(balancer, 30).size(), 2u) << "a second of three would be more than half";
  balancer.report(endpoint("127.0.0.1"), Reply{}, 10s);
  EXPECT_EQ(turns(balancer, 30).size(), 3u);
}

TEST_F(BalancerTest, ALoneAddressIsNeverSetAsideForItsCalls) {
  Balancer balancer(scope_, {}, {"127.0.0.1", 80});
  fail(balancer, "127.0.0.1", 100);
  EXPECT_EQ(turns(balancer, 3).size(), 1u);
  balancer.set_aside(endpoint("127.0.0.1"));
  EXPECT_EQ(turns(balancer, 3).size(), 1u) << "where all are aside, the one that is due first";
}

TEST_F(BalancerTest, WhatSaysNothingAboutTheAddressDoesNotCount) {
  Balancer balancer(scope_, {.set_aside = 1h, .max_set_aside = 1h}, {"127.0.0.1,127.0.0.2", 80});
  for (int i = 0; i < 100; ++i) {
    balancer.report(endpoint("127.0.0.1"), core::cancelled("left"), 10s);
    balancer.report(endpoint("127.0.0.1"), core::invalid_argument("wrong"), 10s);
    balancer.report(endpoint("127.0.0.1"), core::deadline_exceeded("an impatient caller"), 10ms);
  }
  EXPECT_EQ(turns(balancer, 10).size(), 2u);
  for (int i = 0; i < 5; ++i) balancer.report(endpoint("127.0.0.1"), core::deadline_exceeded("no answer"), 10s);
  EXPECT_EQ(turns(balancer, 10).size(), 1u);
}

TEST_F(BalancerTest, OneFindsOutForAll) {
  auto health = std::make_shared<PeerHealth>("peer:80", OutlierOptions{1h, 1h, 5});
  Balancer one(scope_, {}, {"127.0.0.1,127.0.0.2", 80}, health), other(scope_, {}, {"127.0.0.1,127.0.0.2", 80}, health);
  fail(one, "127.0.0.2", 5);
  EXPECT_EQ(turns(other, 10), (std::map<std::string, int>{{"127.0.0.1", 10}}));
  Peers peers;
  peers.add(health);
  ASSERT_EQ(peers.all().size(), 1u);
  const auto rows = peers.all()[0]->view(Balancer::Clock::now());
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].address, "127.0.0.1:80");
  EXPECT_EQ(rows[0].view.aside_for, 0ms);
  EXPECT_GT(rows[1].view.aside_for, 59min);
  EXPECT_FALSE(rows[1].view.unreachable);
  health.reset();
}

/// A name server whose names may change; `asked` is told of each question.
struct Names {
  std::map<std::string, std::vector<std::string>> addresses;
  std::function<void(const std::string&)> asked = [](auto&) {};
  int questions = 0;

  core::awaitable<std::vector<boost::asio::ip::address>> look_up(std::string name) {
    ++questions;
    asked(name);
    std::vector<boost::asio::ip::address> found;
    for (auto& address : addresses[name]) found.push_back(boost::asio::ip::make_address(address));
    co_return found;
  }
  Balancer::LookUp function() {
    return [this](std::string name) { return look_up(std::move(name)); };
  }
};

/// Until everything that is under way on this thread has been done.
core::awaitable<void> let_run() {
  for (int i = 0; i < 20; ++i) co_await boost::asio::post(co_await boost::asio::this_coro::executor, boost::asio::use_awaitable);
}

core::awaitable<void> ask(Balancer& balancer) {
  EXPECT_TRUE(co_await balancer.ready());
  co_await let_run();
}

core::awaitable<void> fail_to_connect(Balancer& balancer, Balancer::Endpoint endpoint) {
  balancer.set_aside(endpoint);
  co_await let_run();
}

TEST_F(BalancerTest, TasksAreNotGivenUpForTheirVirtualAddressWhileTheNameIsAskedAgain) {
  Names names{.addresses = {{"logger", {"10.0.0.1"}}, {"tasks.logger", {"10.0.0.2", "10.0.0.3"}}}};
  Balancer balancer(scope_, {.resolve_interval = 0ms}, {"logger", 80}, nullptr, names.function());
  shards_.run(ask(balancer));
  EXPECT_EQ(turns(balancer, 4), (std::map<std::string, int>{{"10.0.0.2", 2}, {"10.0.0.3", 2}}));
  names.asked = [&](const std::string&) { EXPECT_FALSE(turns(balancer, 2).contains("10.0.0.1")); };
  names.addresses["tasks.logger"] = {"10.0.0.3", "10.0.0.4"};
  shards_.run(ask(balancer));
  EXPECT_EQ(turns(balancer, 4), (std::map<std::string, int>{{"10.0.0.3", 2}, {"10.0.0.4", 2}}));
  names.addresses["tasks.logger"] = {};
  shards_.run(ask(balancer));
  EXPECT_EQ(turns(balancer, 2), (std::map<std::string, int>{{"10.0.0.1", 2}}));
  shards_.run(scope_.join());
}

TEST_F(BalancerTest, AnAddressThatCantBeReachedHasTheNameAskedAgainAtOnce) {
  Names names{.addresses = {{"logger.example", {"10.0.0.1"}}}};
  Balancer balancer(scope_, {.resolve_interval = 1h, .ask_again_after = 0ms}, {"logger.example", 80}, nullptr, names.function());
  shards_.run(ask(balancer));
  shards_.run(ask(balancer));
  EXPECT_EQ(names.questions, 1);
  names.addresses["logger.example"] = {"10.0.0.2"};
  shards_.run(fail_to_connect(balancer, endpoint("10.0.0.1")));
  EXPECT_EQ(turns(balancer, 2), (std::map<std::string, int>{{"10.0.0.2", 2}}));
  shards_.run(scope_.join());
}

TEST_F(BalancerTest, ManyFailuresToConnectAreOneQuestion) {
  Names names{.addresses = {{"logger.example", {"10.0.0.1"}}}};
  Balancer balancer(scope_, {.resolve_interval = 1h, .ask_again_after = 1h}, {"logger.example", 80}, nullptr, names.function());
  shards_.run(ask(balancer));
  for (int i = 0; i < 100; ++i) shards_.run(fail_to_connect(balancer, endpoint("10.0.0.1")));
  EXPECT_EQ(names.questions, 1);
  shards_.run(scope_.join());
}

}  // namespace
}  // namespace flexi::runtime::net
