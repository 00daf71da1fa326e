// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "runtime/options.hpp"
#include "runtime/policies/clock.hpp"

namespace flexi::runtime::policies {

struct RateLimitOptions {
  double per_second = 0;         ///< requests per second in all; 0: no limit
  std::int64_t burst = 100;      ///< so many at once after a quiet time
  double caller_per_second = 0;  ///< requests per second of one caller (the anonymous count as one); 0: no limit
  std::int64_t caller_burst = 20;
  std::int64_t max_callers = 10000;  ///< callers that are told apart; further ones share

  void describe(OptionVisitor& v);
  Problems validate() const;
};

/// A token bucket in one atomic number: the time at which it will be full again.
/// Source: generic cell rate algorithm, ITU-T I.371 annex A
class TokenBucket {
 public:
  struct Rate {
    std::int64_t interval_ns;  ///< one token comes back in this time
    std::int64_t burst;
    static Rate per_second(double rate, std::int64_t burst);
  };
  /// @return none when a token was there; else how long until one is
  std::optional<std::chrono::nanoseconds> take(const Rate& rate, std::int64_t now_ns);
  bool full(std::int64_t now_ns) const { return full_at_.load(std::memory_order_relaxed) <= now_ns; }

 private:
  std::atomic<std::int64_t> full_at_{INT64_MIN};
};

/// Lets through so many requests per second; more are `overloaded` with the time after which there is room again.
/// Off it costs nothing; for the whole handler one compare-and-swap; per caller a short lock of one of 16 maps.
/// Lifetime/threads: any thread; `inner` outlives it
class RateLimit final : public core::Handler {
 public:
  RateLimit(core::Handler& inner, RateLimitOptions options, Now now = steady_now);
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override { return pass(inner_, std::move(request), std::move(context)); }
  /// The same limit, and the same room, before another handler.
  core::awaitable<core::Result<core::Reply>> pass(core::Handler& inner, core::Request request, core::CallContext context);
  /// Callers that are remembered now: at most options.max_callers.
  std::size_t callers() const;

 private:
  struct Shard {
    mutable std::mutex mutex;
    std::unordered_map<std::string, TokenBucket> callers;
    TokenBucket strangers;  ///< for all who find the map full
  };
  std::optional<std::chrono::nanoseconds> take(const std::string& caller, std::int64_t now_ns);
  std::optional<std::chrono::nanoseconds> take_of_caller(const std::string& caller, std::int64_t now_ns);
  core::Handler& inner_;
  RateLimitOptions options_;
  Now now_;
  TokenBucket::Rate all_rate_, caller_rate_;
  TokenBucket all_;
  std::array<Shard, 16> shards_;
};

}  // namespace flexi::runtime::policies
