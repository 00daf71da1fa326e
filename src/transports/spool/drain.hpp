// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <random>
#include <set>

#include "core/transport.hpp"
#include "runtime/metrics.hpp"
#include "runtime/task_scope.hpp"
#include "transports/spool/spool_store.hpp"

namespace flexi::transports::spool {

/// Hands what waits to the queue: each action in its order, a batch under way at a time; after a failure again from the first that
/// is not confirmed, one alone until it is.
/// Lifetime/threads: on the executor, except wake_later(); stop() before it is destroyed
class Drain {
 public:
  Drain(boost::asio::any_io_executor executor, Store& store, const SpoolOptions& options, core::Handler& publisher, runtime::LogSink& log,
        runtime::Metrics& metrics, std::function<core::Timestamp()> now);

  /// Something of this action may wait.
  void wake(Lane& lane);
  /// Likewise, from any thread.
  void wake_later(const HeldByAction& came);
  /// What is under way ends within the grace, or stays.
  core::awaitable<void> stop(core::StopOptions options);

 private:
  /// How one batch went: `done` from its head on are confirmed or refused for good.
  struct Outcome {
    std::size_t done = 0;
    struct Refused {
      std::int64_t seq, bytes;
      std::string id;
      core::Error error;
    };
    std::vector<Refused> refused;
    std::optional<core::Error> failure;                         ///< of the first that is not done
  };
  struct Flight;
  core::awaitable<void> run(Lane* lane);
  core::awaitable<Outcome> publish(const std::vector<Spooled>& batch, std::int64_t failures);
  core::awaitable<void> settle(Lane& lane, const std::vector<Spooled>& batch, const Outcome& outcome, std::int64_t failures);
  core::awaitable<void> pause(std::chrono::milliseconds how_long);
  std::chrono::milliseconds back_off(std::int64_t failures, const core::Error& error);
  bool is_refusal(const core::Error& error, std::int64_t failures) const;

  Store& store_;
  const SpoolOptions& options_;
  core::Handler& publisher_;
  runtime::LogSink& log_;
  const std::function<core::Timestamp()> now_;
  runtime::TaskScope scope_;
  std::set<boost::asio::steady_timer*> pauses_;
  bool stopping_ = false;
  std::minstd_rand random_{std::random_device{}()};
  runtime::Metrics::Counter drained_, dead_lettered_;
};

}  // namespace flexi::transports::spool
