// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace flexi::runtime {

/// What a histogram has counted: how many values up to each bound, and above the last.
struct Buckets {
  std::vector<double> bounds;         ///< rising
  std::vector<std::uint64_t> counts;  ///< of each bucket alone; one more than bounds

  std::uint64_t total() const;
  /// What came since `earlier`, the same histogram's counts of some time ago; all of it where that is empty.
  Buckets since(const Buckets& earlier) const;
  /// An estimate: the values of a bucket count as evenly spread over it, those above the last bound as that bound.
  /// Source: https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile
  /// @param q 0 to 1
  /// @return  none where nothing was counted
  std::optional<double> quantile(double q) const;
};

}  // namespace flexi::runtime
