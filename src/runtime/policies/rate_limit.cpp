// SPDX-License-Identifier: Apache-2.0
#include "runtime/policies/rate_limit.hpp"

#include <algorithm>

namespace flexi::runtime::policies {

using std::chrono::nanoseconds;

void RateLimitOptions::describe(OptionVisitor& v) {
  v.field("per_second", per_second, "Requests per second that are let through in all; 0 is no limit");
  v.field("burst", burst, "Requests that are let through at once after a quiet time");
  v.field("caller_per_second", caller_per_second, "Requests per second of one caller (the anonymous count as one); 0 is no limit");
  v.field("caller_burst", caller_burst, "Requests of one caller that are let through at once");
  v.field("max_callers", max_callers, "Callers that are told apart; further ones share a limit");
}

Problems RateLimitOptions::validate() const {
  Problems problems;
  if (!(per_second >= 0 && per_second <= 1e9)) problems.push_back({"per_second", "must be 0 to 1000000000"});
  if (!(caller_per_second >= 0 && caller_per_second <= 1e9)) problems.push_back({"caller_per_second", "must be 0 to 1000000000"});
  if (burst < 1 || burst > 1'000'000) problems.push_back({"burst", "must be 1 to 1000000"});
  if (caller_burst < 1 || caller_burst > 1'000'000) problems.push_back({"caller_burst", "must be 1 to 1000000"});
  if (max_callers < 16 || max_callers > 10'000'000) problems.push_back({"max_callers", "must be 16 to 10000000"});
  return problems;
}

TokenBucket::Rate TokenBucket::Rate::per_second(double rate, std::int64_t burst) {
  // Slower than one an hour is one an hour: the product with the burst must not overflow.
  const double interval = rate > 0 ? std::min(1e9 / rate, 3.6e12) : 0;
  return {std::max<std::int64_t>(1, static_cast<std::int64_t>(interval)), burst};
}

std::optional<nanoseconds> TokenBucket::take(const Rate& rate, std::int64_t now_ns) {
  auto full_at = full_at_.load(std::memory_order_relaxed);
  for (;;) {
    const auto begins = std::max(full_at, now_ns);
    const auto too_early = begins - (rate.burst - 1) * rate.interval_ns - now_ns;
    if (too_early > 0) return nanoseconds(too_early);
    if (full_at_.compare_exchange_weak(full_at, begins + rate.interval_ns, std::memory_order_relaxed)) return std::nullopt;
  }
}

RateLimit::RateLimit(core::Handler& inner, RateLimitOptions options, Now now)
    : inner_(inner),
      options_(options),
      now_(std::move(now)),
      all_rate_(TokenBucket::Rate::per_second(options.per_second, options.burst)),
      caller_rate_(TokenBucket::Rate::per_second(options.caller_per_second, options.caller_burst)) {}

std::size_t RateLimit::callers() const {
  std::size_t count = 0;
  for (auto& shard : shards_) {
    std::lock_guard lock(shard.mutex);
    count += shard.callers.size();
  }
  return count;
}

std::optional<nanoseconds> RateLimit::take_of_caller(const std::string& caller, std::int64_t now_ns) {
  auto& shard = shards_[std::hash<std::string>()(caller) % shards_.size()];
  const auto room = static_cast<std::size_t>(options_.max_callers) / shards_.size();
  std::lock_guard lock(shard.mutex);
  auto found = shard.callers.find(caller);
  if (found == shard.callers.end() && shard.callers.size() >= room) {
    // A full bucket is as good as none, so forgetting it forgives nobody anything.
    std::erase_if(shard.callers, [now_ns](auto& entry) { return entry.second.full(now_ns); });
    if (shard.callers.size() >= room) return shard.strangers.take(caller_rate_, now_ns);
  }
  if (found == shard.callers.end()) found = shard.callers.try_emplace(caller).first;
  return found->second.take(caller_rate_, now_ns);
}

std::optional<nanoseconds> RateLimit::take(const std::string& caller, std::int64_t now_ns) {
  // The caller first: who is over the own limit must not use up everybody's.
  if (options_.caller_per_second > 0)
    if (auto wait = take_of_caller(caller, now_ns)) return wait;
  if (options_.per_second > 0) return all_.take(all_rate_, now_ns);
  return std::nullopt;
}

core::awaitable<core::Result<core::Reply>> RateLimit::pass(core::Handler& inner, core::Request request, core::CallContext context) {
  if (options_.per_second > 0 || options_.caller_per_second > 0) {
    const auto now_ns = std::chrono::duration_cast<nanoseconds>(now_().time_since_epoch()).count();
    if (auto wait = take(context.caller, now_ns)) {
      auto error = core::overloaded("too many requests");
      error.retry_after = std::chrono::ceil<std::chrono::milliseconds>(*wait);
      return refuse(std::move(error));
    }
  }
  return inner.handle(std::move(request), std::move(context));
}

}  // namespace flexi::runtime::policies
