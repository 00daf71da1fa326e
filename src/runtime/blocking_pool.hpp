// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>

#include "core/call_context.hpp"
#include "runtime/completion.hpp"

namespace flexi::runtime {

struct BlockingPoolOptions {
  std::string name = "pool";      ///< stands in messages: "<name> is busy"
  unsigned threads = 2;           ///< how many jobs run at once
  std::size_t queue_limit = 256;  ///< jobs that may wait; one more is `overloaded`
};

/// Threads for work that blocks or computes for long (password hashing, SMTP). Jobs run in order of arrival; a job whose
/// deadline has passed before it began, or whose caller left, is not run.
/// Lifetime/threads: run() from any coroutine; outlives its calls; the destructor runs what is queued and joins
class BlockingPool {
 public:
  explicit BlockingPool(BlockingPoolOptions options);
  ~BlockingPool();

  /// @param job returns Result<T>; bounded by its own time-out; its exceptions become `internal`
  /// @return    what the job returned; overloaded when the queue is full; deadline_exceeded
  template <class Job>
  auto run(Job job, core::CallContext context) -> boost::asio::awaitable<std::invoke_result_t<Job&>>;

  std::size_t queued() const;

 private:
  using Task = std::function<void()>;  // copyable wrapper of a shared job
  bool submit(Task task);              ///< false when the queue is full
  core::Error busy() const;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

template <class Job>
auto BlockingPool::run(Job job, core::CallContext context) -> boost::asio::awaitable<std::invoke_result_t<Job&>> {
  using R = std::invoke_result_t<Job&>;
  using T = typename R::value_type;
  if (context.expired()) co_return cancelled_error(core::Sent::no);
  auto shared = std::make_shared<Job>(std::move(job));
  auto left = std::make_shared<std::atomic<bool>>(false);  // the caller has: nobody wants the answer
  auto start = [this, shared, left, context](std::shared_ptr<Completion<T>> completion) {
    auto task = [completion, shared, left, context] {
      if (*left || context.expired()) return completion->complete(cancelled_error(core::Sent::no));
      try {
        completion->complete((*shared)());
      } catch (const std::exception& e) {
        completion->complete(core::internal("internal error", e.what()));
      }
    };
    if (!submit(std::move(task))) completion->complete(busy());
  };
  auto result = co_await wait_for_completion<T>(std::move(start), cancelled_error(core::Sent::maybe));
  *left = true;
  co_return result;
}

}  // namespace flexi::runtime
