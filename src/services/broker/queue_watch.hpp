// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>

namespace flexi::services::broker {

/// What a queue says of itself from outside: how many wait, never how many are in a consumer's hand.
struct QueueSight {
  std::int64_t ready = 0;      ///< that wait, also for their next attempt
  std::int64_t consumers = 0;
  std::int64_t dead = 0;       ///< in the dead letters
};

/// Tells what is lost from what is merely in somebody's hand. A consumer holds a message no longer than `hold`: where nothing has
/// waited for that long, every message from before has ended. While some wait, as many may be in hand as the consumers may
/// take, so only what is missing beyond that, all the time, counts as lost.
/// Lifetime/threads: a value, one thread
class QueueWatch {
 public:
  using Time = std::chrono::steady_clock::time_point;

  QueueWatch(std::chrono::milliseconds hold, std::int64_t prefetch) : hold_(hold), prefetch_(prefetch) {}

  /// @param old     messages that were published longer than `hold` ago, and are neither stored nor among the dead letters
  /// @param unknown dead letters that may be some of them
  void saw(const QueueSight& sight, std::int64_t old, std::int64_t unknown, Time now) {
    if (sight.ready > 0) quiet_.reset();
    else if (!quiet_) quiet_ = now;
    const std::int64_t in_hand = at_rest(now) ? 0 : sight.consumers * prefetch_;
    missing_ = std::max<std::int64_t>(old - sight.ready - unknown - in_hand, 0);
    if (missing_ == 0) {
      since_.reset();
    } else if (!since_) {
      since_ = now, least_ = missing_;
    } else {
      least_ = std::min(least_, missing_);
    }
    lost_ = at_rest(now) ? missing_ : since_ && now - *since_ >= hold_ ? least_ : 0;
  }
  /// Nobody looked, or nobody could: what was seen before says nothing about now.
  void forget() { *this = QueueWatch(hold_, prefetch_); }

  std::int64_t lost() const { return lost_; }
  /// Nothing has waited for as long as a message may be in hand.
  bool at_rest(Time now) const { return quiet_ && now - *quiet_ >= hold_; }

 private:
  std::chrono::milliseconds hold_;
  std::int64_t prefetch_, missing_ = 0, least_ = 0, lost_ = 0;
  std::optional<Time> quiet_, since_;  ///< since when nothing waits; since when something is missing
};

}  // namespace flexi::services::broker
