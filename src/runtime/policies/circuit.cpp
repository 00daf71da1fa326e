// SPDX-License-Identifier: Apache-2.0
#include "runtime/policies/circuit.hpp"

#include <algorithm>

namespace flexi::runtime::policies {

namespace {
std::int64_t nanoseconds(TimePoint time) { return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count(); }
std::int64_t nanoseconds(std::chrono::milliseconds time) { return std::chrono::nanoseconds(time).count(); }
}  // namespace

void CircuitOptions::describe(OptionVisitor& v) {
  v.field("failures", failures, "Set a transport aside after so many failures in a row; 0 never does");
  v.field("ejection", ejection, "How long it is set aside at first; doubles each time it fails again");
  v.field("max_ejection", max_ejection, "The longest time that it is set aside");
}

Problems CircuitOptions::validate() const {
  Problems problems;
  if (failures < 0 || failures > 1'000'000) problems.push_back({"failures", "must be 0 to 1000000"});
  if (ejection < std::chrono::milliseconds(1)) problems.push_back({"ejection", "must be at least 1ms"});
  if (max_ejection < ejection) problems.push_back({"max_ejection", "must not be less than ejection"});
  return problems;
}

Circuit::Entry Circuit::enter(const Now& now) {
  const auto until = refused_until_.load(std::memory_order_acquire);
  if (until == 0) return Entry::pass;
  if (nanoseconds(now()) < until) return Entry::refused;
  return probing_.exchange(true, std::memory_order_acq_rel) ? Entry::refused : Entry::probe;
}

std::chrono::milliseconds Circuit::refused_for(const Now& now) const {
  const auto left = refused_until_.load(std::memory_order_acquire) - nanoseconds(now());
  return std::chrono::milliseconds(left > 0 ? left / 1'000'000 + 1 : 0);
}

void Circuit::succeeded(const Now& now) {
  if (failures_.load(std::memory_order_relaxed) != 0) failures_.store(0, std::memory_order_relaxed);
  if (!open()) return;
  closed_at_.store(nanoseconds(now()), std::memory_order_relaxed);
  refused_until_.store(0, std::memory_order_release);
  probing_.store(false, std::memory_order_release);
}

void Circuit::failed(const Now& now) {
  if (options_.failures == 0) return;
  const auto in_a_row = failures_.fetch_add(1, std::memory_order_relaxed) + 1;
  const auto seen = refused_until_.load(std::memory_order_acquire);
  const auto time = nanoseconds(now());
  if (seen == 0 ? in_a_row >= options_.failures : time >= seen) eject(time, seen);
  probing_.store(false, std::memory_order_release);
}

void Circuit::eject(std::int64_t now, std::int64_t seen) {
  // A way that was well for longer than the longest ejection begins anew.
  const bool relapse = seen != 0 || now - closed_at_.load(std::memory_order_relaxed) < nanoseconds(options_.max_ejection);
  const int before = relapse ? ejections_.load(std::memory_order_relaxed) : 0;
  auto wait = nanoseconds(options_.ejection);
  for (int i = 0; i < before && wait < nanoseconds(options_.max_ejection); ++i) wait *= 2;
  wait = std::min(wait, nanoseconds(options_.max_ejection));
  // Of many calls that fail at once, one sets the time; the others would only make it grow.
  if (refused_until_.compare_exchange_strong(seen, now + wait, std::memory_order_acq_rel))
    ejections_.store(std::min(before + 1, 40), std::memory_order_relaxed);
}

}  // namespace flexi::runtime::policies
