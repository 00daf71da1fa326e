// SPDX-License-Identifier: Apache-2.0
#include "runtime/policies/retry.hpp"

#include <algorithm>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <optional>
#include <random>

#include "runtime/completion.hpp"

namespace flexi::runtime::policies {

namespace asio = boost::asio;
using std::chrono::milliseconds;

void RetryOptions::describe(OptionVisitor& v) {
  v.field("attempts", attempts, "Tries per request in all; 1 turns retrying off");
  v.field("base_delay", base_delay, "Upper end of the first random pause; doubles with each try");
  v.field("max_delay", max_delay, "No pause is longer; who asks for a longer one is not tried again");
  v.field("budget", budget, "Retries allowed per request over time, e.g. 0.2");
  v.field("reserve", reserve, "Retries that a quiet time saves up");
}

Problems RetryOptions::validate() const {
  Problems problems;
  if (attempts < 1 || attempts > 20) problems.push_back({"attempts", "must be 1 to 20"});
  if (base_delay.count() < 0) problems.push_back({"base_delay", "must not be negative"});
  if (max_delay < base_delay) problems.push_back({"max_delay", "must not be less than base_delay"});
  if (!(budget >= 0 && budget <= 1)) problems.push_back({"budget", "must be 0 to 1"});
  if (reserve < 0 || reserve > 1'000'000) problems.push_back({"reserve", "must be 0 to 1000000"});
  return problems;
}

namespace {

double real_random() {
  thread_local std::minstd_rand engine{std::random_device{}()};
  return std::uniform_real_distribution<double>(0, 1)(engine);
}

core::awaitable<void> real_pause(milliseconds time) {
  asio::steady_timer timer(co_await asio::this_coro::executor, time);
  co_await timer.async_wait(asio::use_awaitable);
}

}  // namespace

Retry::Retry(core::Handler& inner, RetryOptions options, Idempotent idempotent, RetryHooks hooks)
    : inner_(inner), options_(options), idempotent_(idempotent), hooks_(std::move(hooks)), tokens_(options.reserve * 1000) {
  if (!hooks_.random) hooks_.random = real_random;
  if (!hooks_.pause) hooks_.pause = real_pause;
}

bool Retry::may_repeat(const core::Error& error) const {
  return core::is_transient(error.kind) && (error.sent == core::Sent::no || idempotent_ == Idempotent::yes);
}

// A counter that is a little off under contention is as good a budget, so neither operation needs an ordering.
void Retry::deposit() {
  if (tokens_.load(std::memory_order_relaxed) < options_.reserve * 1000)
    tokens_.fetch_add(static_cast<std::int64_t>(options_.budget * 1000), std::memory_order_relaxed);
}

bool Retry::withdraw() {
  auto tokens = tokens_.load(std::memory_order_relaxed);
  while (tokens >= 1000)
    if (tokens_.compare_exchange_weak(tokens, tokens - 1000, std::memory_order_relaxed)) return true;
  return false;
}

core::awaitable<core::Result<core::Reply>> Retry::handle(core::Request request, core::CallContext context) {
  if (options_.attempts <= 1) return inner_.handle(std::move(request), std::move(context));
  return attempts(std::move(request), std::move(context));
}

core::awaitable<core::Result<core::Reply>> Retry::attempts(core::Request request, core::CallContext context) {
  deposit();
  auto sent = core::Sent::no;
  auto limit = options_.base_delay;
  for (std::int64_t attempt = 1;; ++attempt, limit = std::min(limit * 2, options_.max_delay)) {
    const bool last = attempt >= options_.attempts;
    auto result = co_await inner_.handle(last ? std::move(request) : core::Request(request), context);
    if (result) co_return result;
    if (result.error().sent == core::Sent::maybe) sent = core::Sent::maybe;
    result.error().sent = sent;
    if (last || !may_repeat(result.error())) co_return result;
    if ((co_await asio::this_coro::cancellation_state).cancelled() != asio::cancellation_type::none) co_return result;  // nobody waits any more

    auto pause = milliseconds(static_cast<std::int64_t>(hooks_.random() * static_cast<double>(limit.count())));
    if (auto& asked = result.error().retry_after) {
      if (*asked > options_.max_delay) co_return result;
      pause = std::max(pause, *asked);
    }
    if (context.has_deadline() && hooks_.now() + pause >= context.deadline) co_return result;
    if (!withdraw()) co_return result;
    co_await hooks_.pause(pause);
  }
}

}  // namespace flexi::runtime::policies
