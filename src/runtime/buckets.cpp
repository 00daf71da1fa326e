// SPDX-License-Identifier: Apache-2.0
#include "runtime/buckets.hpp"

#include <numeric>

namespace flexi::runtime {

std::uint64_t Buckets::total() const { return std::accumulate(counts.begin(), counts.end(), std::uint64_t{0}); }

Buckets Buckets::since(const Buckets& earlier) const {
  Buckets difference = *this;
  for (std::size_t i = 0; i < counts.size() && i < earlier.counts.size(); ++i) difference.counts[i] -= earlier.counts[i];
  return difference;
}

std::optional<double> Buckets::quantile(double q) const {
  const auto all = static_cast<double>(total());
  if (all == 0 || bounds.empty()) return std::nullopt;
  const double rank = q * all;
  double below = 0;
  for (std::size_t i = 0; i < bounds.size(); ++i) {
    const auto here = static_cast<double>(counts[i]);
    if (here != 0 && below + here >= rank) {
      const double from = i == 0 ? 0 : bounds[i - 1];
      return from + (bounds[i] - from) * ((rank - below) / here);
    }
    below += here;
  }
  return bounds.back();
}

}  // namespace flexi::runtime
