// SPDX-License-Identifier: Apache-2.0
// Whether anybody can tell by the time that a refusal takes why a login was refused.
#include <gtest/gtest.h>
#include <time.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "services/authentication/authentication_fixture.hpp"
#include "services/authentication/authentication_service.hpp"

namespace flexi::services::authentication {
namespace {

/// Processor time of the whole process, which other processes hardly disturb.
double cpu_seconds() {
  timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

/// Two-sided permutation test: how often chance alone makes two medians differ by so much.
double chance(const std::vector<double>& a, const std::vector<double>& b, std::mt19937& dice) {
  constexpr int kShuffles = 1999;
  const double seen = std::abs(median(a) - median(b));
  auto all = a;
  all.insert(all.end(), b.begin(), b.end());
  int as_far = 1;
  for (int i = 0; i < kShuffles; ++i) {
    std::shuffle(all.begin(), all.end(), dice);
    const auto middle = all.begin() + static_cast<std::ptrdiff_t>(a.size());
    as_far += std::abs(median({all.begin(), middle}) - median({middle, all.end()})) >= seen;
  }
  return static_cast<double>(as_far) / (kShuffles + 1);
}

/// Told apart: it can't be chance, and it is more than a few microseconds beside the hash, which no network lets through.
bool tells_apart(const std::vector<double>& a, const std::vector<double>& b, std::mt19937& dice) {
  constexpr double kNegligible = 0.04;  // of a hash of cost 5: a fortieth of a millisecond, at cost 12 a third of a thousandth
  return std::abs(median(a) - median(b)) > kNegligible * median(a) && chance(a, b, dice) < 0.001;
}

struct Kind {
  const char* name;
  std::string email, password, client;
};

class LoginTiming : public testing::Test {
 protected:
  static constexpr int kCost = 5, kRounds = 100, kLooks = 3, kFree = kRounds * kLooks + 1;
  Fixture fixture;
  PasswordHasher hasher{{.cost = kCost, .threads = 1}, fixture.metrics};
  AuthenticationOptions options{.passwords = {.cost = kCost}, .lockout = {.free_failures = kFree, .first_delay = std::chrono::hours(1), .max_delay = std::chrono::hours(1)}};
  AuthenticationService service{{.users = fixture.users(), .hasher = hasher, .policy = fixture.policy, .log = runtime::LogSink::none(), .metrics = fixture.metrics,
                                 .executor = fixture.shards.executor(0)},
                                options};
  std::mt19937 dice{4711};

  void SetUp() override {
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    GTEST_SKIP() << "not run: times mean something in a release build only";
#endif
    const auto hash = fixture.wait(hasher.hash("a good password", core::CallContext{})).value();
    fixture.add("ann@example.com", hash);
    fixture.add("off@example.com", hash, false);
    for (int i = 0; i < kFree; ++i) log_in({"", "ann@example.com", "wrong", "203.0.113.9"});
  }
  void TearDown() override {
    fixture.shards.run([](AuthenticationService& s) -> core::awaitable<void> { co_await s.stop(); }(service));
  }
  bool log_in(const Kind& kind) {
    core::Request request;
    request.action = "auth";
    request.payload = core::Credentials{kind.email, kind.password};
    auto context = core::CallContext::with_timeout(std::chrono::seconds(60));
    context.client = kind.client;
    return static_cast<bool>(fixture.wait(service.handle(std::move(request), std::move(context))));
  }
  /// One of each kind a round, in another order each time: whatever else the machine does meets all alike.
  std::vector<std::vector<double>> measure(const std::vector<Kind>& kinds, int rounds) {
    std::vector<std::vector<double>> all(kinds.size());
    std::vector<std::size_t> order(kinds.size());
    std::iota(order.begin(), order.end(), std::size_t(0));
    for (int round = 0; round < rounds; ++round) {
      std::shuffle(order.begin(), order.end(), dice);
      for (auto which : order) {
        const double start = cpu_seconds();
        EXPECT_FALSE(log_in(kinds[which])) << kinds[which].name;
        all[which].push_back(cpu_seconds() - start);
      }
    }
    return all;
  }
};

TEST_F(LoginTiming, NobodyCanTellWhyALoginWasRefused) {
  const std::vector<Kind> kinds{{"wrong password", "ann@example.com", "wrong", "192.0.2.1"},      {"unknown user", "bob@example.com", "a good password", "192.0.2.1"},
                                {"empty password", "ann@example.com", "", "192.0.2.2"},           {"inactive user", "off@example.com", "a good password", "192.0.2.1"},
                                {"locked out", "ann@example.com", "a good password", "203.0.113.9"}, {"72 bytes", "ann@example.com", std::string(72, 'x'), "192.0.2.3"}};
  // Up to three looks: what is there is seen each time, what one bad moment of the machine made is not.
  std::string seen;
  for (int look = 0; look < kLooks; ++look) {
    const auto times = measure(kinds, kRounds);
    seen.clear();
    for (std::size_t i = 1; i < kinds.size(); ++i)
      if (tells_apart(times[0], times[i], dice))
        seen += std::string(kinds[i].name) + ": " + std::to_string(median(times[i]) * 1e6) + " us, not " + std::to_string(median(times[0]) * 1e6) + "; ";
    if (seen.empty()) break;
  }
  EXPECT_EQ(seen, "");
  EXPECT_GE(fixture.metrics.counter("flexi_logins_total", "", {{"result", "locked"}}).value(), 100) << "the locked ones were locked";
}

/// The test above sees what it is there for: an answer without the hash, and a hash of a tenth more work.
TEST_F(LoginTiming, AnEarlyAnswerIsSeen) {
  const auto times = measure({{"wrong password", "ann@example.com", "wrong", "192.0.2.1"}}, 100).front();
  std::vector<double> early, slower;
  for (int i = 0; i < 100; ++i) {
    const double start = cpu_seconds();
    EXPECT_FALSE(fixture.wait(fixture.users().find_by_email("bob@example.com", core::CallContext{})));  // and "invalid credentials" at once
    early.push_back(cpu_seconds() - start);
    slower.push_back(times[static_cast<std::size_t>(i)] * 1.1);
  }
  EXPECT_TRUE(tells_apart(times, early, dice));
  EXPECT_TRUE(tells_apart(times, slower, dice));
}

}  // namespace
}  // namespace flexi::services::authentication
