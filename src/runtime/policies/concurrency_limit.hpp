// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <optional>

#include "runtime/options.hpp"
#include "runtime/policies/clock.hpp"

namespace flexi::runtime::policies {

struct ConcurrencyLimitOptions {
  std::int64_t initial = 512;  ///< requests at once that are let through at first; 0: no limit
  std::int64_t min = 64;       ///< the limit never falls below
  std::int64_t max = 8192;     ///< the limit never rises above
  double tolerance = 2.0;      ///< the limit falls once requests take longer than usual by this factor
  std::chrono::milliseconds window{200};       ///< how often the limit is thought over
  std::chrono::milliseconds retry_after{1000};  ///< what a refused caller is told

  void describe(OptionVisitor& v);
  Problems validate() const;
};

/// How many calls may run at once, found out by watching how long they take: a queue that builds up behind the handler
/// shows as latency, so the limit falls with usual latency / recent latency, and by a tenth where calls are refused or
/// late; it rises while all of it is used and latency stays.
/// Source: Netflix concurrency-limits, Gradient2Limit
/// Lifetime/threads: any thread
class AdaptiveLimit {
 public:
  AdaptiveLimit(ConcurrencyLimitOptions options, TimePoint start);

  bool try_acquire();
  enum class Outcome { done, overload, ignored };
  void release(Outcome outcome, TimePoint began, TimePoint ended);
  std::int64_t limit() const { return limit_.load(std::memory_order_relaxed); }
  std::int64_t running() const { return running_.load(std::memory_order_relaxed); }

 private:
  void think(std::int64_t samples, std::int64_t sum_ns);
  ConcurrencyLimitOptions options_;
  std::atomic<std::int64_t> limit_;
  std::atomic<std::int64_t> running_{0};
  std::atomic<std::int64_t> window_ends_;
  // Of the current window. A sample that falls between two windows may count in either.
  std::atomic<std::int64_t> samples_{0}, sum_ns_{0}, peak_{0};
  std::atomic<bool> overload_{false};
  // Touched only by the one call that closes a window.
  std::atomic<bool> thinking_{false};
  double usual_ns_ = 0;
  double exact_limit_;
};

/// Lets through as many calls at once as the handler can take; more are `overloaded`.
/// Lifetime/threads: any thread; `inner` outlives it
class ConcurrencyLimit final : public core::Handler {
 public:
  ConcurrencyLimit(core::Handler& inner, ConcurrencyLimitOptions options, Now now = steady_now);
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override { return pass(inner_, std::move(request), std::move(context)); }
  /// The same limit, and the same places, before another handler.
  core::awaitable<core::Result<core::Reply>> pass(core::Handler& inner, core::Request request, core::CallContext context);
  const AdaptiveLimit& state() const { return limit_; }

 private:
  class Permit;
  core::awaitable<core::Result<core::Reply>> watch(core::Handler& inner, core::Request request, core::CallContext context);
  core::Handler& inner_;
  ConcurrencyLimitOptions options_;
  Now now_;
  AdaptiveLimit limit_;
};

}  // namespace flexi::runtime::policies
