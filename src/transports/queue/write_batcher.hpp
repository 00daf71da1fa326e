// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

#include "runtime/sqlite/database.hpp"
#include "runtime/task_scope.hpp"
#include "transports/queue/queue_table.hpp"

namespace flexi::transports::queue {

/// One change to the queue's tables.
class WriteOp {
 public:
  virtual ~WriteOp() = default;
  /// On the writer's thread, inside a transaction. An Error undoes every change of its batch.
  virtual core::Result<void> run(runtime::sqlite::Connection& c, QueueTable& table) = 0;
  /// Where answer() runs.
  virtual boost::asio::any_io_executor executor() const = 0;
  /// Once, after the commit, or with the reason why nothing was written.
  virtual void answer(const core::Error* failure) = 0;
  /// Whether the consumer has something new to fetch.
  virtual bool brings_work() const { return false; }
};

/// Carries out changes in order of arrival, in as few jobs of the database as possible: while one batch commits, the
/// next gathers. One job and one ledger update for hundreds of messages is what makes the queue cheap.
/// Lifetime/threads: submit() from any thread; the rest on `executor`'s; stop() before it is destroyed
class WriteBatcher {
 public:
  WriteBatcher(runtime::sqlite::Database& database, QueueTable& table, boost::asio::any_io_executor executor, runtime::LogSink& log);

  /// @param on_work called on `executor` after a commit that brings work
  void start(std::function<void()> on_work);
  void submit(std::unique_ptr<WriteOp> op);
  std::size_t waiting() const;
  /// Carries out what was submitted, then ends.
  boost::asio::awaitable<void> stop();

  /// As an operation of its own: `job` runs in order with the others.
  /// @param committed called with the result once it is durable, even where the caller has left meanwhile
  template <class T>
  boost::asio::awaitable<core::Result<T>> call(std::function<core::Result<T>(runtime::sqlite::Connection&, QueueTable&)> job, bool brings_work,
                                               std::function<void(const T&)> committed = {});

 private:
  using Ops = std::vector<std::unique_ptr<WriteOp>>;
  struct Lane {
    explicit Lane(const boost::asio::any_io_executor& executor) : wake(executor, boost::asio::steady_timer::time_point::max()) {}
    boost::asio::steady_timer wake;
    bool parked = false;  ///< guarded by mutex_
  };
  boost::asio::awaitable<void> run(Lane& lane);
  Ops take();
  void answer(Ops ops, const core::Error* failure);
  void wake_lane();

  runtime::sqlite::Database& database_;
  QueueTable& table_;
  boost::asio::any_io_executor executor_;
  runtime::TaskScope scope_;
  std::function<void()> on_work_;
  Lane lanes_[2];  ///< two: the writer finds the next batch waiting when a commit ends
  mutable std::mutex mutex_;
  std::deque<std::unique_ptr<WriteOp>> waiting_;
  bool stopping_ = false;
};

namespace detail {
template <class T>
class CallOp final : public WriteOp {
 public:
  using Job = std::function<core::Result<T>(runtime::sqlite::Connection&, QueueTable&)>;
  CallOp(Job job, std::shared_ptr<runtime::Completion<T>> completion, bool work, std::function<void(const T&)> committed)
      : job_(std::move(job)), completion_(std::move(completion)), work_(work), committed_(std::move(committed)) {}
  core::Result<void> run(runtime::sqlite::Connection& c, QueueTable& table) override {
    result_.emplace(job_(c, table));
    if (*result_) return core::ok();
    // Only a failing disk undoes the batch; these are answers, of jobs that have done nothing.
    const auto kind = result_->error().kind;
    if (kind == core::ErrorKind::not_found || kind == core::ErrorKind::conflict) return core::ok();
    return result_->error();
  }
  boost::asio::any_io_executor executor() const override { return completion_->executor(); }
  void answer(const core::Error* failure) override {
    if (!failure && *result_ && committed_) committed_(result_->value());
    completion_->resolve(failure ? core::Result<T>(*failure) : std::move(*result_));
  }
  bool brings_work() const override { return work_; }

 private:
  Job job_;
  std::shared_ptr<runtime::Completion<T>> completion_;
  bool work_;
  std::function<void(const T&)> committed_;
  std::optional<core::Result<T>> result_;
};
}  // namespace detail

template <class T>
boost::asio::awaitable<core::Result<T>> WriteBatcher::call(std::function<core::Result<T>(runtime::sqlite::Connection&, QueueTable&)> job, bool brings_work,
                                                          std::function<void(const T&)> committed) {
  auto start = [this, job = std::move(job), brings_work, committed = std::move(committed)](std::shared_ptr<runtime::Completion<T>> completion) {
    submit(std::make_unique<detail::CallOp<T>>(job, std::move(completion), brings_work, committed));
  };
  co_return co_await runtime::wait_for_completion<T>(std::move(start), runtime::cancelled_error(core::Sent::maybe));
}

}  // namespace flexi::transports::queue
