// SPDX-License-Identifier: Apache-2.0
#include "services/authentication/lockout.hpp"

#include <gtest/gtest.h>

namespace flexi::services::authentication {
namespace {

using namespace std::chrono_literals;

struct Bench {
  runtime::Metrics metrics;
  Lockout::Clock::time_point time = Lockout::Clock::now();
  Lockout lockout;
  explicit Bench(LockoutOptions options = {}) : lockout(options, metrics, [this] { return time; }) {}
  bool refuses(const char* account = "ann", const char* client = "192.0.2.1") { return lockout.begin(account, client).refused(); }
  std::optional<std::chrono::milliseconds> fail(const char* account = "ann", const char* client = "192.0.2.1") { return lockout.begin(account, client).failed(); }
};

TEST(Lockout, TheDelayDoublesToItsCap) {
  Bench bench({.free_failures = 3, .first_delay = 1s, .max_delay = 5s});
  EXPECT_FALSE(bench.fail());
  EXPECT_FALSE(bench.fail());
  for (auto expected : {1s, 2s, 4s, 5s, 5s}) {
    const auto delay = bench.fail();
    ASSERT_TRUE(delay);
    EXPECT_EQ(*delay, expected);
    EXPECT_TRUE(bench.refuses());
    bench.time += expected - 1ms;
    EXPECT_TRUE(bench.refuses());
    bench.time += 1ms;
  }
  EXPECT_FALSE(bench.refuses());
}

TEST(Lockout, RefusedAttemptsDoNotProlongIt) {
  Bench bench({.free_failures = 1, .first_delay = 1s});
  bench.fail();
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(bench.fail()) << "refused: it counts as nothing";
  bench.time += 1s;
  EXPECT_FALSE(bench.refuses());
}

TEST(Lockout, SuccessAndTimeForget) {
  Bench bench({.free_failures = 2, .first_delay = 1s, .max_delay = 10s});
  bench.fail();
  bench.lockout.begin("ann", "192.0.2.1").succeeded();
  EXPECT_EQ(bench.lockout.size(), 0u);
  EXPECT_FALSE(bench.fail()) << "the first again";
  EXPECT_TRUE(bench.fail());
  bench.time += 11s;
  EXPECT_FALSE(bench.fail()) << "so long without a failure";
}

TEST(Lockout, CountsByAccountAndByNetwork) {
  Bench bench({.free_failures = 1});
  bench.fail("ann", "2001:db8:1:2::1");
  EXPECT_TRUE(bench.refuses("ann", "2001:db8:1:2:ffff::9")) << "the same household";
  EXPECT_FALSE(bench.refuses("ann", "2001:db8:1:3::1"));
  EXPECT_FALSE(bench.refuses("bob", "2001:db8:1:2::1"));
  bench.fail("ann", "192.0.2.1");
  EXPECT_TRUE(bench.refuses("ann", "::ffff:192.0.2.1")) << "the same address";
  EXPECT_FALSE(bench.refuses("ann", "192.0.2.2"));
  EXPECT_FALSE(bench.refuses("ann", ""));
  EXPECT_EQ(network_of("fe80::1%eth0"), "fe80::/64");
  EXPECT_EQ(network_of(std::string(1000, 'x')).size(), 64u);
}

TEST(Lockout, GuessesAtTheSameTimeAreCounted) {
  Bench bench({.free_failures = 3});
  std::vector<Lockout::Attempt> attempts;
  int admitted = 0;
  for (int i = 0; i < 50; ++i) {
    attempts.push_back(bench.lockout.begin("ann", "192.0.2.1"));
    admitted += attempts.back().refused() ? 0 : 1;
  }
  EXPECT_EQ(admitted, 3);
  for (auto& attempt : attempts) attempt.failed();
  EXPECT_TRUE(bench.refuses());
  attempts.clear();
  bench.time += 1s;
  attempts.push_back(bench.lockout.begin("ann", "192.0.2.1"));
  EXPECT_FALSE(attempts.back().refused());
  EXPECT_TRUE(bench.refuses()) << "one at a time from here on";
  attempts.clear();
  EXPECT_FALSE(bench.refuses()) << "an attempt without an end counts as nothing";
}

TEST(Lockout, RemembersABoundedNumber) {
  Bench bench({.free_failures = 1, .max_entries = 1000});
  bench.fail("first");
  for (int i = 0; i < 5000; ++i) bench.fail(std::to_string(i).c_str());
  EXPECT_EQ(bench.lockout.size(), 1000u);
  EXPECT_TRUE(bench.refuses("4999"));
  EXPECT_FALSE(bench.refuses("first"));
}

TEST(Lockout, CanBeSwitchedOff) {
  Bench bench({.free_failures = 0});
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(bench.fail());
  EXPECT_EQ(bench.lockout.size(), 0u);
}

TEST(LockoutOptions, NamesEveryProblem) {
  EXPECT_TRUE(LockoutOptions{}.validate().empty());
  EXPECT_EQ((LockoutOptions{.free_failures = -1, .first_delay = 0ms, .max_delay = 25h, .max_entries = 1}.validate().size()), 4u);
  EXPECT_EQ((LockoutOptions{.first_delay = 10s, .max_delay = 5s}.validate().front().path), "max_delay");
}

}  // namespace
}  // namespace flexi::services::authentication
