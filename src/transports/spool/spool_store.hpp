// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <map>
#include <mutex>

#include "runtime/log_sink.hpp"
#include "runtime/metrics.hpp"
#include "transports/spool/spool_directory.hpp"
#include "transports/spool/spool_options.hpp"
#include "transports/spool/spool_table.hpp"

namespace flexi::transports::spool {

/// The messages of one action that wait, or are being written.
struct Lane {
  explicit Lane(std::string name) : action(std::move(name)) {}
  const std::string action;
  std::atomic<std::int64_t> held{0};
  bool draining = false;  ///< these two on shard 0
  bool woken = false;     ///< something was committed since the drain looked
};

/// The spool's file and what is in it, by number.
/// Lifetime/threads: any thread, except open() and adopt()
class Store {
 public:
  Store(SpoolOptions options, runtime::LogSink& log, runtime::Metrics& metrics);

  /// Takes a file, where there is none yet. Blocks; one thread at a time, as is adopt().
  core::Result<void> open();
  /// Takes over the files of processes that died. What fails is tried again the next time. @return whether anything came
  bool adopt();

  /// Null: there is no file yet.
  runtime::sqlite::Database* database() const { return ready_.load(); }
  Lane& lane(std::string_view action);
  std::vector<Lane*> lanes();
  /// Whether messages of this action wait. One load while the spool is empty.
  bool waits(std::string_view action);

  /// Counts a message before it is written, so that the limits hold for those under way too, and so that what comes after
  /// goes behind it. @return false: full
  bool reserve(Lane& lane, std::int64_t bytes);
  void forget(Lane& lane, std::int64_t messages, std::int64_t bytes);
  void came(const HeldByAction& messages);
  void died(std::int64_t letters) { dead_.fetch_add(letters); }
  /// Dead letters that were discarded.
  void discarded(const Held& letters) { dead_.fetch_sub(letters.messages), bytes_.fetch_sub(letters.bytes); }

  std::int64_t messages() const { return messages_.load(); }
  std::int64_t bytes() const { return bytes_.load(); }
  std::int64_t dead() const { return dead_.load(); }

 private:
  core::Result<void> adopt(SpoolFile& file);

  const SpoolOptions options_;
  SpoolDirectory directory_;
  runtime::LogSink& log_;
  runtime::Metrics& metrics_;
  std::unique_ptr<SpoolFile> file_;  ///< before database_: unlocked after it is closed
  std::unique_ptr<runtime::sqlite::Database> database_;
  std::atomic<runtime::sqlite::Database*> ready_{nullptr};
  std::map<std::string, std::string> orphans_;  ///< files that could not be adopted and why, each said once
  runtime::Metrics::Gauge orphan_count_;
  std::mutex mutex_;
  std::map<std::string, std::unique_ptr<Lane>, std::less<>> lanes_;
  std::atomic<std::int64_t> messages_{0}, bytes_{0}, dead_{0};
};

}  // namespace flexi::transports::spool
