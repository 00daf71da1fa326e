// SPDX-License-Identifier: Apache-2.0
#include "runtime/policies/way_figures.hpp"

namespace flexi::runtime::policies {

using core::ErrorKind;

void WayFigures::make() {
  std::lock_guard lock(mutex_);
  if (made_.load(std::memory_order_relaxed)) return;
  duration_ = metrics_.histogram("flexi_way_duration_seconds", "Time of one call by one transport", {{"action", action_}, {"way", way_}});
  errors_ = metrics_.counter("flexi_way_errors_total", "Calls by one transport that it, or the service there, failed", {{"action", action_}, {"way", way_}});
  made_.store(true, std::memory_order_release);
}

void WayFigures::record(std::optional<ErrorKind> kind, std::chrono::duration<double> took) {
  if (!made_.load(std::memory_order_acquire)) make();
  duration_.observe(took.count());
  if (kind == ErrorKind::unavailable || kind == ErrorKind::deadline_exceeded || kind == ErrorKind::overloaded || kind == ErrorKind::internal) errors_.add();
}

WayFigures::Sample WayFigures::sample() const {
  if (!made_.load(std::memory_order_acquire)) return {};
  return {duration_.buckets(), errors_.value()};
}

void Minute::push(TimePoint now, WayFigures::Sample sample) {
  entries_[next_] = {now, std::move(sample)};
  next_ = (next_ + 1) % kKept;
  count_ = std::min(count_ + 1, kKept);
}

Minute::Rates Minute::over(std::chrono::seconds window) const {
  Rates rates;
  if (count_ < 2) return rates;
  const auto& newest = at(0);
  std::size_t age = 1;
  while (age + 1 < count_ && newest.time - at(age).time < window) ++age;
  const auto& oldest = at(age);
  const auto seconds = std::chrono::duration<double>(newest.time - oldest.time).count();
  if (seconds <= 0) return rates;
  const auto came = newest.sample.durations.since(oldest.sample.durations);
  rates.calls_per_second = static_cast<double>(came.total()) / seconds;
  rates.errors_per_second = (newest.sample.errors - oldest.sample.errors) / seconds;
  rates.p50 = came.quantile(0.5);
  rates.p99 = came.quantile(0.99);
  return rates;
}

}  // namespace flexi::runtime::policies
