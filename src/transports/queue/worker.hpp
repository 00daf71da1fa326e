// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <set>

#include "transports/queue/consumer.hpp"

namespace flexi::transports::queue {

/// The consumer's hands on one shard: so many coroutines, each of which handles one message after the other, and one
/// more for each log-in.
/// Lifetime/threads: add() from any thread; the rest on its shard
class Worker {
 public:
  Worker(QueueState& state, Consumer& consumer, core::Handler& handler, unsigned shard, std::int64_t slots);

  void start();
  void add(std::vector<Message> messages);
  void add(TransientCall call);
  /// What has not begun goes back.
  void drop_queued();
  void cancel_running();
  /// Ends the idle coroutines and joins.
  boost::asio::awaitable<void> end();
  const boost::asio::any_io_executor& executor() const { return executor_; }

 private:
  struct Slot {
    explicit Slot(const boost::asio::any_io_executor& executor) : wake(executor), timer(executor) {}
    boost::asio::steady_timer wake, timer;
    boost::asio::cancellation_signal cancel;
    std::uint64_t call = 0;
    bool running = false, timed_out = false;
    bool untaken = false;  ///< nobody took what was handled last
  };
  boost::asio::awaitable<void> run(std::shared_ptr<Slot> slot);
  boost::asio::awaitable<void> handle(std::shared_ptr<Slot> slot, Message message);
  boost::asio::awaitable<void> handle(std::shared_ptr<Slot> slot, TransientCall call);
  boost::asio::awaitable<core::Result<core::Reply>> attempt(std::shared_ptr<Slot> slot, core::Request request, core::CallContext context);
  void refuse(TransientCall call);
  void wake(std::size_t count);

  QueueState& state_;
  Consumer& consumer_;
  core::Handler& handler_;
  boost::asio::any_io_executor executor_;
  runtime::TaskScope scope_;
  std::vector<std::shared_ptr<Slot>> slots_;
  std::vector<Slot*> idle_;
  std::deque<Message> messages_;
  std::set<std::shared_ptr<Slot>> calls_;  ///< log-ins that run
  bool ending_ = false;
};

}  // namespace flexi::transports::queue
