// SPDX-License-Identifier: Apache-2.0
#include "services/authentication/password_hasher.hpp"

#include <gtest/gtest.h>

#include <thread>

#include "runtime/shards.hpp"

namespace flexi::services::authentication {
namespace {

constexpr const char* kExample = "$2a$12$1zGLuYDDNvATh4RA4avbKuheAMpb1svexSzrQm7up.bnpwQHs0jNe";

struct Bench {
  runtime::Metrics metrics;
  runtime::Shards shards{1};
  PasswordHasher hasher;
  explicit Bench(PasswordHasherOptions options = {.cost = 4}) : hasher(options, metrics) {}

  core::Result<std::string> hash(std::string password) {
    core::Result<std::string> result = core::internal("not run");
    shards.run([](Bench& self, std::string p, core::Result<std::string>& out) -> core::awaitable<void> {
      out = co_await self.hasher.hash(std::move(p), core::CallContext{});
    }(*this, std::move(password), result));
    return result;
  }
  core::Result<bool> verify(std::string password, std::string hashed) {
    core::Result<bool> result = core::internal("not run");
    shards.run([](Bench& self, std::string p, std::string h, core::Result<bool>& out) -> core::awaitable<void> {
      out = co_await self.hasher.verify(std::move(p), std::move(h), core::CallContext{});
    }(*this, std::move(password), std::move(hashed), result));
    return result;
  }
  double checks() { return metrics.counter("flexi_password_checks_total", "").value(); }
};

TEST(PasswordHasher, KnowsTheContractsExampleUser) {
  Bench bench;
  EXPECT_TRUE(bench.verify("verysecret", kExample).value());
  EXPECT_FALSE(bench.verify("verysecres", kExample).value());
}

TEST(PasswordHasher, HashesWithASaltOfItsOwn) {
  Bench bench;
  auto one = bench.hash("pässword ü"), two = bench.hash("pässword ü");
  ASSERT_TRUE(one && two);
  EXPECT_TRUE(one.value().starts_with("$2b$04$"));
  EXPECT_NE(one.value(), two.value());
  EXPECT_TRUE(bench.verify("pässword ü", one.value()).value());
  EXPECT_FALSE(bench.verify("password u", one.value()).value());
  EXPECT_FALSE(bench.verify("", one.value()).value());
}

TEST(PasswordHasher, TellsPasswordsOf72BytesApart) {
  Bench bench;
  const std::string longest(72, 'x');
  auto hash = bench.hash(longest);
  EXPECT_TRUE(bench.verify(longest, hash.value()).value());
  EXPECT_FALSE(bench.verify(longest.substr(1), hash.value()).value());
}

TEST(PasswordHasher, ReadsAllThreePrefixes) {
  Bench bench;
  auto hash = bench.hash("secret").value();
  for (char version : {'a', 'b', 'y'}) {
    hash[2] = version;
    EXPECT_TRUE(bench.verify("secret", hash).value()) << version;
  }
}

TEST(PasswordHasher, WorksJustAsMuchForABrokenHashAndRefuses) {
  Bench bench;
  const std::string good = bench.hash("secret").value();
  std::string des = "abJnggxhB/yWI", cut = good.substr(0, 40), other = good, costly = good, nul = good;
  other[2] = 'x';
  costly[4] = '3', costly[5] = '1';  // would take days
  nul[30] = '\0';
  int tries = 0;
  for (auto& broken : {des, cut, other, costly, nul, std::string("garbage"), std::string(), std::string("*0"), good + "x"}) {
    EXPECT_FALSE(is_bcrypt(broken)) << broken;
    EXPECT_FALSE(bench.verify("secret", broken).value()) << broken;
    EXPECT_EQ(bench.checks(), ++tries);
  }
  EXPECT_TRUE(is_bcrypt(good));
}

TEST(PasswordHasher, ItsOwnStandInHashIsNobodysPassword) {
  Bench bench;
  for (auto password : {"", "secret", "verysecret"}) EXPECT_FALSE(bench.verify(password, "").value());
}

TEST(PasswordHasher, AFullQueueIsOverloadedWithATimeToComeBack) {
  Bench bench({.cost = 10, .threads = 1, .queue_limit = 1});
  struct Tally {
    int running = 0, done = 0, overloaded = 0;
    bool all_with_retry_after = true;
  } tally;
  bench.shards.run([](Bench& self, Tally& out) -> core::awaitable<void> {
    auto executor = co_await boost::asio::this_coro::executor;
    constexpr int kCallers = 20;
    boost::asio::steady_timer all_done(executor, boost::asio::steady_timer::time_point::max());
    auto call = [](Bench& b, Tally& t, boost::asio::steady_timer& end) -> core::awaitable<void> {
      auto result = co_await b.hasher.verify("secret", "", core::CallContext{});
      if (result) ++t.done;
      else if (result.error().kind == core::ErrorKind::overloaded) {
        ++t.overloaded;
        t.all_with_retry_after = t.all_with_retry_after && result.error().retry_after.has_value();
      }
      if (--t.running == 0) end.cancel();
    };
    out.running = kCallers;
    for (int i = 0; i < kCallers; ++i) boost::asio::co_spawn(executor, call(self, out, all_done), [](std::exception_ptr) {});
    boost::system::error_code ignored;
    co_await all_done.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ignored));
  }(bench, tally));
  EXPECT_GE(tally.done, 1);
  EXPECT_GE(tally.overloaded, 1);
  EXPECT_EQ(tally.done + tally.overloaded, 20);
  EXPECT_TRUE(tally.all_with_retry_after);
}

TEST(PasswordHasherOptions, NamesEveryProblem) {
  EXPECT_TRUE(PasswordHasherOptions{}.validate().empty());
  auto problems = PasswordHasherOptions{.cost = 3, .threads = -1, .queue_limit = 0}.validate();
  EXPECT_EQ(problems.size(), 3u);
}

}  // namespace
}  // namespace flexi::services::authentication
