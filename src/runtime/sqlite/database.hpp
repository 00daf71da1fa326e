// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <type_traits>

#include "core/call_context.hpp"
#include "runtime/completion.hpp"
#include "runtime/log_sink.hpp"
#include "runtime/metrics.hpp"
#include "runtime/sqlite/connection.hpp"

namespace flexi::runtime::sqlite {

struct DatabaseOptions {
  std::string path;                       ///< file; its folder exists
  unsigned readers = 2;                   ///< reading connections, a thread each
  std::size_t write_queue_limit = 20000;  ///< writes that may wait; one more is `overloaded`
  std::size_t write_queue_bytes = std::size_t{256} << 20;  ///< what they, and those being committed, hold in memory; more is `overloaded`
  std::size_t read_queue_limit = 1000;
  std::size_t max_batch = 1024;           ///< writes per transaction
  /// Called on the writer's thread when the disk begins to refuse writes, and when it takes them again (no error).
  std::function<void(const core::Error*)> on_health = [](const core::Error*) {};
};

/// One step of a component's schema. Steps are recorded per component and applied once, in order.
struct Migration {
  int version;      ///< 1, 2, 3, …
  const char* sql;  ///< one or more statements
};

/// How a write job fails: a lone statement undoes itself; several need a savepoint (some µs more).
enum class Atomicity { single_statement, many_statements };

/// What is written last in the transaction of a batch, with what the batch's jobs have gathered: a counter costs one
/// statement a batch, and never differs from what it counts.
/// Lifetime/threads: called as write jobs are, one at a time
class BatchEnd {
 public:
  virtual ~BatchEnd() = default;
  /// @return an Error undoes the whole batch
  virtual core::Result<void> finish(Connection& connection) = 0;
  /// The batch was undone: what its jobs gathered is void.
  virtual void undone() = 0;
};

/// One SQLite file: WAL, synchronous=FULL, one writer thread that commits in groups. A batch is what arrived while the
/// previous commit ran, there is no timer; each caller is answered when its batch is durable.
/// Lifetime/threads: any thread; outlives its calls; the destructor commits what is queued and joins
class Database {
 public:
  /// @return unavailable with the file and SQLite's words, also where the file is damaged or no database
  static core::Result<std::unique_ptr<Database>> open(DatabaseOptions options, LogSink& log, Metrics& metrics);
  ~Database();

  /// Applies the steps that `component` lacks, each in a transaction. Safe when two processes start at once.
  /// @return conflict where the file was written by a newer version of the program
  core::Result<void> migrate(const std::string& component, std::span<const Migration> steps);

  /// Runs `job` on the writer's connection inside the next batch's transaction. The job must not begin or commit, and
  /// returns an Error to undo what it did itself (and nothing of its batch).
  /// @return the job's result once durable; its Error; unavailable where the disk refused (nothing was written, or, where
  ///         the commit itself failed half-way, Sent::maybe); overloaded when the queue is full; deadline_exceeded (may have
  ///         been written)
  /// @param bytes  what the job holds in memory while it waits, for write_queue_bytes; 0: next to nothing
  template <class Job>
  auto write(Atomicity atomicity, Job job, core::CallContext context, std::size_t bytes = 0) -> boost::asio::awaitable<std::invoke_result_t<Job&, Connection&>>;

  /// Runs `job` on a reading connection: a consistent view, concurrent with writes.
  template <class Job>
  auto read(Job job, core::CallContext context) -> boost::asio::awaitable<std::invoke_result_t<Job&, Connection&>>;

  /// As write(), for the start-up and tests: blocks the calling thread.
  core::Result<void> write_now(std::function<core::Result<void>(Connection&)> job);

  /// A small job for when the writer has nothing else to do (indexing, retention), in its own transaction. It does a
  /// little (some ms) and returns whether more is left; it is asked again, between batches, until it says no, then
  /// after further writes. None takes it away: once this has returned it does not run any more, and what it refers to may go.
  void set_idle_work(std::function<bool(Connection&)> work);

  /// `end` is asked at the end of each batch until it is removed. Once remove_batch_end() has returned it may go.
  void add_batch_end(BatchEnd& end);
  void remove_batch_end(BatchEnd& end);

  /// A copy of the whole database as of now, while it is used. Source: https://sqlite.org/lang_vacuum.html#vacuuminto
  /// @param file must not exist
  core::Result<void> backup(const std::string& file);

 private:
  class WriteJob {
   public:
    virtual ~WriteJob() = default;
    virtual core::Result<void> run(Connection& connection) = 0;
    /// Called on the writer thread after the commit. `failure`: the batch's, none when durable.
    virtual boost::asio::any_io_executor executor() const = 0;
    /// Called on executor()'s thread.
    virtual void answer(const core::Error* failure) = 0;
    Atomicity atomicity = Atomicity::single_statement;
    std::size_t bytes = 0;
  };
  template <class T, class Job>
  class TypedWriteJob;

  Database();
  core::Result<void> submit(std::unique_ptr<WriteJob> job);
  core::Result<void> submit_read(std::function<void(Connection&)> job);
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

template <class T, class Job>
class Database::TypedWriteJob final : public WriteJob {
 public:
  TypedWriteJob(std::shared_ptr<Job> job, std::shared_ptr<Completion<T>> completion) : job_(std::move(job)), completion_(std::move(completion)) {}
  core::Result<void> run(Connection& connection) override {
    result_.emplace((*job_)(connection));
    if (!*result_) return result_->error();
    return core::ok();
  }
  boost::asio::any_io_executor executor() const override { return completion_->executor(); }
  void answer(const core::Error* failure) override {
    // The job's own error stands even where the batch failed: it would have failed anyway.
    if (result_ && !*result_) return completion_->resolve(std::move(*result_));
    if (failure) return completion_->resolve(core::Result<T>(*failure));
    completion_->resolve(std::move(*result_));
  }

 private:
  std::shared_ptr<Job> job_;
  std::shared_ptr<Completion<T>> completion_;
  std::optional<core::Result<T>> result_;
};

template <class Job>
auto Database::write(Atomicity atomicity, Job job, core::CallContext context, std::size_t bytes) -> boost::asio::awaitable<std::invoke_result_t<Job&, Connection&>> {
  using T = typename std::invoke_result_t<Job&, Connection&>::value_type;
  if (context.expired()) co_return cancelled_error(core::Sent::no);
  auto shared = std::make_shared<Job>(std::move(job));
  auto start = [this, shared, atomicity, bytes](std::shared_ptr<Completion<T>> completion) {
    auto typed = std::make_unique<TypedWriteJob<T, Job>>(shared, completion);
    typed->atomicity = atomicity;
    typed->bytes = bytes;
    if (auto submitted = submit(std::move(typed)); !submitted) completion->complete(core::Result<T>(submitted.error()));
  };
  co_return co_await wait_for_completion<T>(std::move(start), cancelled_error(core::Sent::maybe));
}

template <class Job>
auto Database::read(Job job, core::CallContext context) -> boost::asio::awaitable<std::invoke_result_t<Job&, Connection&>> {
  using T = typename std::invoke_result_t<Job&, Connection&>::value_type;
  if (context.expired()) co_return cancelled_error(core::Sent::no);
  auto shared = std::make_shared<Job>(std::move(job));
  auto start = [this, shared, context](std::shared_ptr<Completion<T>> completion) {
    auto run = [shared, completion, context](Connection& connection) {
      if (context.expired()) return completion->complete(cancelled_error(core::Sent::no));
      completion->complete((*shared)(connection));
    };
    if (auto submitted = submit_read(std::move(run)); !submitted) completion->complete(core::Result<T>(submitted.error()));
  };
  co_return co_await wait_for_completion<T>(std::move(start), cancelled_error(core::Sent::no));
}

}  // namespace flexi::runtime::sqlite
