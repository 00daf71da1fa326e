// SPDX-License-Identifier: Apache-2.0
#include "services/authentication/password_hasher.hpp"

#include <gtest/gtest.h>

#include <sys/resource.h>

#include <thread>

#include "runtime/shards.hpp"
#include "runtime/task_scope.hpp"
#include "services/authentication/bcrypt.hpp"

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

constexpr const char* kReferenceArgon2 = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
constexpr const char* kFourLanes = "$argon2id$v=19$m=4096,t=3,p=4$c29tZXNhbHRzb21lc2FsdA$yvKKzEjHWhSbUQUSeat6dyFfoycu1T5O/zahhmYuGLw";
const PasswordHasherOptions kArgon2{.algorithm = "argon2id", .cost = 4, .argon2_memory_kib = 1024, .argon2_iterations = 1, .threads = 1};

TEST(PasswordHasher, KnowsWhatOtherProgramsMade) {
  Bench bench;
  // The reference implementation's test vector, one of four lanes, and bcrypt from the tests of Go's x/crypt, of crypt_blowfish and of jBCrypt.
  EXPECT_TRUE(bench.verify("password", kReferenceArgon2).value());
  EXPECT_FALSE(bench.verify("passwore", kReferenceArgon2).value());
  EXPECT_TRUE(bench.verify("password", kFourLanes).value());
  EXPECT_TRUE(bench.verify("allmine", "$2a$10$XajjQvNhvvRt5GSeFk1xFeyqRrsxkhBkUiQeg0dt.wU1qD4aFDcga").value());
  EXPECT_TRUE(bench.verify("allmine", "$2y$10$XajjQvNhvvRt5GSeFk1xFeyqRrsxkhBkUiQeg0dt.wU1qD4aFDcga").value());
  EXPECT_TRUE(bench.verify("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW").value());
  EXPECT_TRUE(bench.verify("abc", "$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i").value());
}

TEST(PasswordHasher, MakesArgon2idWhereItIsToldTo) {
  Bench bench(kArgon2);
  auto one = bench.hash("pässword ü"), two = bench.hash("pässword ü");
  ASSERT_TRUE(one && two);
  EXPECT_TRUE(one.value().starts_with("$argon2id$v=19$m=1024,t=1,p=1$")) << one.value();
  EXPECT_NE(one.value(), two.value());
  EXPECT_TRUE(bench.verify("pässword ü", one.value()).value());
  EXPECT_FALSE(bench.verify("password u", one.value()).value());
  EXPECT_TRUE(bench.verify("verysecret", kExample).value()) << "bcrypt still counts";
  Bench other;
  EXPECT_TRUE(other.verify("pässword ü", one.value()).value()) << "and so does Argon2id where bcrypt is configured";
}

TEST(PasswordHasher, SaysWhatIsNotOfTheConfiguredCost) {
  Bench bcrypt_4, argon2(kArgon2);
  const auto hash = bcrypt_4.hash("secret").value(), own = argon2.hash("secret").value();
  EXPECT_TRUE(bcrypt_4.hasher.is_current(hash));
  std::string php = hash;
  php[2] = 'y';
  EXPECT_TRUE(bcrypt_4.hasher.is_current(php)) << "the same algorithm at the same cost";
  for (auto& other : {std::string(kExample), own, std::string("garbage"), std::string()}) EXPECT_FALSE(bcrypt_4.hasher.is_current(other)) << other;
  EXPECT_TRUE(argon2.hasher.is_current(own));
  for (auto& other : {hash, std::string(kReferenceArgon2), std::string()}) EXPECT_FALSE(argon2.hasher.is_current(other)) << other;
}

TEST(Argon2Hash, IsReadStrictly) {
  const std::string salt = "c29tZXNhbHQ", digest = "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
  const auto text = [&](std::string cost, std::string s, std::string d) { return "$argon2id$v=19$" + cost + "$" + s + "$" + d; };
  EXPECT_TRUE(Argon2Hash::parse(text("m=65536,t=2,p=1", salt, digest)));
  EXPECT_EQ(Argon2Hash::parse(text("m=65536,t=2,p=1", salt, digest))->to_string(), text("m=65536,t=2,p=1", salt, digest));
  for (auto cost : {"m=4294967296,t=2,p=1", "m=99999999999999999999,t=2,p=1", "m=65536,t=65,p=1", "m=65536,t=2,p=17", "m=1048576,t=64,p=1", "m=0,t=2,p=1", "m=065536,t=2,p=1",
                    "m=+65536,t=2,p=1", "m=-1,t=2,p=1", "t=2,m=65536,p=1", "m=65536,t=2,p=1,data=eA", "m=65536,t=2", "m=8,t=1,p=1", "", " m=65536,t=2,p=1"})
    EXPECT_FALSE(Argon2Hash::parse(text(cost, salt, digest))) << cost;
  const std::string good = text("m=65536,t=2,p=1", salt, digest);
  for (auto& broken : {std::string("$argon2i$v=19$m=65536,t=2,p=1$") + salt + "$" + digest, std::string("$argon2id$v=16$m=65536,t=2,p=1$") + salt + "$" + digest,
                       std::string("$argon2id$m=65536,t=2,p=1$") + salt + "$" + digest, good + "=", good + "$", good + "$x", good.substr(0, good.size() - 1),
                       text("m=65536,t=2,p=1", "c29tZXNhbHR=", digest), text("m=65536,t=2,p=1", "c2Fs", digest), text("m=65536,t=2,p=1", salt, "AAAA"),
                       text("m=65536,t=2,p=1", salt, std::string(90, 'A')), text("m=65536,t=2,p=1", "c29tZXNhbH!", digest), text("m=65536,t=2,p=1", "c29tZXNhbHR", digest),
                       text("m=65536,t=2,p=1", salt + std::string(1, '\0'), digest), good + std::string(300, 'A'), std::string("$argon2id$")})
    EXPECT_FALSE(Argon2Hash::parse(broken)) << broken;
}

TEST(PasswordHasher, AHashThatWouldTakeMoreMemoryThanAllMayIsNobodys) {
  Bench bench({.cost = 4, .max_memory_kib = 4096, .threads = 1});
  auto hash = Argon2Hash::of_nobody({8192, 1, 1}).to_string();
  ASSERT_TRUE(Argon2Hash::parse(hash));
  EXPECT_FALSE(bench.verify("secret", hash).value());
  EXPECT_EQ(bench.checks(), 1);
}

/// The most memory that the process has had, in KiB.
std::int64_t peak_kib() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

TEST(PasswordHasher, ManyHashesAtOnceKeepWithinTheMemory) {
#if __has_feature(address_sanitizer)
  GTEST_SKIP() << "not run: this sanitizer keeps what is freed";
#endif
  // Eight threads, but memory for two.
  constexpr std::int64_t kEach = 48 * 1024;
  Bench bench({.cost = 4, .max_memory_kib = 2 * kEach, .threads = 8});
  const auto hash = Argon2Hash::of_nobody({kEach, 1, 1}).to_string();
  const auto before = peak_kib();
  int wrong = 0;
  bench.shards.run([](Bench& self, std::string h, int& refused) -> core::awaitable<void> {
    auto executor = co_await boost::asio::this_coro::executor;
    runtime::TaskScope scope(executor, "hashes", runtime::LogSink::none());
    auto call = [](Bench& b, std::string text, int& out) -> core::awaitable<void> {
      auto result = co_await b.hasher.verify("secret", std::move(text), core::CallContext{});
      if (result && !result.value()) ++out;
    };
    for (int i = 0; i < 16; ++i) scope.spawn(call(self, h, refused));
    co_await scope.join();
  }(bench, hash, wrong));
  EXPECT_EQ(wrong, 16);
  EXPECT_LT(peak_kib() - before, 3 * kEach) << "eight at once would take " << 8 * kEach;
}

TEST(PasswordHasherOptions, NamesEveryProblem) {
  EXPECT_TRUE(PasswordHasherOptions{}.validate().empty());
  EXPECT_TRUE(kArgon2.validate().empty());
  EXPECT_EQ(PasswordHasherOptions{.algorithm = "md5"}.validate().front().path, "algorithm");
  EXPECT_EQ((PasswordHasherOptions{.argon2_memory_kib = 100, .argon2_iterations = 0, .argon2_lanes = 17, .max_memory_kib = 1}.validate().size()), 4u);
  EXPECT_EQ((PasswordHasherOptions{.algorithm = "argon2id", .argon2_memory_kib = 1 << 20, .argon2_iterations = 64, .max_memory_kib = 1 << 20}.validate().front().path), "argon2_iterations");
  const PasswordHasherOptions greedy{.algorithm = "argon2id", .argon2_memory_kib = 128 * 1024, .threads = 3};
  ASSERT_EQ(greedy.validate().size(), 1u);
  EXPECT_EQ(greedy.validate().front().path, "max_memory_kib");
  EXPECT_NE(greedy.validate().front().message.find(std::to_string(3 * 128 * 1024)), std::string::npos);
  auto problems = PasswordHasherOptions{.cost = 3, .threads = -1, .queue_limit = 0}.validate();
  EXPECT_EQ(problems.size(), 3u);
}

}  // namespace
}  // namespace flexi::services::authentication
