// SPDX-License-Identifier: Apache-2.0
#include "runtime/sqlite/ledger_book.hpp"

#include "core/timestamp.hpp"

namespace flexi::runtime::sqlite {

using core::LedgerLine;
using core::Result;

namespace {

constexpr Migration kMigrations[] = {{1, R"(
  CREATE TABLE ledger_book(one INTEGER PRIMARY KEY CHECK(one = 1), id TEXT NOT NULL);
  INSERT INTO ledger_book VALUES(1, lower(hex(randomblob(8))));
  CREATE TABLE ledger_lines(
    action TEXT NOT NULL, way TEXT NOT NULL, accepted INTEGER NOT NULL, stored INTEGER NOT NULL, dead_lettered INTEGER NOT NULL,
    discarded INTEGER NOT NULL, expired INTEGER NOT NULL, in_flight INTEGER NOT NULL, duplicates INTEGER NOT NULL, redelivered INTEGER NOT NULL,
    PRIMARY KEY(action, way)) WITHOUT ROWID;
  CREATE TABLE ledger_repeats(
    action TEXT NOT NULL, id TEXT NOT NULL, count INTEGER NOT NULL, via TEXT NOT NULL, accepted_at INTEGER NOT NULL, last_at INTEGER NOT NULL,
    PRIMARY KEY(action, id)) WITHOUT ROWID;
  CREATE INDEX ledger_repeats_by_time ON ledger_repeats(last_at);
)"}};

constexpr std::chrono::hours kRepeatsKept(24 * 90);

/// What never met the broker came from within the process.
std::string_view way_of(core::Via via) { return core::to_string(via == core::Via::automatic ? core::Via::inproc : via); }

}  // namespace

LedgerBook::LedgerBook(Database& database, std::string id) : database_(database), id_(std::move(id)) { database_.add_batch_end(*this); }
LedgerBook::~LedgerBook() { database_.remove_batch_end(*this); }

Result<std::unique_ptr<LedgerBook>> LedgerBook::open(Database& database) {
  FLEXI_TRY(database.migrate("ledger", kMigrations));
  std::string id;
  FLEXI_TRY(database.write_now([&id](Connection& connection) -> Result<void> {
    auto row = connection.use("SELECT id FROM ledger_book");
    FLEXI_TRY(auto found, row.step());
    if (!found) return core::internal("internal error", "ledger_book is empty");
    id = row.text(0);
    return core::ok();
  }));
  return std::unique_ptr<LedgerBook>(new LedgerBook(database, std::move(id)));
}

LedgerLine& LedgerBook::line(std::string_view action, std::string_view way) {
  for (auto& line : changes_)
    if (line.action == action && line.way == way) return line;
  changes_.push_back({.action = std::string(action), .way = std::string(way)});
  return changes_.back();
}

void LedgerBook::count(const LedgerLine& change) { line(change.action, change.way) += change; }

void LedgerBook::stored(std::string_view action, core::Via via, AcceptedBy by) {
  auto& account = line(action, way_of(via));
  account.stored += 1;
  if (by == AcceptedBy::store) account.accepted += 1;
}

Result<void> LedgerBook::repeated(Connection& connection, std::string_view action, std::string_view id, const Acceptance& first, const Acceptance& again, AcceptedBy by) {
  // Accepted once more by a way that counts for itself: the id is one all the same. Once per acceptance: the row holds
  // the last that was taken off, so its redeliveries are not.
  bool taken_off = false;
  if (by == AcceptedBy::publisher && !again.same_as(first)) {
    auto known = connection.use("SELECT 1 FROM ledger_repeats WHERE action = ?1 AND id = ?2 AND via = ?3 AND accepted_at = ?4");
    known.bind(1, action).bind(2, id).bind(3, core::to_string(again.via)).bind(4, again.accepted_at);
    FLEXI_TRY(auto found, known.step());
    taken_off = !found;
  }
  auto add = connection.use("INSERT INTO ledger_repeats VALUES(?1, ?2, 1, ?3, ?4, ?5) ON CONFLICT(action, id) DO UPDATE SET "
                            "count = count + 1, last_at = ?5, via = iif(?6, ?3, via), accepted_at = iif(?6, ?4, accepted_at)");
  add.bind(1, action).bind(2, id).bind(3, taken_off ? core::to_string(again.via) : std::string_view()).bind(4, again.accepted_at);
  add.bind(5, core::to_unix_micros(std::chrono::system_clock::now())).bind(6, std::int64_t{taken_off});
  FLEXI_TRY(add.run());
  auto& account = line(action, way_of(again.via));
  account.duplicates += 1;
  if (taken_off) account.accepted -= 1;
  return core::ok();
}

Result<unsigned> LedgerBook::repeats(Connection& connection, std::string_view action, std::string_view id) {
  auto row = connection.use("SELECT count FROM ledger_repeats WHERE action = ?1 AND id = ?2");
  row.bind(1, action).bind(2, id);
  FLEXI_TRY(auto found, row.step());
  return found ? static_cast<unsigned>(row.integer(0)) : 0u;
}

Result<void> LedgerBook::finish(Connection& connection) {
  for (auto& d : changes_) {
    auto add = connection.use("INSERT INTO ledger_lines VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT(action, way) DO UPDATE SET "
                              "accepted = accepted + ?3, stored = stored + ?4, dead_lettered = dead_lettered + ?5, discarded = discarded + ?6, "
                              "expired = expired + ?7, in_flight = in_flight + ?8, duplicates = duplicates + ?9, redelivered = redelivered + ?10");
    add.bind(1, std::string_view(d.action)).bind(2, std::string_view(d.way)).bind(3, d.accepted).bind(4, d.stored).bind(5, d.dead_lettered);
    add.bind(6, d.discarded).bind(7, d.expired).bind(8, d.in_flight).bind(9, d.duplicates).bind(10, d.redelivered);
    FLEXI_TRY(add.run());
  }
  changes_.clear();
  return core::ok();
}

core::awaitable<Result<void>> LedgerBook::add(std::vector<LedgerLine> changes, core::CallContext context) {
  auto job = [this, changes = std::move(changes)](Connection&) -> Result<bool> {
    for (auto& change : changes) count(change);
    return true;
  };
  auto added = co_await database_.write(Atomicity::single_statement, std::move(job), std::move(context));
  if (!added) co_return added.error();
  co_return core::ok();
}

core::awaitable<Result<std::vector<core::Account>>> LedgerBook::accounts(core::CallContext context) {
  auto job = [id = id_](Connection& connection) -> Result<std::vector<core::Account>> {
    std::vector<core::Account> all{{.book = id, .lines = {}}};
    auto rows = connection.use("SELECT action, way, accepted, stored, dead_lettered, discarded, expired, in_flight, duplicates, redelivered FROM ledger_lines");
    for (;;) {
      FLEXI_TRY(auto found, rows.step());
      if (!found) return all;
      LedgerLine line{.action = rows.text(0), .way = rows.text(1)};
      line.accepted = rows.integer(2), line.stored = rows.integer(3), line.dead_lettered = rows.integer(4), line.discarded = rows.integer(5);
      line.expired = rows.integer(6), line.in_flight = rows.integer(7), line.duplicates = rows.integer(8), line.redelivered = rows.integer(9);
      all.front().lines.push_back(std::move(line));
    }
  };
  co_return co_await database_.read(std::move(job), std::move(context));
}

bool LedgerBook::purge_some(Connection& connection, core::Timestamp now) {
  constexpr std::int64_t kStep = 200;
  auto old = connection.use("DELETE FROM ledger_repeats WHERE (action, id) IN (SELECT action, id FROM ledger_repeats WHERE last_at < ?1 LIMIT ?2)");
  old.bind(1, core::to_unix_micros(now - kRepeatsKept)).bind(2, kStep);
  return old.run() && connection.changes() == kStep;
}

}  // namespace flexi::runtime::sqlite
