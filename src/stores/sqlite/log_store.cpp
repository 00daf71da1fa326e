// SPDX-License-Identifier: Apache-2.0
#include "stores/sqlite/log_store.hpp"

#include <sqlite3.h>

#include <algorithm>

#include "core/hops.hpp"
#include "core/timestamp.hpp"
#include "runtime/page_budget.hpp"
#include "stores/sqlite/log_index.hpp"
#include "stores/sqlite/log_search.hpp"

namespace flexi::stores::sqlite {

namespace {

using runtime::sqlite::Atomicity;
using runtime::sqlite::Connection;
using runtime::sqlite::Database;
using runtime::sqlite::LedgerBook;
using runtime::sqlite::Statement;

// `seq` is the row's own key, so an index by created_at orders by (created_at, seq) without storing it twice.
constexpr runtime::sqlite::Migration kMigrations[] = {
    {1,
     "CREATE TABLE log_entries(seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL, data TEXT NOT NULL, "
     "created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL);"
     "CREATE INDEX log_entries_by_time ON log_entries(created_at);"
     "CREATE VIRTUAL TABLE log_fts USING fts5(name, data, content='log_entries', content_rowid='seq', "
     "tokenize='unicode61 remove_diacritics 2');"
     "CREATE TABLE log_index_state(only_row INTEGER PRIMARY KEY CHECK(only_row = 1), indexed_seq INTEGER NOT NULL, "
     "indexed_bytes INTEGER NOT NULL);"
     "INSERT INTO log_index_state VALUES(1, 0, 0);"},
    // Traces are indexed behind the writes, like the words: they come in no order, so an index kept by the insert would touch
    // a page of its own for nearly every entry. `hops` is shortened (core::shorten_hops) since created_at.
    {2,
     "ALTER TABLE log_entries ADD COLUMN trace_id BLOB; ALTER TABLE log_entries ADD COLUMN hops TEXT; ALTER TABLE log_entries ADD COLUMN via TEXT;"
     "CREATE TABLE log_traces(trace_id BLOB NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY(trace_id, seq)) WITHOUT ROWID;"}};

#define FLEXI_LOG_COLUMNS "seq, id, name, data, created_at, updated_at, trace_id, hops, via"

constexpr std::int64_t kQuickScan = 1000;      ///< newest entries that a filtered query tries before it asks the index
constexpr std::int64_t kScanLimit = 20000;     ///< entries without index that a search reads one by one
constexpr std::int64_t kIndexStep = 2000;      ///< entries that a search indexes per write
constexpr std::size_t kIndexStepBytes = 1024 * 1024;

/// Interrupts what runs on a connection once the deadline has passed, even inside one long statement.
class DeadlineGuard {
 public:
  DeadlineGuard(Connection& connection, const core::CallContext& context) : connection_(connection), context_(context) {
    constexpr int kInstructions = 20000;  // about a millisecond
    sqlite3_progress_handler(
        connection.handle(), kInstructions, [](void* self) { return int{static_cast<DeadlineGuard*>(self)->context_.expired()}; }, this);
  }
  ~DeadlineGuard() { sqlite3_progress_handler(connection_.handle(), 0, nullptr, nullptr); }
  DeadlineGuard(const DeadlineGuard&) = delete;

 private:
  Connection& connection_;
  const core::CallContext& context_;
};

/// Several statements on one view of the database.
class Snapshot {
 public:
  static core::Result<void> begin(Connection& connection) { return connection.use("BEGIN").run(); }
  explicit Snapshot(Connection& connection) : connection_(connection) {}
  ~Snapshot() { (void)connection_.use("COMMIT").run(); }
  Snapshot(const Snapshot&) = delete;

 private:
  Connection& connection_;
};

/// Where and how much a query reads; times in µs.
struct Range {
  std::int64_t least = std::numeric_limits<std::int64_t>::min();  ///< created_at >= least
  std::int64_t most = std::numeric_limits<std::int64_t>::max();   ///< created_at <= most
  LogPosition before{};
  std::size_t limit = 50;

  void bind(Statement& statement) const { statement.bind(1, least).bind(2, most).bind(3, before.created_at).bind(4, before.seq); }
};
#define FLEXI_IN_RANGE "created_at >= ?1 AND created_at <= ?2 AND (created_at < ?3 OR seq < ?4)"

std::string_view bytes_of(const core::TraceId& id) { return {reinterpret_cast<const char*>(id.data()), id.size()}; }

/// Of the columns FLEXI_LOG_COLUMNS.
core::LogRecord read_record(const Statement& row) {
  core::LogRecord record{.id = {}, .name = row.text(2), .data = row.text(3), .created_at = core::from_unix_micros(row.integer(4)),
                         .updated_at = core::from_unix_micros(row.integer(5))};
  // What is stored was an id when it came; a file from elsewhere must not abort us.
  if (auto id = core::MessageId::parse(row.text_view(1))) record.id = std::move(id.value());
  if (const auto trace = row.text_view(6); trace.size() == record.trace_id.size()) std::copy(trace.begin(), trace.end(), record.trace_id.begin());
  record.hops = core::lengthen_hops(row.text_view(7), record.created_at);
  record.via = core::via_from(row.text_view(8)).value_or(core::Via::automatic);
  return record;
}

/// Collects entries until the page is full.
class PageBuilder {
 public:
  explicit PageBuilder(std::size_t limit) : limit_(limit) {}
  /// @return false when the page was full: this entry belongs to the next page
  bool add(const Statement& row) {
    if (page_.records.size() == limit_ || !budget_.take({row.text_view(2), row.text_view(3), row.text_view(7)})) {
      page_.next = to_cursor(last_);
      return false;
    }
    last_ = {row.integer(4), row.integer(0)};
    page_.records.push_back(read_record(row));
    return true;
  }
  core::LogPage take() { return std::move(page_); }

 private:
  std::size_t limit_;
  runtime::PageBudget budget_;
  LogPosition last_{};
  core::LogPage page_;
};

/// Reads entries by time, testing each. @return none when `max_rows` entries were read and the page is not full
core::Result<std::optional<core::LogPage>> scan(Connection& connection, const Range& range, LogFilter& filter, std::int64_t max_rows) {
  PageBuilder page(range.limit);
  auto rows = connection.use("SELECT " FLEXI_LOG_COLUMNS " FROM log_entries WHERE " FLEXI_IN_RANGE " ORDER BY created_at DESC, seq DESC");
  range.bind(rows);
  for (std::int64_t read = 0; read < max_rows; ++read) {
    FLEXI_TRY(auto found, rows.step());
    if (!found) return std::optional(page.take());
    if (!filter.matches(rows.text_view(2), rows.text_view(3))) continue;
    if (!page.add(rows)) return std::optional(page.take());
  }
  return std::optional<core::LogPage>();
}

/// Where the newest entries that match are: those in the index by the index, the others one by one.
core::Result<std::vector<LogPosition>> find_positions(Connection& connection, const Range& range, LogFilter& filter, const core::LogQuery& query) {
  std::vector<LogPosition> positions;
  {
    auto rows = connection.use("SELECT e.created_at, e.seq FROM log_fts CROSS JOIN log_entries e ON e.seq = log_fts.rowid WHERE log_fts MATCH ?6 "
                               "AND e." FLEXI_IN_RANGE " AND (?7 IS NULL OR e.name = ?7) ORDER BY e.created_at DESC, e.seq DESC LIMIT ?5");
    range.bind(rows);
    rows.bind(5, static_cast<std::int64_t>(range.limit + 1)).bind(6, filter.expression());
    if (query.name) rows.bind(7, *query.name);
    for (;;) {
      FLEXI_TRY(auto found, rows.step());
      if (!found) break;
      positions.push_back({rows.integer(0), rows.integer(1)});
    }
  }
  FLEXI_TRY(auto state, read_index_state(connection));
  auto rows = connection.use("SELECT created_at, seq, name, data FROM log_entries NOT INDEXED WHERE seq > ?5 AND " FLEXI_IN_RANGE);
  range.bind(rows);
  rows.bind(5, state.indexed);
  for (;;) {
    FLEXI_TRY(auto found, rows.step());
    if (!found) break;
    if (filter.matches(rows.text_view(2), rows.text_view(3))) positions.push_back({rows.integer(0), rows.integer(1)});
  }
  std::sort(positions.begin(), positions.end(), std::greater<>());
  if (positions.size() > range.limit + 1) positions.resize(range.limit + 1);
  return positions;
}

core::Result<core::LogPage> search(Connection& connection, const Range& range, LogFilter& filter, const core::LogQuery& query) {
  FLEXI_TRY(Snapshot::begin(connection));
  Snapshot snapshot(connection);
  FLEXI_TRY(auto positions, find_positions(connection, range, filter, query));
  PageBuilder page(range.limit);
  for (auto& position : positions) {
    auto row = connection.use("SELECT " FLEXI_LOG_COLUMNS " FROM log_entries WHERE seq = ?1");
    row.bind(1, position.seq);
    FLEXI_TRY(auto found, row.step());
    if (found && !page.add(row)) break;
  }
  return page.take();
}

/// The entries of one trace: those in the index by the index, the others one by one.
core::Result<core::LogPage> search_trace(Connection& connection, const Range& range, LogFilter& filter, const core::TraceId& trace) {
  FLEXI_TRY(Snapshot::begin(connection));
  Snapshot snapshot(connection);
  FLEXI_TRY(auto state, read_index_state(connection));
  PageBuilder page(range.limit);
  auto rows = connection.use("SELECT " FLEXI_LOG_COLUMNS " FROM (SELECT seq AS found FROM log_traces WHERE trace_id = ?5 "
                             "UNION SELECT seq FROM log_entries NOT INDEXED WHERE seq > ?6 AND trace_id = ?5) CROSS JOIN log_entries ON seq = found "
                             "WHERE " FLEXI_IN_RANGE " ORDER BY created_at DESC, seq DESC");
  range.bind(rows);
  rows.bind_blob(5, bytes_of(trace)).bind(6, state.indexed);
  for (;;) {
    FLEXI_TRY(auto found, rows.step());
    if (!found) break;
    if (filter.matches(rows.text_view(2), rows.text_view(3)) && !page.add(rows)) break;
  }
  return page.take();
}

/// Runs a reading job under the call's deadline.
auto reading(core::CallContext context, auto job) {
  return [context = std::move(context), job = std::move(job)](Connection& connection) mutable -> std::invoke_result_t<decltype(job)&, Connection&> {
    DeadlineGuard guard(connection, context);
    auto result = job(connection);
    if (!result && context.expired()) return core::deadline_exceeded("the search took too long, narrow it or allow more time", result.error().detail);
    return result;
  };
}

class SqliteLogStore final : public core::LogStore {
 public:
  SqliteLogStore(Database& database, LogStoreOptions options, LedgerBook* book) : database_(database), options_(options), book_(book) {}

  core::awaitable<core::Result<core::Appended>> append(core::LogRecord record, core::CallContext context) override {
    record.hops = core::shorten_hops(record.hops, record.created_at);
    const auto bytes = record.name.size() + record.data.size();
    auto job = [record = std::move(record), book = record.moved ? nullptr : book_](Connection& connection) { return append_now(connection, record, book); };
    return database_.write(Atomicity::single_statement, std::move(job), std::move(context), bytes);
  }

  core::awaitable<core::Result<core::LogPage>> list(core::LogQuery query, core::CallContext context) override;
  core::awaitable<core::Result<core::FoundLog>> find(core::MessageId id, core::CallContext context) override;
  core::awaitable<core::Result<core::KnownIds>> known(std::vector<core::MessageId> ids, core::CallContext context) override;
  core::awaitable<core::Result<std::optional<std::uint64_t>>> count(core::CallContext context) override;

 private:
  static core::Result<core::Appended> append_now(Connection& connection, const core::LogRecord& record, LedgerBook* book);
  core::Result<Range> range_of(const core::LogQuery& query) const;
  core::awaitable<core::Result<void>> catch_up(core::CallContext context);

  Database& database_;
  LogStoreOptions options_;
  LedgerBook* book_;  ///< none: nothing is counted
};

core::Result<core::Appended> SqliteLogStore::append_now(Connection& connection, const core::LogRecord& record, LedgerBook* book) {
  if (record.id.empty()) return core::invalid_argument("id is required");
  const auto accepted_by = record.published ? runtime::sqlite::AcceptedBy::publisher : runtime::sqlite::AcceptedBy::store;
  {
    auto insert = connection.use("INSERT INTO log_entries(id, name, data, created_at, updated_at, trace_id, hops, via) "
                                 "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT(id) DO NOTHING");
    insert.bind(1, record.id.str()).bind(2, record.name).bind(3, record.data);
    insert.bind(4, core::to_unix_micros(record.created_at)).bind(5, core::to_unix_micros(record.updated_at));
    if (record.trace_id == core::TraceId{}) insert.bind_null(6);
    else insert.bind_blob(6, bytes_of(record.trace_id));
    insert.bind(7, record.hops).bind(8, core::to_string(record.via));
    FLEXI_TRY(insert.run());
  }
  if (connection.changes() > 0) {
    if (book) book->stored(core::actions::kLog, record.via, accepted_by);
    return core::Appended::stored;
  }
  runtime::sqlite::Acceptance first;
  {
    auto row = connection.use("SELECT name = ?2 AND data = ?3, via, created_at FROM log_entries WHERE id = ?1");
    row.bind(1, record.id.str()).bind(2, record.name).bind(3, record.data);
    FLEXI_TRY(auto found, row.step());
    if (!found || row.integer(0) == 0) return core::conflict("the id " + record.id.str() + " belongs to another log entry");
    first = {core::via_from(row.text_view(1)).value_or(core::Via::automatic), row.integer(2)};
  }
  if (book) {
    FLEXI_TRY(book->repeated(connection, core::actions::kLog, record.id.str(), first, {record.via, core::to_unix_micros(record.created_at)}, accepted_by));
  }
  return core::Appended::duplicate;
}

core::awaitable<core::Result<core::FoundLog>> SqliteLogStore::find(core::MessageId id, core::CallContext context) {
  const auto oldest = options_.retention_age.count() > 0 ? std::chrono::system_clock::now() - options_.retention_age : core::Timestamp::min();
  auto job = [id = std::move(id), oldest, counted = book_ != nullptr](Connection& connection) -> core::Result<core::FoundLog> {
    core::FoundLog found;
    {
      auto row = connection.use("SELECT " FLEXI_LOG_COLUMNS " FROM log_entries WHERE id = ?1");
      row.bind(1, id.str());
      FLEXI_TRY(auto there, row.step());
      if (!there) return core::not_found("no log entry with this id");
      found.record = read_record(row);
    }
    if (found.record.created_at < oldest) return core::not_found("no log entry with this id");
    if (counted) {
      FLEXI_TRY(found.duplicates, LedgerBook::repeats(connection, core::actions::kLog, id.str()));
    }
    return found;
  };
  return database_.read(std::move(job), std::move(context));
}

/// From when on everything that was accepted is still here.
core::Result<core::Timestamp> kept_since(Connection& connection, const LogStoreOptions& options) {
  core::Timestamp since{};
  if (options.retention_age.count() > 0) since = std::chrono::system_clock::now() - options.retention_age;
  if (options.retention_max_bytes > 0) {
    auto row = connection.use("SELECT min(created_at) FROM log_entries");
    FLEXI_TRY(auto there, row.step());
    if (there && !row.is_null(0)) since = std::max(since, core::from_unix_micros(row.integer(0)));
  }
  return since;
}

core::awaitable<core::Result<core::KnownIds>> SqliteLogStore::known(std::vector<core::MessageId> ids, core::CallContext context) {
  auto job = [ids = std::move(ids), options = options_](Connection& connection) -> core::Result<core::KnownIds> {
    if (ids.size() > core::KnownIds::kMost) return core::invalid_argument("at most " + std::to_string(core::KnownIds::kMost) + " ids at once");
    core::KnownIds known;
    auto row = connection.use("SELECT 1 FROM log_entries WHERE id = ?1");
    for (auto& id : ids) {
      row.bind(1, id.str());
      FLEXI_TRY(auto there, row.step());
      if (there) known.ids.push_back(id);
      row.reset();
    }
    // Last: what goes meanwhile was still found, or is older than this.
    FLEXI_TRY(known.kept_since, kept_since(connection, options));
    return known;
  };
  return database_.read(std::move(job), std::move(context));
}

core::awaitable<core::Result<std::optional<std::uint64_t>>> SqliteLogStore::count(core::CallContext context) {
  auto job = [](Connection& connection) -> core::Result<std::optional<std::uint64_t>> {
    auto row = connection.use("SELECT count(*) FROM log_entries");
    FLEXI_TRY(auto there, row.step());
    return std::optional(static_cast<std::uint64_t>(there ? row.integer(0) : 0));
  };
  return database_.read(job, std::move(context));
}

core::Result<Range> SqliteLogStore::range_of(const core::LogQuery& query) const {
  if (query.limit < 1 || query.limit > 500) return core::invalid_argument("limit must be 1 to 500");
  Range range;
  range.limit = query.limit;
  if (!query.cursor.empty()) {
    FLEXI_TRY(range.before, from_cursor(query.cursor));
  }
  range.most = range.before.created_at;
  if (query.since) range.least = core::to_unix_micros(*query.since);
  if (query.until) range.most = std::min(range.most, core::to_unix_micros(*query.until) - 1);
  // Expired entries wait for idle time to be removed, but nobody sees them meanwhile.
  if (options_.retention_age.count() > 0)
    range.least = std::max(range.least, core::to_unix_micros(std::chrono::system_clock::now() - options_.retention_age));
  return range;
}

core::awaitable<core::Result<core::LogPage>> SqliteLogStore::list(core::LogQuery query, core::CallContext context) {
  auto range = range_of(query);
  if (!range) co_return range.error();

  if (query.trace) {
    if (auto caught_up = co_await catch_up(context); !caught_up) co_return caught_up.error();
    auto trace = reading(context, [range = range.value(), query](Connection& connection) -> core::Result<core::LogPage> {
      FLEXI_TRY(auto filter, LogFilter::make(connection, query));
      if (filter.nothing()) return core::LogPage{};
      return search_trace(connection, range, filter, *query.trace);
    });
    co_return co_await database_.read(std::move(trace), context);
  }

  // The newest entries first: that is the answer of most queries, and all of it without a filter.
  auto first = reading(context, [range = range.value(), query](Connection& connection) -> core::Result<std::optional<core::LogPage>> {
    FLEXI_TRY(auto filter, LogFilter::make(connection, query));
    if (filter.nothing()) return std::optional(core::LogPage{});
    const bool to_the_end = filter.all() || filter.expression().empty();
    return scan(connection, range, filter, to_the_end ? std::numeric_limits<std::int64_t>::max() : kQuickScan);
  });
  auto page = co_await database_.read(std::move(first), context);
  if (!page) co_return page.error();
  if (page.value()) co_return std::move(*page.value());

  if (auto caught_up = co_await catch_up(context); !caught_up) co_return caught_up.error();
  auto rest = reading(context, [range = range.value(), query](Connection& connection) -> core::Result<core::LogPage> {
    FLEXI_TRY(auto filter, LogFilter::make(connection, query));
    return search(connection, range, filter, query);
  });
  co_return co_await database_.read(std::move(rest), context);
}

/// Indexes what the idle time has not got round to, down to what a search can read one by one. Entries that come
/// meanwhile don't count, or a busy writer would keep a search here for ever.
core::awaitable<core::Result<void>> SqliteLogStore::catch_up(core::CallContext context) {
  auto state = co_await database_.read([](Connection& connection) { return read_index_state(connection); }, context);
  if (!state) co_return state.error();
  const auto goal = state.value().newest - kScanLimit;
  while (state.value().indexed < goal) {
    auto step = [](Connection& connection) { return index_rows(connection, kIndexStep, kIndexStepBytes); };
    state = co_await database_.write(Atomicity::many_statements, step, context);
    if (!state) co_return state.error();
    if (state.value().indexed >= state.value().newest) break;  // retention removed what was the newest
  }
  co_return core::ok();
}

}  // namespace

void LogStoreOptions::describe(runtime::OptionVisitor& visitor) {
  visitor.field("retention_age", retention_age, "Log entries older than this are removed; 0 keeps them all");
  visitor.field("retention_max_bytes", retention_max_bytes, "Beyond this size (text and an allowance for indexes) the oldest log entries are removed; 0 keeps them all");
}

runtime::Problems LogStoreOptions::validate() const {
  runtime::Problems problems;
  if (retention_age.count() < 0) problems.push_back({"retention_age", "must be 0 (off) or a positive time"});
  if (retention_max_bytes < 0) problems.push_back({"retention_max_bytes", "must be 0 (off) or a positive number of bytes"});
  return problems;
}

core::Result<std::unique_ptr<core::LogStore>> open_log_store(Database& database, LogStoreOptions options, LedgerBook* book) {
  FLEXI_TRY(database.migrate("logs", kMigrations));
  return std::unique_ptr<core::LogStore>(std::make_unique<SqliteLogStore>(database, options, book));
}

}  // namespace flexi::stores::sqlite
