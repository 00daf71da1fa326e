// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/steady_timer.hpp>
#include <iterator>
#include <list>
#include <string>

#include "runtime/log_sink.hpp"

namespace flexi::runtime {

/// The only place where coroutines are spawned: logs the ones that fail, cancels and joins them all.
/// Lifetime/threads: spawn, cancel and join on `executor`'s thread; aborts if destroyed while a task runs
class TaskScope {
 public:
  /// @param name stands in the log beside a task's failure
  TaskScope(boost::asio::any_io_executor executor, std::string name, LogSink& log);
  ~TaskScope();
  TaskScope(const TaskScope&) = delete;
  TaskScope& operator=(const TaskScope&) = delete;

  void spawn(boost::asio::awaitable<void> task);
  /// As spawn(), for a task that is also cancelled alone: `make(signal)` gives the task, `signal` lives as long as it.
  template <class Make>
  void spawn_cancellable(Make make) {
    auto& signal = tasks_.emplace_back();
    start(std::prev(tasks_.end()), make(signal));
  }
  /// Asks every running task to end (terminal cancellation).
  void cancel();
  /// Returns when no task is left.
  boost::asio::awaitable<void> join();
  std::size_t running() const { return tasks_.size(); }
  const boost::asio::any_io_executor& executor() const { return executor_; }

 private:
  void start(std::list<boost::asio::cancellation_signal>::iterator it, boost::asio::awaitable<void> task);
  boost::asio::any_io_executor executor_;
  std::string name_;
  LogSink& log_;
  std::list<boost::asio::cancellation_signal> tasks_;
  boost::asio::steady_timer idle_;  ///< cancelled when the last task ends
};

}  // namespace flexi::runtime
