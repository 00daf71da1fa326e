// SPDX-License-Identifier: Apache-2.0
#include "transports/spool/spool_table.hpp"

#include <charconv>
#include <limits>
#include <set>

#include "core/timestamp.hpp"
#include "runtime/page_budget.hpp"

namespace flexi::transports::spool::table {

using core::Result;
using runtime::sqlite::Connection;
using runtime::sqlite::Statement;

namespace {

constexpr runtime::sqlite::Migration kMigrations[] = {{1, R"(
  CREATE TABLE spool_messages(
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL, action TEXT NOT NULL, payload TEXT NOT NULL, accepted_at INTEGER NOT NULL,
    spooled_at INTEGER NOT NULL, traceparent TEXT NOT NULL, caller TEXT NOT NULL, hops TEXT NOT NULL, id_from_caller INTEGER NOT NULL,
    UNIQUE(id, action));
  CREATE INDEX spool_order ON spool_messages(action, seq);
  CREATE TABLE spool_dead(
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL, action TEXT NOT NULL, payload TEXT NOT NULL, accepted_at INTEGER NOT NULL,
    spooled_at INTEGER NOT NULL, traceparent TEXT NOT NULL, caller TEXT NOT NULL, hops TEXT NOT NULL, id_from_caller INTEGER NOT NULL,
    reason TEXT NOT NULL, attempts INTEGER NOT NULL, dead_at INTEGER NOT NULL, UNIQUE(id, action));
  CREATE INDEX spool_dead_by_time ON spool_dead(dead_at, seq);
)"}};

constexpr std::int64_t kMaxBatchBytes = 16 << 20;  ///< in memory at once

#define FLEXI_SPOOL_DATA "id, action, payload, accepted_at, spooled_at, traceparent, caller, hops, id_from_caller"
#define FLEXI_SPOOL_BYTES "length(CAST(payload AS BLOB))"

Spooled read_message(const Statement& row) {
  Spooled m;
  m.seq = row.integer(0), m.id = row.text(1), m.action = row.text(2), m.payload = row.text(3), m.accepted_at = row.integer(4);
  m.spooled_at = row.integer(5), m.traceparent = row.text(6), m.caller = row.text(7), m.hops = row.text(8), m.id_from_caller = row.integer(9) != 0;
  return m;
}

/// Binds ?2 to ?10.
void bind_message(Statement& row, const Spooled& m) {
  row.bind(2, std::string_view(m.id)).bind(3, std::string_view(m.action)).bind(4, std::string_view(m.payload)).bind(5, m.accepted_at).bind(6, m.spooled_at);
  row.bind(7, std::string_view(m.traceparent)).bind(8, std::string_view(m.caller)).bind(9, std::string_view(m.hops)).bind(10, std::int64_t{m.id_from_caller});
}

core::Error no_such_letter() { return core::not_found("no dead letter with this id"); }

Result<core::DeadLetter> read_letter(const Statement& row) {
  core::DeadLetter letter;
  FLEXI_TRY(letter.id, core::MessageId::parse(row.text_view(1)));
  letter.action = row.text(2), letter.payload = row.text(3), letter.reason = row.text(4), letter.attempts = static_cast<unsigned>(row.integer(5));
  letter.accepted_at = core::from_unix_micros(row.integer(6)), letter.dead_at = core::from_unix_micros(row.integer(7));
  return letter;
}

/// "<dead_at>.<seq>" of the page's last letter.
Result<std::pair<std::int64_t, std::int64_t>> parse_cursor(std::string_view text) {
  std::int64_t dead_at = 0, seq = 0;
  const char* const end = text.data() + text.size();
  auto first = std::from_chars(text.data(), end, dead_at);
  if (first.ec == std::errc() && first.ptr != end && *first.ptr == '.') {
    auto second = std::from_chars(first.ptr + 1, end, seq);
    if (second.ec == std::errc() && second.ptr == end) return std::pair(dead_at, seq);
  }
  return core::invalid_argument("cursor must be the `next` of an earlier page");
}

/// The action of the one letter that `key` means.
Result<std::string> action_of(Connection& c, const core::DeadLetterKey& key) {
  std::set<std::string> actions;
  auto rows = c.use("SELECT action FROM spool_dead WHERE id = ?1 AND (?2 = '' OR action = ?2)");
  rows.bind(1, key.id.str()).bind(2, std::string_view(key.action));
  for (;;) {
    FLEXI_TRY(auto found, rows.step());
    if (!found) break;
    actions.insert(rows.text(0));
  }
  if (actions.empty()) return no_such_letter();
  if (actions.size() > 1) return core::ambiguous_dead_letter(actions);
  return *actions.begin();
}

Result<Held> held_by(Connection& c, std::string_view id, std::string_view action) {
  auto row = c.use("SELECT count(*), coalesce(sum(" FLEXI_SPOOL_BYTES "), 0) FROM spool_dead WHERE id = ?1 AND action = ?2");
  row.bind(1, id).bind(2, action);
  FLEXI_TRY(row.step());
  return Held{row.integer(0), row.integer(1)};
}

}  // namespace

std::span<const runtime::sqlite::Migration> migrations() { return kMigrations; }

Result<Appended> append(Connection& c, Spooled& m) {
  {
    auto row = c.use("INSERT INTO spool_messages VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT(id, action) DO NOTHING");
    row.bind_null(1);
    bind_message(row, m);
    FLEXI_TRY(row.run());
  }
  if (c.changes() > 0) {
    m.seq = c.last_insert_rowid();
    return Appended::spooled;
  }
  auto known = c.use("SELECT payload = ?3 FROM spool_messages WHERE id = ?1 AND action = ?2");
  known.bind(1, std::string_view(m.id)).bind(2, std::string_view(m.action)).bind(3, std::string_view(m.payload));
  FLEXI_TRY(known.step());
  return known.integer(0) ? Appended::duplicate : Appended::conflict;
}

Result<std::vector<Spooled>> head(Connection& c, std::string_view action, std::int64_t limit) {
  auto rows = c.use("SELECT seq, " FLEXI_SPOOL_DATA " FROM spool_messages WHERE action = ?1 ORDER BY seq LIMIT ?2");
  rows.bind(1, action).bind(2, limit);
  std::vector<Spooled> messages;
  for (std::int64_t bytes = 0; bytes < kMaxBatchBytes;) {
    FLEXI_TRY(auto found, rows.step());
    if (!found) break;
    messages.push_back(read_message(rows));
    bytes += messages.back().bytes();
  }
  return messages;
}

Result<void> bury(Connection& c, std::int64_t seq, std::string_view reason, std::int64_t attempts, std::int64_t now) {
  auto row = c.use("INSERT INTO spool_dead SELECT NULL, " FLEXI_SPOOL_DATA ", ?2, ?3, ?4 FROM spool_messages WHERE seq = ?1 "
                   "ON CONFLICT(id, action) DO UPDATE SET reason = ?2, attempts = ?3, dead_at = ?4");
  row.bind(1, seq).bind(2, reason).bind(3, attempts).bind(4, now);
  return row.run();
}

Result<void> remove(Connection& c, std::string_view action, std::int64_t first, std::int64_t last) {
  auto rows = c.use("DELETE FROM spool_messages WHERE action = ?1 AND seq BETWEEN ?2 AND ?3");
  rows.bind(1, action).bind(2, first).bind(3, last);
  return rows.run();
}

Result<HeldByAction> held(Connection& c) {
  HeldByAction all;
  auto rows = c.use("SELECT action, count(*), sum(" FLEXI_SPOOL_BYTES ") FROM spool_messages GROUP BY action");
  for (;;) {
    FLEXI_TRY(auto found, rows.step());
    if (!found) return all;
    all[rows.text(0)] = {rows.integer(1), rows.integer(2)};
  }
}

Result<Held> dead(Connection& c) {
  auto row = c.use("SELECT count(*), coalesce(sum(" FLEXI_SPOOL_BYTES "), 0) FROM spool_dead");
  FLEXI_TRY(row.step());
  return Held{row.integer(0), row.integer(1)};
}

Result<std::int64_t> oldest(Connection& c) {
  auto row = c.use("SELECT spooled_at FROM spool_messages ORDER BY seq LIMIT 1");
  FLEXI_TRY(auto found, row.step());
  return found ? row.integer(0) : 0;
}

Result<std::vector<core::LedgerLine>> count(Connection& c) {
  std::vector<core::LedgerLine> lines;
  auto rows = c.use("SELECT action, sum(held), sum(dead) FROM (SELECT action, count(*) AS held, 0 AS dead FROM spool_messages GROUP BY action "
                    "UNION ALL SELECT action, 0, count(*) FROM spool_dead GROUP BY action) GROUP BY action");
  for (;;) {
    FLEXI_TRY(auto found, rows.step());
    if (!found) return lines;
    const auto held = rows.integer(1), dead = rows.integer(2);
    core::LedgerLine line{.action = rows.text(0), .way = std::string(core::to_string(core::Via::amqp))};
    line.accepted = held + dead, line.dead_lettered = dead, line.in_flight = held;
    lines.push_back(std::move(line));
  }
}

Result<std::optional<core::Receipt>> find(Connection& c, std::string_view id) {
  core::Receipt receipt;
  receipt.where = "spool";
  FLEXI_TRY(receipt.id, core::MessageId::parse(id));
  {
    auto row = c.use("SELECT action, accepted_at, spooled_at FROM spool_messages WHERE id = ?1 ORDER BY seq DESC LIMIT 1");
    row.bind(1, id);
    FLEXI_TRY(auto found, row.step());
    if (found) {
      receipt.state = core::Receipt::State::spooled;
      receipt.action = row.text(0);
      receipt.accepted_at = core::from_unix_micros(row.integer(1)), receipt.at = core::from_unix_micros(row.integer(2));
      return std::optional(std::move(receipt));
    }
  }
  auto row = c.use("SELECT action, accepted_at, dead_at, attempts, reason FROM spool_dead WHERE id = ?1 ORDER BY seq DESC LIMIT 1");
  row.bind(1, id);
  FLEXI_TRY(auto found, row.step());
  if (!found) return std::optional<core::Receipt>();
  receipt.state = core::Receipt::State::dead_lettered;
  receipt.action = row.text(0);
  receipt.accepted_at = core::from_unix_micros(row.integer(1)), receipt.at = core::from_unix_micros(row.integer(2));
  receipt.attempts = static_cast<unsigned>(row.integer(3)), receipt.reason = row.text(4);
  return std::optional(std::move(receipt));
}

Result<Adopted> adopt(Connection& c, const std::string& file) {
  FLEXI_TRY(auto other, Connection::open(file, Connection::Mode::read_write));
  {
    // Its process died while it made the file: nothing was accepted yet.
    auto tables = other->use("SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name != 'schema_versions'");
    FLEXI_TRY(tables.step());
    if (tables.integer(0) == 0) return Adopted{};
  }
  {
    auto version = other->use("SELECT version FROM schema_versions WHERE component = 'spool'");
    FLEXI_TRY(auto found, version.step());
    if (!found || version.integer(0) != kMigrations[0].version) return core::conflict("it was written by another version of the program");
  }
  Adopted adopted;
  std::int64_t seq;
  {
    auto first = c.use("SELECT coalesce(min(seq), 1) FROM spool_messages");
    FLEXI_TRY(first.step());
    seq = first.integer(0);
  }
  auto rows = other->use("SELECT seq, " FLEXI_SPOOL_DATA " FROM spool_messages ORDER BY seq DESC");
  for (;;) {
    FLEXI_TRY(auto found, rows.step());
    if (!found) break;
    const auto m = read_message(rows);
    // It may be here already: the process died after it took it over and before it removed the file.
    auto row = c.use("INSERT INTO spool_messages VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT(id, action) DO NOTHING");
    row.bind(1, --seq);
    bind_message(row, m);
    FLEXI_TRY(row.run());
    if (c.changes() == 0) continue;
    auto& sum = adopted.messages[m.action];
    sum.messages += 1, sum.bytes += m.bytes();
  }
  auto letters = other->use("SELECT seq, " FLEXI_SPOOL_DATA ", reason, attempts, dead_at FROM spool_dead ORDER BY seq");
  for (;;) {
    FLEXI_TRY(auto found, letters.step());
    if (!found) break;
    const auto m = read_message(letters);
    const auto reason = letters.text(10);
    auto row = c.use("INSERT INTO spool_dead VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) ON CONFLICT(id, action) DO NOTHING");
    row.bind_null(1);
    bind_message(row, m);
    row.bind(11, std::string_view(reason)).bind(12, letters.integer(11)).bind(13, letters.integer(12));
    FLEXI_TRY(row.run());
    if (c.changes() > 0) adopted.dead.messages += 1, adopted.dead.bytes += m.bytes();
  }
  return adopted;
}

Result<core::DeadLetterPage> list_dead(Connection& c, unsigned limit, std::string_view cursor) {
  std::pair before(std::numeric_limits<std::int64_t>::max(), std::numeric_limits<std::int64_t>::max());
  if (!cursor.empty()) {
    FLEXI_TRY(before, parse_cursor(cursor));
  }
  core::DeadLetterPage page;
  runtime::PageBudget budget;
  auto rows = c.use("SELECT seq, id, action, payload, reason, attempts, accepted_at, dead_at FROM spool_dead "
                    "WHERE (dead_at, seq) < (?1, ?2) ORDER BY dead_at DESC, seq DESC LIMIT ?3");
  rows.bind(1, before.first).bind(2, before.second).bind(3, std::int64_t{limit} + 1);
  std::string last;
  for (;;) {
    FLEXI_TRY(auto found, rows.step());
    if (!found) return page;
    if (page.letters.size() == limit || !budget.take({rows.text_view(3), rows.text_view(4)})) {
      page.next = last;
      return page;
    }
    FLEXI_TRY(auto letter, read_letter(rows));
    page.letters.push_back(std::move(letter));
    last = std::to_string(rows.integer(7)) + "." + std::to_string(rows.integer(0));
  }
}

Result<core::DeadLetter> get_dead(Connection& c, const core::DeadLetterKey& key) {
  FLEXI_TRY(auto action, action_of(c, key));
  auto row = c.use("SELECT seq, id, action, payload, reason, attempts, accepted_at, dead_at FROM spool_dead WHERE id = ?1 AND action = ?2");
  row.bind(1, key.id.str()).bind(2, std::string_view(action));
  FLEXI_TRY(auto found, row.step());
  if (!found) return no_such_letter();
  return read_letter(row);
}

Result<HeldByAction> replay(Connection& c, const core::DeadLetterKey& key, std::int64_t now) {
  FLEXI_TRY(auto action, action_of(c, key));
  HeldByAction moved;
  FLEXI_TRY(moved[action], held_by(c, key.id.str(), action));
  {
    auto rows = c.use("INSERT INTO spool_messages SELECT NULL, id, action, payload, accepted_at, ?3, traceparent, caller, hops, id_from_caller "
                      "FROM spool_dead WHERE id = ?1 AND action = ?2");
    rows.bind(1, key.id.str()).bind(2, std::string_view(action)).bind(3, now);
    FLEXI_TRY(rows.run());
  }
  auto rows = c.use("DELETE FROM spool_dead WHERE id = ?1 AND action = ?2");
  rows.bind(1, key.id.str()).bind(2, std::string_view(action));
  FLEXI_TRY(rows.run());
  return moved;
}

Result<Held> discard(Connection& c, const core::DeadLetterKey& key) {
  FLEXI_TRY(auto action, action_of(c, key));
  FLEXI_TRY(auto removed, held_by(c, key.id.str(), action));
  auto rows = c.use("DELETE FROM spool_dead WHERE id = ?1 AND action = ?2");
  rows.bind(1, key.id.str()).bind(2, std::string_view(action));
  FLEXI_TRY(rows.run());
  return removed;
}

Result<HeldByAction> sweep_some(Connection& c, const core::DeadLetterSweep& what, std::int64_t now) {
  std::vector<core::DeadLetterKey> keys;
  {
    auto rows = c.use("SELECT id, action FROM spool_dead WHERE dead_at <= ?1 AND (?2 = '' OR action = ?2) ORDER BY dead_at, seq LIMIT 200");
    rows.bind(1, core::to_unix_micros(what.before)).bind(2, std::string_view(what.action));
    for (;;) {
      FLEXI_TRY(auto found, rows.step());
      if (!found) break;
      FLEXI_TRY(auto id, core::MessageId::parse(rows.text_view(0)));
      keys.emplace_back(std::move(id), rows.text(1));
    }
  }
  HeldByAction all;
  for (auto& key : keys) {
    HeldByAction ended;
    if (what.fate == core::DeadLetterSweep::Fate::replay) {
      auto moved = replay(c, key, now);
      if (!moved && moved.error().kind != core::ErrorKind::not_found) return moved.error();
      if (moved) ended = std::move(moved).value();
    } else {
      auto removed = discard(c, key);
      if (!removed && removed.error().kind != core::ErrorKind::not_found) return removed.error();
      if (removed) ended[""] = removed.value();
    }
    for (auto& [action, held] : ended) all[action].messages += held.messages, all[action].bytes += held.bytes;
  }
  return all;
}

#undef FLEXI_SPOOL_DATA
#undef FLEXI_SPOOL_BYTES

}  // namespace flexi::transports::spool::table
