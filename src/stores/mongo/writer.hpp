// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "core/log_store.hpp"
#include "runtime/completion.hpp"
#include "runtime/log_sink.hpp"
#include "runtime/metrics.hpp"
#include "stores/mongo/health.hpp"
#include "stores/mongo/ledger.hpp"
#include "stores/mongo/server.hpp"

namespace flexi::stores::mongo {

/// Stores entries by bulk inserts: each of its threads takes what has come while all were busy, there is no timer. Each caller is
/// answered when the majority has its own document, or what has become of it alone.
/// Lifetime/threads: append() from any coroutine; the destructor ends what is queued and joins
class Writer {
 public:
  struct Parts {
    const MongoOptions& options;
    Server& server;
    Ledger& ledger;
    Health& health;
    std::function<void()> look;  ///< the upkeep looks at once how the server is
    runtime::LogSink& log;
    runtime::Metrics& metrics;
  };
  explicit Writer(Parts parts);
  ~Writer();

  core::awaitable<core::Result<core::Appended>> append(core::LogRecord record, core::CallContext context);

 private:
  struct Entry {
    core::LogRecord record;
    core::CallContext context;
    std::shared_ptr<runtime::Completion<core::Appended>> completion;
    std::shared_ptr<std::atomic<bool>> left;  ///< the caller has
    std::size_t bytes = 0;
    unsigned attempt = 0;                     ///< of its place
    std::optional<core::Result<core::Appended>> result{};
    std::optional<ObjectId> repeats{};        ///< it was there already, here; how it came then:
    core::Via first_via = core::Via::automatic;
    std::int64_t first_accepted_at = 0;

    bool wants_answer() const { return !*left && !context.expired(); }
    ObjectId place() const;
  };
  using Batch = std::vector<Entry>;

  core::Result<void> submit(Entry entry);
  void work();
  Batch take();
  void store(Batch& batch);
  std::vector<Entry*> insert(Session& session, const std::vector<Entry*>& entries);
  void fail(const std::vector<Entry*>& entries, const Failure& failure);
  std::vector<Entry*> look_up(Session& session, const std::vector<Entry*>& taken);
  void compare(Entry& entry, Fields there);
  void count_repeats(Session& session, Batch& batch);
  std::vector<Entry*> insert_repeats(Session& session, const std::vector<Entry*>& entries, bool again);
  void answer(Batch batch);

  Parts parts_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Entry> queue_;
  std::size_t bytes_ = 0;  ///< of the queue, and of what is under way
  bool stopping_ = false;
  runtime::Metrics::Counter batches_, entries_, failed_;
  std::vector<std::thread> threads_;
};

}  // namespace flexi::stores::mongo
