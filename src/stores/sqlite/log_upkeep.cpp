// SPDX-License-Identifier: Apache-2.0
#include <limits>
#include <vector>

#include "core/timestamp.hpp"
#include "stores/sqlite/log_index.hpp"
#include "stores/sqlite/log_store.hpp"

namespace flexi::stores::sqlite {

using runtime::sqlite::Connection;

namespace {

// What one idle step may do: some milliseconds, during which writes wait.
constexpr std::int64_t kIndexRows = 500, kPurgeRows = 200;
constexpr std::size_t kIndexBytes = 256 * 1024, kPurgeBytes = 1024 * 1024;

/// What an entry counts for retention_max_bytes beside its text: its row, its place in two indexes.
constexpr std::size_t kRowOverhead = 120;

std::int64_t counted_bytes(std::size_t id, std::size_t name, std::size_t data) {
  return static_cast<std::int64_t>(2 * id + name + data + kRowOverhead);
}

/// Runs `step` so that a failure undoes it and nothing else of the transaction.
core::Result<bool> in_savepoint(Connection& connection, auto step) {
  FLEXI_TRY(connection.use("SAVEPOINT log_upkeep").run());
  core::Result<bool> more = step();
  // A full disk may have ended the whole transaction, and the savepoint with it.
  if (!connection.in_transaction()) return more ? core::Result<bool>(core::internal("internal error", "the transaction is gone")) : more;
  if (!more) {
    FLEXI_TRY(connection.use("ROLLBACK TO log_upkeep").run());
  }
  FLEXI_TRY(connection.use("RELEASE log_upkeep").run());
  return more;
}

struct Purged {
  std::int64_t indexed_bytes = 0;
  std::int64_t entries = 0;
};

/// Removes one entry from the index (which must be told what it had indexed) and from the table.
core::Result<void> remove_entry(Connection& connection, std::int64_t seq, bool indexed, const std::string& name, const std::string& data) {
  if (indexed) {
    {
      auto forget = connection.use("INSERT INTO log_fts(log_fts, rowid, name, data) VALUES('delete', ?1, ?2, ?3)");
      forget.bind(1, seq).bind(2, name).bind(3, data);
      FLEXI_TRY(forget.run());
    }
    auto forget = connection.use("DELETE FROM log_traces WHERE trace_id = (SELECT trace_id FROM log_entries WHERE seq = ?1) AND seq = ?1");
    forget.bind(1, seq);
    FLEXI_TRY(forget.run());
  }
  auto remove = connection.use("DELETE FROM log_entries WHERE seq = ?1");
  remove.bind(1, seq);
  return remove.run();
}

core::Result<bool> purge(Connection& connection, const LogStoreOptions& options) {
  std::int64_t indexed = 0, bytes = 0;
  {
    auto state = connection.use("SELECT indexed_seq, indexed_bytes FROM log_index_state");
    FLEXI_TRY(auto found, state.step());
    if (!found) return core::internal("internal error", "log_index_state is empty");
    indexed = state.integer(0);
    bytes = state.integer(1);
  }
  const auto max_bytes = options.retention_max_bytes > 0 ? options.retention_max_bytes : std::numeric_limits<std::int64_t>::max();
  const auto oldest_kept = options.retention_age.count() > 0 ? core::to_unix_micros(std::chrono::system_clock::now() - options.retention_age)
                                                             : std::numeric_limits<std::int64_t>::min();
  struct Victim {
    std::int64_t seq;
    bool indexed;
    std::string name, data;
  };
  std::vector<Victim> victims;
  std::size_t read_bytes = 0;
  const auto bytes_before = bytes;
  bool more = false;
  {
    auto rows = connection.use("SELECT seq, id, name, data, created_at FROM log_entries ORDER BY created_at, seq");
    for (;;) {
      FLEXI_TRY(auto found, rows.step());
      if (!found || (rows.integer(4) >= oldest_kept && bytes <= max_bytes)) break;
      if ((more = victims.size() >= kPurgeRows || read_bytes >= kPurgeBytes)) break;
      Victim victim{rows.integer(0), rows.integer(0) <= indexed, rows.text(2), rows.text(3)};
      read_bytes += victim.name.size() + victim.data.size();
      if (victim.indexed) bytes -= counted_bytes(rows.text_view(1).size(), victim.name.size(), victim.data.size());
      victims.push_back(std::move(victim));
    }
  }
  if (victims.empty()) return false;
  for (auto& victim : victims) {
    FLEXI_TRY(remove_entry(connection, victim.seq, victim.indexed, victim.name, victim.data));
  }
  // A removed entry may have had the highest seq, which the next one will get again: the mark must not be above it.
  auto update = connection.use("UPDATE log_index_state SET indexed_bytes = indexed_bytes - ?1, "
                               "indexed_seq = min(indexed_seq, coalesce((SELECT max(seq) FROM log_entries), 0))");
  update.bind(1, bytes_before - bytes);
  FLEXI_TRY(update.run());
  return more;
}

}  // namespace

core::Result<LogIndexState> read_index_state(Connection& connection) {
  auto row = connection.use("SELECT indexed_seq, coalesce((SELECT max(seq) FROM log_entries), 0) FROM log_index_state");
  FLEXI_TRY(auto found, row.step());
  if (!found) return core::internal("internal error", "log_index_state is empty");
  return LogIndexState{row.integer(0), row.integer(1)};
}

core::Result<LogIndexState> index_rows(Connection& connection, std::int64_t max_rows, std::size_t max_bytes) {
  FLEXI_TRY(auto state, read_index_state(connection));
  if (state.indexed >= state.newest) return state;
  std::int64_t counted = 0;
  std::size_t bytes = 0;
  {
    auto rows = connection.use("SELECT seq, id, name, data, trace_id FROM log_entries WHERE seq > ?1 ORDER BY seq LIMIT ?2");
    rows.bind(1, state.indexed).bind(2, max_rows);
    while (bytes < max_bytes) {
      FLEXI_TRY(auto found, rows.step());
      if (!found) break;
      const auto id = rows.text_view(1), name = rows.text_view(2), data = rows.text_view(3);
      auto add = connection.use("INSERT INTO log_fts(rowid, name, data) VALUES(?1, ?2, ?3)");
      add.bind(1, rows.integer(0)).bind(2, name).bind(3, data);
      FLEXI_TRY(add.run());
      if (!rows.is_null(4)) {
        auto trace = connection.use("INSERT INTO log_traces VALUES(?1, ?2)");
        trace.bind_blob(1, rows.text_view(4)).bind(2, rows.integer(0));
        FLEXI_TRY(trace.run());
      }
      state.indexed = rows.integer(0);
      counted += counted_bytes(id.size(), name.size(), data.size());
      bytes += name.size() + data.size();
    }
  }
  auto update = connection.use("UPDATE log_index_state SET indexed_seq = ?1, indexed_bytes = indexed_bytes + ?2");
  update.bind(1, state.indexed).bind(2, counted);
  FLEXI_TRY(update.run());
  return state;
}

bool LogUpkeep::index_some(Connection& connection) const {
  // A failure (a full disk) is not ours to report: the writes that the same disk refuses do, and the next call tries again.
  auto more = in_savepoint(connection, [&]() -> core::Result<bool> {
    FLEXI_TRY(auto state, index_rows(connection, kIndexRows, kIndexBytes));
    return state.indexed < state.newest;
  });
  return more && more.value();
}

bool LogUpkeep::purge_some(Connection& connection) const {
  if (options_.retention_age.count() <= 0 && options_.retention_max_bytes <= 0) return false;
  auto more = in_savepoint(connection, [&] { return purge(connection, options_); });
  return more && more.value();
}

bool LogUpkeep::operator()(Connection& connection) const {
  const bool more_to_index = index_some(connection);
  if (!connection.in_transaction()) return false;
  return purge_some(connection) || more_to_index;
}

}  // namespace flexi::stores::sqlite
