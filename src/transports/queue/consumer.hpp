// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <random>

#include "core/transport.hpp"
#include "transports/queue/queue_state.hpp"

namespace flexi::transports::queue {

class Consumer;

/// A log-in on its way: in memory only, never on disk, never in a log.
struct TransientCall {
  core::Request request;
  core::CallContext context;
  std::shared_ptr<runtime::Completion<core::Reply>> completion;
  std::shared_ptr<Consumer> owner;  ///< lives as long as the call
};

/// The pause before attempt `failures + 1`.
/// @param random 0 to 1
std::chrono::milliseconds back_off(const QueueOptions& options, std::int64_t failures, double random);

class Worker;

/// Fetches in batches, hands the messages to a worker on each shard, and settles what comes back.
/// Lifetime/threads: on shard 0 except where told otherwise; stop() before it is destroyed
class Consumer : public std::enable_shared_from_this<Consumer> {
 public:
  Consumer(QueueState& state, core::Handler& handler);
  ~Consumer();

  /// Any thread.
  void start();
  /// Something new may be there.
  void wake();
  boost::asio::awaitable<void> stop(core::StopOptions options);

  /// Any thread.
  core::awaitable<core::Result<core::Reply>> call_transient(core::Request request, core::CallContext context);
  /// Any thread: what became of a message.
  void finished(Message message, core::Result<core::Reply> result);
  void released(Message message);
  void transient_done();
  bool stopping() const { return stopping_.load(); }

 private:
  class FetchOp;
  class SettleOp;
  boost::asio::awaitable<void> run();
  void pump();
  void fetched(core::Result<Fetched> fetched);
  void distribute(std::vector<Message> messages);
  void settle(Message message, Settlement how, core::Result<core::Reply> result);
  void settled(bool isolated);
  Settlement judge(const Message& message, const core::Error& error);
  boost::asio::awaitable<void> drained(std::chrono::steady_clock::time_point until);

  QueueState& state_;
  std::vector<std::unique_ptr<Worker>> workers_;
  runtime::TaskScope scope_;
  boost::asio::steady_timer timer_;    ///< the next retry
  boost::asio::steady_timer drained_;  ///< cancelled when nothing is in flight
  std::atomic<bool> stopping_{false};
  std::atomic<unsigned> next_worker_{0};
  std::atomic<std::int64_t> transient_{0};
  bool ready_ = false;     ///< recovery is done
  bool fresh_ = true;      ///< there may be something to fetch
  bool fetching_ = false;
  std::int64_t in_flight_ = 0;
  bool isolated_in_flight_ = false;
  std::int64_t cursor_ = 0;
};

}  // namespace flexi::transports::queue
