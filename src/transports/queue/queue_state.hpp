// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <functional>

#include "core/timestamp.hpp"
#include "runtime/metrics.hpp"
#include "runtime/shards.hpp"
#include "transports/queue/waiters.hpp"
#include "transports/queue/write_batcher.hpp"

namespace flexi::transports::queue {

struct QueueMetrics {
  explicit QueueMetrics(runtime::Metrics& m);
  runtime::Metrics::Counter published, duplicates, delivered, retried, dead_lettered, expired, refused;
  runtime::Metrics::Gauge depth, oldest_age, dead_letters;
};

/// What publisher and consumer share.
/// Lifetime/threads: any thread
struct QueueState {
  QueueState(runtime::sqlite::Database& database, runtime::Shards& shards_, runtime::LogSink& log_, runtime::Metrics& metrics_,
             std::function<core::Timestamp()> now_, QueueOptions options_)
      : options(options_), shards(shards_), log(log_), now(std::move(now_)), metrics(metrics_), table(options),
        writes(database, table, shards.executor(0), log) {}

  std::int64_t now_micros() const { return core::to_unix_micros(now()); }
  /// A message left the queue and the dead letters.
  void forget(std::int64_t bytes) {
    held.fetch_sub(1);
    held_bytes.fetch_sub(bytes);
  }

  const QueueOptions options;
  runtime::Shards& shards;
  runtime::LogSink& log;
  const std::function<core::Timestamp()> now;
  QueueMetrics metrics;
  QueueTable table;
  WriteBatcher writes;
  Waiters waiters;
  std::atomic<std::int64_t> held{0}, held_bytes{0};  ///< queued and dead-lettered, with publishes under way
  std::atomic<std::int64_t> dead{0};
  std::atomic<std::int64_t> publishing{0}, publishing_bytes{0}, waiting{0};
};

}  // namespace flexi::transports::queue
