// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>

namespace flexi::transports::grpc {

/// So many events a second, ten times as many at once.
/// Lifetime/threads: one thread
class Allowance {
 public:
  using Time = std::chrono::steady_clock::time_point;
  explicit Allowance(double per_second) : per_second_(per_second), left_(10 * per_second) {}

  /// @return false where there were too many
  bool take(Time now) {
    left_ = std::min(10 * per_second_, left_ + per_second_ * std::chrono::duration<double>(now - last_).count());
    last_ = now;
    return (left_ -= 1) >= 0;
  }

 private:
  double per_second_, left_;
  Time last_{};
};

}  // namespace flexi::transports::grpc
