// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <mutex>
#include <optional>
#include <string>

#include "core/error.hpp"
#include "runtime/metrics.hpp"
#include "runtime/policies/clock.hpp"

namespace flexi::runtime::policies {

/// How calls by one way to one action went: flexi_way_duration_seconds{action,way} and
/// flexi_way_errors_total{action,way}. An error here is the way's or its service's (unavailable, deadline_exceeded,
/// overloaded, internal), not a request that was wrong.
/// Lifetime/threads: any thread; `metrics` outlives it
class WayFigures {
 public:
  WayFigures(Metrics& metrics, std::string action, std::string way) : metrics_(metrics), action_(std::move(action)), way_(std::move(way)) {}

  /// @param kind none: it went well
  void record(std::optional<core::ErrorKind> kind, std::chrono::duration<double> took);

  struct Sample {
    Buckets durations;  ///< of all calls, in seconds
    double errors = 0;
  };
  Sample sample() const;

 private:
  void make();
  Metrics& metrics_;
  const std::string action_, way_;
  std::mutex mutex_;
  std::atomic<bool> made_{false};  ///< made by the first call: series that never move would only bury the others
  Metrics::Histogram duration_;
  Metrics::Counter errors_;
};

/// The last minute of something that is sampled once a second.
/// Lifetime/threads: one thread at a time
class Minute {
 public:
  void push(TimePoint now, WayFigures::Sample sample);
  struct Rates {
    double calls_per_second = 0, errors_per_second = 0;
    std::optional<double> p50, p99;  ///< seconds, estimated; none where nothing was called
  };
  /// Of the last `window`, or of what there is.
  Rates over(std::chrono::seconds window) const;
  /// As of the last sample.
  std::uint64_t calls() const { return count_ == 0 ? 0 : at(0).sample.durations.total(); }
  double errors() const { return count_ == 0 ? 0 : at(0).sample.errors; }

 private:
  struct Entry {
    TimePoint time{};
    WayFigures::Sample sample{};
  };
  static constexpr std::size_t kKept = 61;
  /// @param age 0: the newest
  const Entry& at(std::size_t age) const { return entries_[(next_ + kKept - 1 - age) % kKept]; }
  std::array<Entry, kKept> entries_{};
  std::size_t next_ = 0, count_ = 0;
};

}  // namespace flexi::runtime::policies
