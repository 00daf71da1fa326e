// SPDX-License-Identifier: Apache-2.0
#include "runtime/policies/concurrency_limit.hpp"

#include <algorithm>
#include <cmath>

namespace flexi::runtime::policies {

namespace {
std::int64_t nanoseconds(auto duration) { return std::chrono::duration_cast<std::chrono::nanoseconds>(duration).count(); }
constexpr std::int64_t kFewestSamples = 10;  // fewer say nothing about latency
}  // namespace

void ConcurrencyLimitOptions::describe(OptionVisitor& v) {
  v.field("initial", initial, "Requests at once per action at first; 0 is no limit");
  v.field("min", min, "The limit never falls below this");
  v.field("max", max, "The limit never rises above this");
  v.field("tolerance", tolerance, "The limit falls once requests take longer than usual by this factor");
  v.field("window", window, "How often the limit is adapted");
  v.field("retry_after", retry_after, "When a refused caller is asked to come back");
}

Problems ConcurrencyLimitOptions::validate() const {
  Problems problems;
  if (min < 1) problems.push_back({"min", "must be at least 1"});
  if (max < min || max > 1'000'000) problems.push_back({"max", "must be min to 1000000"});
  if (initial != 0 && (initial < min || initial > max)) problems.push_back({"initial", "must be 0, or min to max"});
  if (!(tolerance >= 1 && tolerance <= 100)) problems.push_back({"tolerance", "must be 1 to 100"});
  if (window.count() < 1) problems.push_back({"window", "must be at least 1ms"});
  if (retry_after.count() < 0) problems.push_back({"retry_after", "must not be negative"});
  return problems;
}

AdaptiveLimit::AdaptiveLimit(ConcurrencyLimitOptions options, TimePoint start)
    : options_(options),
      limit_(options.initial),
      window_ends_(nanoseconds(start.time_since_epoch() + options.window)),
      exact_limit_(static_cast<double>(options.initial)) {}

bool AdaptiveLimit::try_acquire() {
  const auto running = running_.fetch_add(1, std::memory_order_relaxed) + 1;
  if (running > limit_.load(std::memory_order_relaxed)) {
    running_.fetch_sub(1, std::memory_order_relaxed);
    return false;
  }
  if (running > peak_.load(std::memory_order_relaxed)) peak_.store(running, std::memory_order_relaxed);
  return true;
}

void AdaptiveLimit::release(Outcome outcome, TimePoint began, TimePoint ended) {
  running_.fetch_sub(1, std::memory_order_relaxed);
  if (outcome == Outcome::overload) overload_.store(true, std::memory_order_relaxed);
  if (outcome != Outcome::done) return;
  const auto samples = samples_.fetch_add(1, std::memory_order_relaxed) + 1;
  const auto sum_ns = sum_ns_.fetch_add(nanoseconds(ended - began), std::memory_order_relaxed) + nanoseconds(ended - began);
  const auto now_ns = nanoseconds(ended.time_since_epoch());
  if (now_ns < window_ends_.load(std::memory_order_relaxed) || samples < kFewestSamples) return;
  if (thinking_.exchange(true, std::memory_order_acquire)) return;
  if (now_ns >= window_ends_.load(std::memory_order_relaxed)) {
    think(samples, sum_ns);
    samples_.store(0, std::memory_order_relaxed);
    sum_ns_.store(0, std::memory_order_relaxed);
    window_ends_.store(now_ns + nanoseconds(options_.window), std::memory_order_relaxed);
  }
  thinking_.store(false, std::memory_order_release);
}

void AdaptiveLimit::think(std::int64_t samples, std::int64_t sum_ns) {
  const double recent_ns = std::max(1.0, static_cast<double>(sum_ns) / static_cast<double>(samples));
  const auto peak = peak_.exchange(running(), std::memory_order_relaxed);
  const bool overload = overload_.exchange(false, std::memory_order_relaxed);

  // The usual latency follows slowly, but comes down quickly once a slow time is over.
  usual_ns_ = usual_ns_ == 0 ? recent_ns : usual_ns_ * 0.98 + recent_ns * 0.02;
  if (usual_ns_ > 2 * recent_ns) usual_ns_ *= 0.9;

  const double gradient = std::clamp(options_.tolerance * usual_ns_ / recent_ns, 0.5, 1.0);
  if (overload) {
    exact_limit_ *= 0.9;
  } else if (gradient < 1.0) {
    exact_limit_ = exact_limit_ * 0.8 + (exact_limit_ * gradient + std::sqrt(exact_limit_)) * 0.2;
  } else if (static_cast<double>(peak) * 2 >= exact_limit_) {
    exact_limit_ += std::sqrt(exact_limit_);  // only where the limit was near: an idle handler teaches nothing
  }
  exact_limit_ = std::clamp(exact_limit_, static_cast<double>(options_.min), static_cast<double>(options_.max));
  limit_.store(static_cast<std::int64_t>(exact_limit_), std::memory_order_relaxed);
}

/// Gives its place back however the call ends: by an answer, by cancellation, by an exception.
class ConcurrencyLimit::Permit {
 public:
  Permit(AdaptiveLimit& limit, const Now& now) : limit_(limit), now_(now), began_(now()) {}
  Permit(const Permit&) = delete;
  Permit& operator=(const Permit&) = delete;
  ~Permit() { limit_.release(outcome, began_, outcome == AdaptiveLimit::Outcome::done ? now_() : began_); }
  AdaptiveLimit::Outcome outcome = AdaptiveLimit::Outcome::ignored;

 private:
  AdaptiveLimit& limit_;
  const Now& now_;
  TimePoint began_;
};

ConcurrencyLimit::ConcurrencyLimit(core::Handler& inner, ConcurrencyLimitOptions options, Now now)
    : inner_(inner), options_(options), now_(std::move(now)), limit_(options, now_()) {}

core::awaitable<core::Result<core::Reply>> ConcurrencyLimit::pass(core::Handler& inner, core::Request request, core::CallContext context) {
  if (options_.initial == 0) return inner.handle(std::move(request), std::move(context));
  return watch(inner, std::move(request), std::move(context));
}

core::awaitable<core::Result<core::Reply>> ConcurrencyLimit::watch(core::Handler& inner, core::Request request, core::CallContext context) {
  // Acquired in here and not in handle(): a coroutine that is never started would not give its place back.
  if (!limit_.try_acquire()) {
    auto error = core::overloaded("too many requests at once");
    error.retry_after = options_.retry_after;
    co_return error;
  }
  Permit permit(limit_, now_);
  const auto deadline = context.deadline;
  auto result = co_await inner.handle(std::move(request), std::move(context));
  if (result) {
    permit.outcome = AdaptiveLimit::Outcome::done;
  } else if (result.error().kind == core::ErrorKind::overloaded) {
    permit.outcome = AdaptiveLimit::Outcome::overload;
  } else if (result.error().kind == core::ErrorKind::deadline_exceeded && now_() >= deadline) {
    permit.outcome = AdaptiveLimit::Outcome::overload;  // before the deadline it was the caller who left
  }
  co_return result;
}

}  // namespace flexi::runtime::policies
