// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <functional>

#include "runtime/options.hpp"
#include "runtime/policies/clock.hpp"

namespace flexi::runtime::policies {

struct RetryOptions {
  std::int64_t attempts = 3;                ///< tries in all; 1: no retry
  std::chrono::milliseconds base_delay{20};  ///< the first pause is random between 0 and this, each next one between 0 and twice as much
  std::chrono::milliseconds max_delay{250};  ///< no pause is longer; a destination that asks for more is not tried again
  double budget = 0.2;                      ///< retries per request over time: keeps retries from multiplying an outage
  std::int64_t reserve = 10;                ///< retries that a quiet time saves up

  void describe(OptionVisitor& v);
  Problems validate() const;
};

/// What a Retry takes from outside, so that its tests neither wait nor roll dice.
struct RetryHooks {
  Now now = steady_now;
  std::function<double()> random{};                                             ///< 0 to 1; none: a real one
  std::function<core::awaitable<void>(std::chrono::milliseconds)> pause{};  ///< none: a real one
};

/// Tries transient failures again, with exponential back-off and full jitter, inside the deadline and inside a budget.
/// What may have been sent is tried again only where that does no harm.
/// Source: Envoy's retry budgets; "Exponential Backoff and Jitter", AWS Architecture Blog, 2015
/// Lifetime/threads: any thread; `inner` outlives it
class Retry final : public core::Handler {
 public:
  Retry(core::Handler& inner, RetryOptions options, Idempotent idempotent, RetryHooks hooks = {});
  /// @return the inner answer, or the last error
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override;

 private:
  core::awaitable<core::Result<core::Reply>> attempts(core::Request request, core::CallContext context);
  bool may_repeat(const core::Error& error) const;
  void deposit();
  bool withdraw();
  core::Handler& inner_;
  RetryOptions options_;
  Idempotent idempotent_;
  RetryHooks hooks_;
  std::atomic<std::int64_t> tokens_;  ///< thousandths of a retry
};

}  // namespace flexi::runtime::policies
