// SPDX-License-Identifier: Apache-2.0
// Dead letters, receipts, the ledger and retention: what operators see of QueueTable.
#include <charconv>
#include <set>

#include "core/hops.hpp"
#include "core/timestamp.hpp"
#include "runtime/page_budget.hpp"
#include "transports/queue/queue_table.hpp"

namespace flexi::transports::queue {

using core::Result;
using runtime::sqlite::Connection;
using runtime::sqlite::Statement;

namespace {

core::Error no_such_letter() { return core::not_found("no dead letter with this id"); }

Result<core::DeadLetter> read_letter(const Statement& row) {
  core::DeadLetter letter;
  FLEXI_TRY(letter.id, core::MessageId::parse(row.text_view(1)));
  letter.action = row.text(2), letter.payload = row.text(3), letter.reason = row.text(4);
  letter.attempts = static_cast<unsigned>(row.integer(5));
  letter.accepted_at = core::from_unix_micros(row.integer(6)), letter.dead_at = core::from_unix_micros(row.integer(7));
  return letter;
}

struct Dead {
  std::int64_t seq = 0;
  std::string action;
  std::int64_t bytes = 0;
};

/// The one letter that `key` means: an id has one of each action at most.
Result<Dead> find_dead(Connection& c, const core::DeadLetterKey& key) {
  Dead dead;
  std::set<std::string> actions;
  auto rows = c.use("SELECT seq, action, length(CAST(payload AS BLOB)) FROM queue_dead WHERE id = ?1 AND (?2 = '' OR action = ?2)");
  rows.bind(1, key.id.str()).bind(2, std::string_view(key.action));
  for (;;) {
    FLEXI_TRY(auto found, rows.step());
    if (!found) break;
    dead = {rows.integer(0), rows.text(1), rows.integer(2)};
    actions.insert(dead.action);
  }
  if (actions.empty()) return no_such_letter();
  if (actions.size() > 1) return core::ambiguous_dead_letter(actions);
  return dead;
}

/// "<dead_at>.<seq>" of the page's last letter.
Result<std::pair<std::int64_t, std::int64_t>> parse_cursor(std::string_view text) {
  std::int64_t dead_at = 0, seq = 0;
  auto first = std::from_chars(text.data(), text.data() + text.size(), dead_at);
  if (first.ec == std::errc() && first.ptr != text.data() + text.size() && *first.ptr == '.') {
    auto second = std::from_chars(first.ptr + 1, text.data() + text.size(), seq);
    if (second.ec == std::errc() && second.ptr == text.data() + text.size()) return std::pair(dead_at, seq);
  }
  return core::invalid_argument("cursor must be the `next` of an earlier page");
}

}  // namespace

Result<core::DeadLetterPage> QueueTable::list_dead(Connection& c, unsigned limit, std::string_view cursor) {
  std::pair before(std::numeric_limits<std::int64_t>::max(), std::numeric_limits<std::int64_t>::max());
  if (!cursor.empty()) {
    FLEXI_TRY(before, parse_cursor(cursor));
  }
  core::DeadLetterPage page;
  runtime::PageBudget budget;
  auto rows = c.use("SELECT seq, id, action, payload, reason, attempts, accepted_at, dead_at FROM queue_dead "
                    "WHERE (dead_at, seq) < (?1, ?2) ORDER BY dead_at DESC, seq DESC LIMIT ?3");
  rows.bind(1, before.first).bind(2, before.second).bind(3, std::int64_t{limit} + 1);
  std::string last;
  for (;;) {
    FLEXI_TRY(auto found, rows.step());
    if (!found) break;
    if (page.letters.size() == limit || !budget.take({rows.text_view(3), rows.text_view(4)})) {
      page.next = last;
      break;
    }
    FLEXI_TRY(auto letter, read_letter(rows));
    page.letters.push_back(std::move(letter));
    last = std::to_string(rows.integer(7)) + "." + std::to_string(rows.integer(0));
  }
  return page;
}

Result<core::DeadLetter> QueueTable::get_dead(Connection& c, const core::DeadLetterKey& key) {
  FLEXI_TRY(auto dead, find_dead(c, key));
  auto row = c.use("SELECT seq, id, action, payload, reason, attempts, accepted_at, dead_at FROM queue_dead WHERE seq = ?1");
  row.bind(1, dead.seq);
  FLEXI_TRY(auto found, row.step());
  if (!found) return no_such_letter();
  return read_letter(row);
}

Result<std::int64_t> QueueTable::replay(Connection& c, const core::DeadLetterKey& key, std::int64_t now) {
  FLEXI_TRY(auto dead, find_dead(c, key));
  auto& account = line(dead.action);
  account.dead_lettered -= 1, account.in_flight += 1;
  {
    // What was accepted does not expire, and a replay is an operator's word: no deadline.
    auto rows = c.use("INSERT INTO queue_messages SELECT seq, id, action, payload, accepted_at, 0, ?2, 0, 0, traceparent, caller, id_from_caller, hops, 0 "
                      "FROM queue_dead WHERE seq = ?1");
    rows.bind(1, dead.seq).bind(2, now);
    FLEXI_TRY(rows.run());
  }
  auto rows = c.use("DELETE FROM queue_dead WHERE seq = ?1");
  rows.bind(1, dead.seq);
  FLEXI_TRY(rows.run());
  return std::int64_t{1};
}

Result<std::pair<std::int64_t, std::int64_t>> QueueTable::discard(Connection& c, const core::DeadLetterKey& key, std::int64_t now) {
  FLEXI_TRY(auto dead, find_dead(c, key));
  auto& account = line(dead.action);
  account.dead_lettered -= 1, account.discarded += 1, account.bytes -= dead.bytes;
  {
    auto ended = c.use("INSERT OR REPLACE INTO queue_ended SELECT id, action, ?2, 'discarded by an operator; it had failed: ' || reason, accepted_at, attempts, ?3, 1 "
                       "FROM queue_dead WHERE seq = ?1");
    ended.bind(1, dead.seq).bind(2, core::to_string(core::Receipt::State::discarded)).bind(3, now);
    FLEXI_TRY(ended.run());
  }
  {
    // The same id again is a new message: "it is here already" would be untrue.
    auto ids = c.use("DELETE FROM queue_ids WHERE seq = ?1");
    ids.bind(1, dead.seq);
    FLEXI_TRY(ids.run());
  }
  auto rows = c.use("DELETE FROM queue_dead WHERE seq = ?1");
  rows.bind(1, dead.seq);
  FLEXI_TRY(rows.run());
  return std::pair(dead.bytes, std::int64_t{1});
}

Result<QueueTable::Swept> QueueTable::sweep_some(Connection& c, const core::DeadLetterSweep& what, std::int64_t now) {
  constexpr std::int64_t kStep = 200;
  std::vector<core::DeadLetterKey> keys;
  {
    auto rows = c.use("SELECT id, action FROM queue_dead WHERE dead_at <= ?1 AND (?2 = '' OR action = ?2) ORDER BY dead_at, seq LIMIT ?3");
    rows.bind(1, core::to_unix_micros(what.before)).bind(2, std::string_view(what.action)).bind(3, kStep);
    for (;;) {
      FLEXI_TRY(auto found, rows.step());
      if (!found) break;
      FLEXI_TRY(auto id, core::MessageId::parse(rows.text_view(0)));
      keys.emplace_back(std::move(id), rows.text(1));
    }
  }
  Swept swept{.more = std::ssize(keys) == kStep};
  for (auto& key : keys) {
    std::pair<std::int64_t, std::int64_t> ended{0, 0};  // bytes, letters
    auto done = what.fate == core::DeadLetterSweep::Fate::discard ? discard(c, key, now) : Result<std::pair<std::int64_t, std::int64_t>>(ended);
    if (what.fate == core::DeadLetterSweep::Fate::replay) {
      if (auto moved = replay(c, key, now)) done = std::pair<std::int64_t, std::int64_t>(0, moved.value());
      else done = moved.error();
    }
    if (!done && done.error().kind == core::ErrorKind::not_found) continue;  // it went with another of its id
    if (!done) return done.error();
    swept.bytes += done.value().first, swept.letters += done.value().second;
  }
  return swept;
}

bool QueueTable::purge_some(Connection& c, std::int64_t now) {
  constexpr std::int64_t kStep = 500;
  bool more_ended;
  {
    auto ended = c.use("DELETE FROM queue_ended WHERE (id, action) IN (SELECT id, action FROM queue_ended WHERE at < ?1 LIMIT ?2)");
    ended.bind(1, now - options_.keep_ids.count() * 1000).bind(2, kStep);
    more_ended = ended.run() && c.changes() == kStep;
  }
  const auto too_old = now - options_.keep_ids.count() * 1000, too_far = next_seq_ - options_.max_kept_ids;
  std::int64_t seen = 0, last = purge_cursor_;
  bool last_was_old = false;
  {
    auto rows = c.use("SELECT seq, kept_since FROM queue_ids WHERE seq > ?1 ORDER BY seq LIMIT ?2");
    rows.bind(1, purge_cursor_).bind(2, kStep);
    while (auto found = rows.step()) {
      if (!found.value()) break;
      ++seen;
      last = rows.integer(0);
      last_was_old = rows.integer(1) <= too_old || last < too_far;
    }
  }
  auto old = c.use("DELETE FROM queue_ids WHERE seq > ?1 AND seq <= ?2 AND (kept_since <= ?3 OR seq < ?4) "
                   "AND NOT EXISTS(SELECT 1 FROM queue_messages m WHERE m.seq = queue_ids.seq) "
                   "AND NOT EXISTS(SELECT 1 FROM queue_dead d WHERE d.seq = queue_ids.seq)");
  old.bind(1, purge_cursor_).bind(2, last).bind(3, too_old).bind(4, too_far);
  // Ids are nearly in order of age: where one is young, those behind it are, and the next pass begins at the front.
  const bool more = old.run() && seen == kStep && last_was_old;
  purge_cursor_ = more ? last : 0;
  return more || more_ended;
}

namespace {

Result<std::optional<core::Receipt>> find_ended(Connection& c, std::string_view id) {
  auto row = c.use("SELECT id, action, state, reason, accepted_at, attempts, at FROM queue_ended WHERE id = ?1 ORDER BY at DESC LIMIT 1");
  row.bind(1, id);
  FLEXI_TRY(auto found, row.step());
  if (!found) return std::optional<core::Receipt>();
  core::Receipt receipt;
  FLEXI_TRY(receipt.id, core::MessageId::parse(row.text_view(0)));
  receipt.action = row.text(1);
  receipt.state = row.text_view(2) == core::to_string(core::Receipt::State::expired) ? core::Receipt::State::expired : core::Receipt::State::discarded;
  receipt.where = "queue";
  receipt.way = core::to_string(core::Via::amqp);
  receipt.reason = row.text(3);
  receipt.accepted_at = core::from_unix_micros(row.integer(4));
  receipt.attempts = static_cast<unsigned>(row.integer(5));
  receipt.at = core::from_unix_micros(row.integer(6));
  return std::optional(std::move(receipt));
}

}  // namespace

Result<std::vector<core::Doubt>> QueueTable::doubts(Connection& c, unsigned limit) {
  std::vector<core::Doubt> all;
  auto rows = c.use("SELECT id, action, at, accepted_at FROM queue_ended WHERE doubt != 0 ORDER BY at LIMIT ?1");
  rows.bind(1, std::int64_t{limit});
  for (;;) {
    FLEXI_TRY(auto found, rows.step());
    if (!found) return all;
    core::Doubt doubt;
    FLEXI_TRY(doubt.id, core::MessageId::parse(rows.text_view(0)));
    doubt.action = rows.text(1);
    doubt.way = core::to_string(core::Via::amqp);
    doubt.at = core::from_unix_micros(rows.integer(2));
    doubt.accepted_at = core::from_unix_micros(rows.integer(3));
    all.push_back(std::move(doubt));
  }
}

Result<void> QueueTable::resolve(Connection& c, const core::Doubt& doubt, bool stored) {
  bool expired = false;
  {
    // Only the end that was in doubt: the same id may have ended anew meanwhile.
    auto row = c.use("SELECT state = 'expired' FROM queue_ended WHERE id = ?1 AND action = ?2 AND at = ?3 AND doubt != 0");
    row.bind(1, doubt.id.str()).bind(2, std::string_view(doubt.action)).bind(3, core::to_unix_micros(doubt.at));
    FLEXI_TRY(auto found, row.step());
    if (!found) return core::ok();
    expired = row.integer(0) != 0;
  }
  auto sure = stored ? c.use("DELETE FROM queue_ended WHERE id = ?1 AND action = ?2") : c.use("UPDATE queue_ended SET doubt = 0 WHERE id = ?1 AND action = ?2");
  sure.bind(1, doubt.id.str()).bind(2, std::string_view(doubt.action));
  FLEXI_TRY(sure.run());
  if (!stored) return core::ok();
  auto& account = line(doubt.action);
  (expired ? account.expired : account.discarded) -= 1;
  account.stored += 1;
  return core::ok();
}

Result<std::optional<core::Receipt>> QueueTable::find(Connection& c, std::string_view id) {
  // The same id may stand for a message of each action: the newest counts.
  auto row = c.use("SELECT i.id, i.action, i.kept_since, m.accepted_at, m.attempts, m.due_at, m.due_at = ?2 OR (m.due_at = 0 AND m.seq <= k.fetched_to), "
                   "d.accepted_at, d.attempts, d.dead_at, d.reason, coalesce(m.traceparent, d.traceparent), coalesce(m.hops, d.hops) "
                   "FROM queue_ids i JOIN queue_mark k LEFT JOIN queue_messages m ON m.seq = i.seq LEFT JOIN queue_dead d ON d.seq = i.seq "
                   "WHERE i.id = ?1 ORDER BY i.seq DESC LIMIT 1");
  row.bind(1, id).bind(2, kBeingHandled);
  FLEXI_TRY(auto found, row.step());
  if (!found) return find_ended(c, id);
  core::Receipt receipt;
  FLEXI_TRY(receipt.id, core::MessageId::parse(row.text_view(0)));
  receipt.action = row.text(1);
  receipt.where = "queue";
  receipt.way = core::to_string(core::Via::amqp);
  if (!row.is_null(3)) {
    receipt.state = core::Receipt::State::queued;
    receipt.accepted_at = core::from_unix_micros(row.integer(3));
    receipt.attempts = static_cast<unsigned>(row.integer(4));
    if (row.integer(6)) {
      receipt.where = "listener";
    } else if (row.integer(5) > 0) {
      receipt.at = core::from_unix_micros(row.integer(5));
    }
  } else if (!row.is_null(7)) {
    receipt.state = core::Receipt::State::dead_lettered;
    receipt.accepted_at = core::from_unix_micros(row.integer(7));
    receipt.attempts = static_cast<unsigned>(row.integer(8));
    receipt.at = core::from_unix_micros(row.integer(9));
    receipt.reason = row.text(10);
  } else {
    receipt.state = core::Receipt::State::stored;
    receipt.at = core::from_unix_micros(row.integer(2));  // or when it was accepted, where it did not take long
  }
  receipt.trace_id = core::to_string(core::TraceContext::from_traceparent(row.text_view(11)).trace_id);
  if (receipt.accepted_at != core::Timestamp{}) receipt.hops = core::lengthen_hops(row.text_view(12), receipt.accepted_at);
  return std::optional(std::move(receipt));
}

Result<Ledger> QueueTable::count(Connection& c) {
  FLEXI_TRY(auto counted, ledger(c));
  for (auto& line : counted.lines) line.in_flight = line.dead_lettered = 0;
  const auto add = [&counted](const Statement& row, std::int64_t LedgerLine::*column) {
    for (auto& line : counted.lines)
      if (line.action == row.text_view(0)) return void(line.*column = row.integer(1));
    counted.lines.push_back({.action = row.text(0)});
    counted.lines.back().*column = row.integer(1);
  };
  for (auto [sql, column] : {std::pair("SELECT action, count(*) FROM queue_messages GROUP BY action", &LedgerLine::in_flight),
                             std::pair("SELECT action, count(*) FROM queue_dead GROUP BY action", &LedgerLine::dead_lettered)}) {
    auto rows = c.use(sql);
    for (;;) {
      FLEXI_TRY(auto found, rows.step());
      if (!found) break;
      add(rows, column);
    }
  }
  return counted;
}

Result<std::string> QueueTable::book(Connection& c) {
  auto row = c.use("SELECT id FROM queue_book");
  FLEXI_TRY(auto found, row.step());
  if (!found) return core::internal("internal error", "queue_book is empty");
  return row.text(0);
}

Result<Ledger> QueueTable::ledger(Connection& c) {
  Ledger ledger;
  auto rows = c.use("SELECT action, accepted, stored, dead_lettered, discarded, expired, in_flight, duplicates, redelivered, bytes "
                    "FROM queue_ledger ORDER BY action");
  for (;;) {
    FLEXI_TRY(auto found, rows.step());
    if (!found) break;
    LedgerLine l;
    l.action = rows.text(0), l.accepted = rows.integer(1), l.stored = rows.integer(2), l.dead_lettered = rows.integer(3);
    l.discarded = rows.integer(4), l.expired = rows.integer(5), l.in_flight = rows.integer(6), l.duplicates = rows.integer(7);
    l.redelivered = rows.integer(8), l.bytes = rows.integer(9);
    ledger.lines.push_back(std::move(l));
  }
  return ledger;
}

Result<std::int64_t> QueueTable::oldest(Connection& c) {
  auto row = c.use("SELECT accepted_at FROM queue_messages ORDER BY seq LIMIT 1");
  FLEXI_TRY(auto found, row.step());
  return found ? row.integer(0) : 0;
}

}  // namespace flexi::transports::queue
