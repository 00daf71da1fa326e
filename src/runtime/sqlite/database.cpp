// SPDX-License-Identifier: Apache-2.0
#include "runtime/sqlite/database.hpp"

#include <sqlite3.h>

#include <boost/asio/post.hpp>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

namespace flexi::runtime::sqlite {

namespace asio = boost::asio;

namespace {


core::Error full(const char* what) {
  auto error = core::overloaded(std::string("the database is busy (too many ") + what + " waiting), try again later");
  error.retry_after = std::chrono::seconds(1);
  return error;
}

/// Changing the journal mode of a new file is the one thing for which SQLite doesn't wait while another process is at it:
/// its busy handler is not asked.
core::Result<void> use_wal(Connection& connection) {
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  for (;;) {
    auto done = connection.execute("PRAGMA journal_mode=WAL");
    if (done || (sqlite3_errcode(connection.handle()) & 0xff) != SQLITE_BUSY || std::chrono::steady_clock::now() >= give_up) return done;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

core::Result<std::unique_ptr<Connection>> open_connection(const std::string& path, Connection::Mode mode) {
  FLEXI_TRY(auto connection, Connection::open(path, mode));
  FLEXI_TRY(use_wal(*connection));
  // FULL: a commit is on the disk before it is answered. A checkpoint every 4,000 pages (16 MiB) keeps the log short.
  FLEXI_TRY(connection->execute("PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA wal_autocheckpoint=4000; "
                                "PRAGMA temp_store=MEMORY; PRAGMA cache_size=-4096; PRAGMA journal_size_limit=67108864"));
  return connection;
}

}  // namespace

struct Database::Impl {
  DatabaseOptions options;
  LogSink* log = nullptr;
  Metrics::Counter commits, committed_writes, failed_commits;

  std::unique_ptr<Connection> writer;
  std::vector<std::unique_ptr<Connection>> readers;

  std::mutex write_mutex;
  std::condition_variable write_wake;
  std::vector<std::unique_ptr<WriteJob>> write_queue;
  std::size_t write_bytes = 0;  ///< of the queue and of the batch being committed
  bool idle_work_left = true;
  bool healthy = true;  ///< the last commit succeeded; the writer's thread only
  std::chrono::steady_clock::time_point last_idle_work{};
  std::function<bool(Connection&)> idle_work;

  std::mutex read_mutex;
  std::condition_variable read_wake;
  std::deque<std::function<void(Connection&)>> read_queue;

  bool stopping = false;  ///< guarded by both mutexes
  std::mutex writer_connection;  ///< write_now and migrate share the writer's connection with its thread
  std::vector<BatchEnd*> batch_ends;  ///< guarded by writer_connection
  std::thread write_thread;
  std::vector<std::thread> read_threads;

  void write_loop();
  bool wait_for_writes(std::unique_lock<std::mutex>& lock);  ///< false: do idle work now
  void read_loop(Connection& connection);
  struct Outcome {
    std::optional<core::Error> failure{};    ///< of the whole batch; none: it is durable
    std::optional<core::Error> unhealthy{};  ///< what the disk refused, be it one job's part only
  };
  Outcome commit(std::vector<std::unique_ptr<WriteJob>>& batch);
  core::Result<void> run_jobs(std::vector<std::unique_ptr<WriteJob>>& batch);
  void run_idle_work();
  void report_health(const core::Error* failure);
  void probe();
  static std::size_t bytes_of(const std::vector<std::unique_ptr<WriteJob>>& batch);
  static void answer(std::vector<std::unique_ptr<WriteJob>> batch, const std::optional<core::Error>& failure);
};

core::Result<void> Database::Impl::run_jobs(std::vector<std::unique_ptr<WriteJob>>& batch) {
  FLEXI_TRY(writer->use("BEGIN IMMEDIATE").run());
  for (auto& job : batch) {
    const bool savepoint = job->atomicity == Atomicity::many_statements;
    if (savepoint) {
      FLEXI_TRY(writer->use("SAVEPOINT job").run());
    }
    auto done = job->run(*writer);
    // A full disk makes SQLite undo everything; the jobs before this one went with it.
    if (!writer->in_transaction()) {
      if (done) return core::internal("internal error", "a write job ended the transaction");
      return core::unavailable("the storage is full or failing, nothing was stored", done.error().detail);
    }
    if (savepoint) {
      if (!done) {
        FLEXI_TRY(writer->use("ROLLBACK TO job").run());
      }
      FLEXI_TRY(writer->use("RELEASE job").run());
    }
  }
  for (auto* end : batch_ends) {
    FLEXI_TRY(end->finish(*writer));
  }
  auto statement = writer->use("COMMIT");
  auto committed = statement.run();
  if (committed) return core::ok();
  const int code = sqlite3_errcode(writer->handle()) & 0xff;
  auto error = committed.error();
  // A commit record that could not be synced, or read back, may lie on the disk all the same and count after a crash.
  // "Full" and "locked" come before it is written.
  if (code != SQLITE_FULL && code != SQLITE_BUSY) {
    error.message = "the storage is failing: it may have been stored or not";
    error.sent = core::Sent::maybe;
  }
  return error;
}

Database::Impl::Outcome Database::Impl::commit(std::vector<std::unique_ptr<WriteJob>>& batch) {
  std::lock_guard lock(writer_connection);
  (void)writer->take_storage_failure();  // an older one is over
  auto committed = run_jobs(batch);
  if (committed) {
    commits.add();
    committed_writes.add(static_cast<double>(batch.size()));
    auto refused = writer->take_storage_failure();
    if (refused) log->error("the disk refused a write", {{"error", refused->message}, {"detail", refused->detail}});
    return {.unhealthy = std::move(refused)};
  }
  if (writer->in_transaction()) (void)writer->execute("ROLLBACK");
  for (auto* end : batch_ends) end->undone();
  failed_commits.add();
  log->error("commit failed", {{"writes", batch.size()}, {"error", committed.error().message}, {"detail", committed.error().detail}});
  return {.failure = committed.error(), .unhealthy = committed.error()};
}

/// Each executor gets one post for all its answers: a wake-up per caller would cost more than the insert.
void Database::Impl::answer(std::vector<std::unique_ptr<WriteJob>> batch, const std::optional<core::Error>& failure) {
  while (!batch.empty()) {
    auto executor = batch.front()->executor();
    auto middle = std::stable_partition(batch.begin(), batch.end(), [&](auto& job) { return job->executor() != executor; });
    std::vector<std::unique_ptr<WriteJob>> mine(std::make_move_iterator(middle), std::make_move_iterator(batch.end()));
    batch.erase(middle, batch.end());
    asio::post(executor, [mine = std::move(mine), failure]() {
      for (auto& job : mine) job->answer(failure ? &*failure : nullptr);
    });
  }
}

std::size_t Database::Impl::bytes_of(const std::vector<std::unique_ptr<WriteJob>>& batch) {
  std::size_t bytes = 0;
  for (auto& job : batch) bytes += job->bytes;
  return bytes;
}

void Database::Impl::run_idle_work() {
  std::lock_guard lock(writer_connection);
  if (!idle_work) return;  // taken away meanwhile
  auto begun = writer->execute("BEGIN IMMEDIATE");
  bool more = false;
  if (begun) {
    more = idle_work(*writer);
    if (writer->in_transaction()) {
      if (auto committed = writer->execute("COMMIT"); !committed) {
        (void)writer->execute("ROLLBACK");
        more = false;
      }
    } else {
      more = false;
    }
  }
  std::lock_guard write_lock(write_mutex);
  idle_work_left = more;
  last_idle_work = std::chrono::steady_clock::now();
}

/// Without writes nobody would notice that there is space again, and without readiness there are no writes.
void Database::Impl::probe() {
  std::lock_guard lock(writer_connection);
  auto written = writer->execute("BEGIN IMMEDIATE");
  // A page's worth: what only changes a byte may still fit where nothing else does.
  if (written) written = writer->execute("UPDATE schema_versions SET version = version; CREATE TABLE disk_probe AS SELECT zeroblob(65536); DROP TABLE disk_probe");
  if (written) written = writer->execute("COMMIT");
  if (!written && writer->in_transaction()) (void)writer->execute("ROLLBACK");
  if (written) report_health(nullptr);
}

void Database::Impl::report_health(const core::Error* failure) {
  if (healthy == !failure) return;
  healthy = !failure;
  options.on_health(failure);
}

/// Idle work costs a commit of its own, so it waits for a pause in the writes, but not for ever.
bool Database::Impl::wait_for_writes(std::unique_lock<std::mutex>& lock) {
  constexpr std::chrono::milliseconds kPause(100), kLongest(5000), kAnyway(60000), kProbe(1000);
  auto has_writes = [&] { return stopping || !write_queue.empty(); };
  auto may_idle = [&] { return idle_work && idle_work_left; };
  while (!healthy && !has_writes()) {
    if (write_wake.wait_for(lock, kProbe, has_writes)) break;
    const bool may_purge = static_cast<bool>(idle_work);
    lock.unlock();
    if (may_purge) run_idle_work();  // retention may make room
    probe();
    lock.lock();
  }
  while (!has_writes() && !may_idle()) {
    // Retention by age has work though nothing was written.
    if (write_wake.wait_for(lock, kAnyway) == std::cv_status::timeout) idle_work_left = true;
    last_idle_work = std::chrono::steady_clock::now();
  }
  if (!may_idle()) return true;
  if (!stopping && std::chrono::steady_clock::now() - last_idle_work > kLongest) return false;
  return write_wake.wait_for(lock, kPause, has_writes);
}

void Database::Impl::write_loop() {
  std::vector<std::unique_ptr<WriteJob>> batch;
  for (;;) {
    std::unique_lock lock(write_mutex);
    if (!wait_for_writes(lock)) {
      lock.unlock();
      run_idle_work();
      continue;
    }
    if (write_queue.empty()) return;  // stopping
    const auto size = std::min(write_queue.size(), options.max_batch);
    const auto end = write_queue.begin() + static_cast<std::ptrdiff_t>(size);
    batch.assign(std::make_move_iterator(write_queue.begin()), std::make_move_iterator(end));
    write_queue.erase(write_queue.begin(), end);
    idle_work_left = true;
    lock.unlock();
    const auto outcome = commit(batch);
    report_health(outcome.unhealthy ? &*outcome.unhealthy : nullptr);
    lock.lock();
    write_bytes -= bytes_of(batch);
    lock.unlock();
    answer(std::move(batch), outcome.failure);
    batch.clear();
    // On busy cores those just answered come again at once: letting them first makes the next batch as large as this one.
    std::this_thread::yield();
  }
}

void Database::Impl::read_loop(Connection& connection) {
  for (;;) {
    std::unique_lock lock(read_mutex);
    read_wake.wait(lock, [&] { return stopping || !read_queue.empty(); });
    if (read_queue.empty()) return;
    auto job = std::move(read_queue.front());
    read_queue.pop_front();
    lock.unlock();
    job(connection);
    // An interrupted BEGIN may have begun: left open it would show this reader an old view for ever and keep the log growing.
    if (connection.in_transaction()) (void)connection.execute("ROLLBACK");
  }
}

Database::Database() : impl_(std::make_unique<Impl>()) {}

core::Result<std::unique_ptr<Database>> Database::open(DatabaseOptions options, LogSink& log, Metrics& metrics) {
  std::unique_ptr<Database> database(new Database);
  auto& impl = *database->impl_;
  impl.options = std::move(options);
  impl.log = &log;
  impl.commits = metrics.counter("flexi_database_commits_total", "Transactions of the embedded database that were committed");
  impl.committed_writes = metrics.counter("flexi_database_writes_total", "Writes in committed transactions of the embedded database");
  impl.failed_commits = metrics.counter("flexi_database_failed_commits_total", "Transactions of the embedded database that the disk refused");
  FLEXI_TRY(impl.writer, open_connection(impl.options.path, Connection::Mode::read_write_create));
  FLEXI_TRY(impl.writer->execute("CREATE TABLE IF NOT EXISTS schema_versions(component TEXT PRIMARY KEY, version INTEGER NOT NULL)"));
  for (unsigned i = 0; i < impl.options.readers; ++i) {
    FLEXI_TRY(auto reader, open_connection(impl.options.path, Connection::Mode::read_write));
    FLEXI_TRY(reader->execute("PRAGMA query_only=ON"));
    impl.readers.push_back(std::move(reader));
  }
  impl.write_thread = std::thread([&impl] { impl.write_loop(); });
  for (auto& reader : impl.readers) impl.read_threads.emplace_back([&impl, connection = reader.get()] { impl.read_loop(*connection); });
  return database;
}

Database::~Database() {
  {
    std::scoped_lock lock(impl_->write_mutex, impl_->read_mutex);
    impl_->stopping = true;
  }
  impl_->write_wake.notify_all();
  impl_->read_wake.notify_all();
  if (impl_->write_thread.joinable()) impl_->write_thread.join();
  for (auto& thread : impl_->read_threads) thread.join();
}

core::Result<void> Database::submit(std::unique_ptr<WriteJob> job) {
  bool wake;
  {
    std::lock_guard lock(impl_->write_mutex);
    if (impl_->stopping) return core::unavailable("the database is closing");
    if (impl_->write_queue.size() >= impl_->options.write_queue_limit) return full("writes");
    // One that is larger than the limit by itself is taken all the same, or it never could be.
    if (impl_->write_bytes != 0 && job->bytes != 0 && impl_->write_bytes + job->bytes > impl_->options.write_queue_bytes) return full("bytes");
    impl_->write_bytes += job->bytes;
    wake = impl_->write_queue.empty();
    impl_->write_queue.push_back(std::move(job));
  }
  if (wake) impl_->write_wake.notify_one();
  return core::ok();
}

core::Result<void> Database::submit_read(std::function<void(Connection&)> job) {
  {
    std::lock_guard lock(impl_->read_mutex);
    if (impl_->stopping) return core::unavailable("the database is closing");
    if (impl_->read_queue.size() >= impl_->options.read_queue_limit) return full("reads");
    impl_->read_queue.push_back(std::move(job));
  }
  impl_->read_wake.notify_one();
  return core::ok();
}

void Database::set_idle_work(std::function<bool(Connection&)> work) {
  {
    std::lock_guard connection_lock(impl_->writer_connection);  // held while the work runs
    std::lock_guard lock(impl_->write_mutex);
    impl_->idle_work = std::move(work);
    impl_->idle_work_left = true;
  }
  impl_->write_wake.notify_one();
}

void Database::add_batch_end(BatchEnd& end) {
  std::lock_guard lock(impl_->writer_connection);
  impl_->batch_ends.push_back(&end);
}

void Database::remove_batch_end(BatchEnd& end) {
  std::lock_guard lock(impl_->writer_connection);
  std::erase(impl_->batch_ends, &end);
}

core::Result<void> Database::write_now(std::function<core::Result<void>(Connection&)> job) {
  std::lock_guard lock(impl_->writer_connection);
  auto& writer = *impl_->writer;
  FLEXI_TRY(writer.execute("BEGIN IMMEDIATE"));
  auto done = job(writer);
  if (done && writer.in_transaction()) done = writer.execute("COMMIT");
  if (!done && writer.in_transaction()) (void)writer.execute("ROLLBACK");
  return done;
}

core::Result<void> Database::migrate(const std::string& component, std::span<const Migration> steps) {
  // BEGIN IMMEDIATE takes the file's write lock first, so of two processes the second sees what the first has done.
  return write_now([&](Connection& connection) -> core::Result<void> {
    std::int64_t version = 0;
    {
      auto row = connection.use("SELECT version FROM schema_versions WHERE component = ?1");
      row.bind(1, component);
      FLEXI_TRY(auto found, row.step());
      if (found) version = row.integer(0);
    }
    const int newest = steps.empty() ? 0 : steps.back().version;
    if (version > newest)
      return core::conflict("the data of '" + component + "' has format " + std::to_string(version) + ", this program knows up to " +
                            std::to_string(newest) + ": use the newer program, or restore a backup");
    for (auto& step : steps) {
      if (step.version <= version) continue;
      FLEXI_TRY(connection.execute(step.sql));
    }
    auto record = connection.use("INSERT INTO schema_versions VALUES(?1, ?2) ON CONFLICT(component) DO UPDATE SET version = ?2");
    record.bind(1, component).bind(2, std::int64_t{newest});
    return record.run();
  });
}

core::Result<void> Database::backup(const std::string& file) {
  // A connection of its own: a long copy holds up nobody.
  FLEXI_TRY(auto connection, Connection::open(impl_->options.path, Connection::Mode::read_only));
  auto copy = connection->use("VACUUM INTO ?1");
  copy.bind(1, std::string_view(file));
  return copy.run();
}

}  // namespace flexi::runtime::sqlite
