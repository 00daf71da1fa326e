// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>

#include "core/transport.hpp"

namespace flexi::apps {

/// The one moment by which all parts of a process have stopped: each takes what those before it left.
class StopTime {
 public:
  using Clock = std::chrono::steady_clock;
  /// What a part gets in any case: it closes cleanly in this time where nothing holds it up.
  static constexpr std::chrono::milliseconds kLeast{200};

  explicit StopTime(std::chrono::milliseconds grace) : until_(Clock::now() + grace) {}
  core::StopOptions left() const {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until_ - Clock::now());
    return {.grace = std::max(left, over_ ? std::chrono::milliseconds(0) : kLeast)};
  }
  /// Nobody is waited for any more.
  void end() {
    over_ = true;
    until_ = std::min(until_, Clock::now());
  }

 private:
  Clock::time_point until_;
  bool over_ = false;
};

}  // namespace flexi::apps
