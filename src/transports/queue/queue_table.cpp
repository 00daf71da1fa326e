// SPDX-License-Identifier: Apache-2.0
#include "transports/queue/queue_table.hpp"

#include "core/timestamp.hpp"

namespace flexi::transports::queue {

using core::Result;
using runtime::sqlite::Connection;
using runtime::sqlite::Statement;

namespace {

/// From so many deaths on a message is handled while no other such one is.
constexpr std::int64_t kIsolateFrom = 2;

constexpr runtime::sqlite::Migration kMigrations[] = {{1, R"(
  CREATE TABLE queue_messages(
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL, action TEXT NOT NULL, payload TEXT NOT NULL, accepted_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL, due_at INTEGER NOT NULL, attempts INTEGER NOT NULL, deliveries INTEGER NOT NULL,
    traceparent TEXT NOT NULL, caller TEXT NOT NULL, id_from_caller INTEGER NOT NULL);
  CREATE INDEX queue_due ON queue_messages(due_at) WHERE due_at > 0;
  CREATE TABLE queue_ids(seq INTEGER PRIMARY KEY, id TEXT NOT NULL, action TEXT NOT NULL, digest INTEGER NOT NULL, kept_since INTEGER NOT NULL,
    UNIQUE(id, action));
  CREATE TABLE queue_dead(
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL, action TEXT NOT NULL, payload TEXT NOT NULL, accepted_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL, traceparent TEXT NOT NULL, caller TEXT NOT NULL, id_from_caller INTEGER NOT NULL,
    reason TEXT NOT NULL, dead_at INTEGER NOT NULL);
  CREATE INDEX queue_dead_by_time ON queue_dead(dead_at, seq);
  CREATE INDEX queue_dead_by_id ON queue_dead(id);
  CREATE TABLE queue_ledger(
    action TEXT PRIMARY KEY, accepted INTEGER NOT NULL, stored INTEGER NOT NULL, dead_lettered INTEGER NOT NULL, discarded INTEGER NOT NULL,
    expired INTEGER NOT NULL, in_flight INTEGER NOT NULL, duplicates INTEGER NOT NULL, redelivered INTEGER NOT NULL, bytes INTEGER NOT NULL);
  CREATE TABLE queue_mark(one INTEGER PRIMARY KEY CHECK(one = 1), fetched_to INTEGER NOT NULL);
  INSERT INTO queue_mark VALUES(1, 0);
)"},
// The ledger begins anew: from here on what is stored is counted by the stores, which know nothing of what was before.
{2, R"(
  ALTER TABLE queue_messages ADD COLUMN hops TEXT NOT NULL DEFAULT '';
  ALTER TABLE queue_dead ADD COLUMN hops TEXT NOT NULL DEFAULT '';
  UPDATE queue_ledger SET accepted = in_flight + dead_lettered, stored = 0, discarded = 0, expired = 0, duplicates = 0, redelivered = 0;
  -- How messages ended that are not stored, for receipts. doubt: an attempt may have reached the store.
  CREATE TABLE queue_ended(
    id TEXT NOT NULL, action TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL, accepted_at INTEGER NOT NULL, attempts INTEGER NOT NULL,
    at INTEGER NOT NULL, doubt INTEGER NOT NULL, PRIMARY KEY(id, action)) WITHOUT ROWID;
  CREATE INDEX queue_ended_by_time ON queue_ended(at);
  CREATE INDEX queue_doubts ON queue_ended(at) WHERE doubt != 0;
  CREATE TABLE queue_book(one INTEGER PRIMARY KEY CHECK(one = 1), id TEXT NOT NULL);
  INSERT INTO queue_book VALUES(1, lower(hex(randomblob(8))));
)"},
// Messages of before step 2 know no hops, but a broker published them: without that word the store would count their acceptance once more.
{3, R"(
  UPDATE queue_messages SET hops = 'broker>amqp@0' WHERE hops = '';
  UPDATE queue_dead SET hops = 'broker>amqp@0' WHERE hops = '';
)"},
// Attempts in which nobody took the message, out of `attempts`.
{4, R"(ALTER TABLE queue_messages ADD COLUMN untaken INTEGER NOT NULL DEFAULT 0)"}};

#define FLEXI_QUEUE_COLUMNS "seq, id, action, payload, accepted_at, expires_at, attempts, deliveries, traceparent, caller, id_from_caller, hops, untaken"

Message read_message(const Statement& row) {
  Message m;
  m.seq = row.integer(0), m.id = row.text(1), m.action = row.text(2), m.payload = row.text(3);
  m.accepted_at = row.integer(4), m.expires_at = row.integer(5), m.attempts = row.integer(6), m.deliveries = row.integer(7);
  m.traceparent = row.text(8), m.caller = row.text(9), m.id_from_caller = row.integer(10) != 0, m.hops = row.text(11), m.untaken = row.integer(12);
  return m;
}

std::int64_t size_of(const Message& m) { return static_cast<std::int64_t>(m.payload.size()); }

}  // namespace

std::span<const runtime::sqlite::Migration> QueueTable::migrations() { return kMigrations; }

LedgerLine& QueueTable::line(std::string_view action) {
  auto it = deltas_.find(action);
  return it != deltas_.end() ? it->second : deltas_.emplace(std::string(action), LedgerLine{}).first->second;
}

Result<void> QueueTable::load(Connection& c) {
  auto row = c.use("SELECT max(coalesce((SELECT max(seq) FROM queue_ids), 0), coalesce((SELECT max(seq) FROM queue_messages), 0), "
                   "coalesce((SELECT max(seq) FROM queue_dead), 0))");
  FLEXI_TRY(row.step());
  next_seq_ = row.integer(0) + 1;
  return core::ok();
}

Result<void> QueueTable::flush(Connection& c) {
  for (auto& [action, d] : deltas_) {
    auto add = c.use("INSERT INTO queue_ledger VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT(action) DO UPDATE SET "
                     "accepted = accepted + ?2, stored = stored + ?3, dead_lettered = dead_lettered + ?4, discarded = discarded + ?5, "
                     "expired = expired + ?6, in_flight = in_flight + ?7, duplicates = duplicates + ?8, redelivered = redelivered + ?9, bytes = bytes + ?10");
    add.bind(1, std::string_view(action)).bind(2, d.accepted).bind(3, d.stored).bind(4, d.dead_lettered).bind(5, d.discarded);
    add.bind(6, d.expired).bind(7, d.in_flight).bind(8, d.duplicates).bind(9, d.redelivered).bind(10, d.bytes);
    FLEXI_TRY(add.run());
  }
  deltas_.clear();
  return core::ok();
}

Result<Inserted> QueueTable::insert(Connection& c, Message& m, std::int64_t digest) {
  {
    auto id = c.use("INSERT INTO queue_ids VALUES(?1, ?2, ?3, ?4, ?5) ON CONFLICT(id, action) DO NOTHING");
    id.bind(1, next_seq_).bind(2, std::string_view(m.id)).bind(3, std::string_view(m.action)).bind(4, digest).bind(5, m.accepted_at);
    FLEXI_TRY(id.run());
  }
  auto& account = line(m.action);
  if (c.changes() == 0) {
    auto known = c.use("SELECT seq, digest, EXISTS(SELECT 1 FROM queue_messages m WHERE m.seq = i.seq), "
                       "EXISTS(SELECT 1 FROM queue_dead d WHERE d.seq = i.seq) FROM queue_ids i WHERE id = ?1 AND action = ?2");
    known.bind(1, std::string_view(m.id)).bind(2, std::string_view(m.action));
    FLEXI_TRY(known.step());
    if (known.integer(1) != digest) return Inserted::conflict;
    if (known.integer(3)) return Inserted::dead;
    m.seq = known.integer(0);
    account.duplicates += 1;
    if (known.integer(2)) {
      // The longest of all callers' deadlines holds; once one was answered `accepted` there is none.
      auto longer = c.use("UPDATE queue_messages SET expires_at = CASE WHEN ?2 = 0 THEN 0 ELSE max(expires_at, ?2) END WHERE seq = ?1 AND expires_at != 0");
      longer.bind(1, m.seq).bind(2, m.expires_at);
      FLEXI_TRY(longer.run());
    }
    return known.integer(2) ? Inserted::pending : Inserted::finished;
  }
  m.seq = next_seq_++;
  auto row = c.use("INSERT INTO queue_messages VALUES(?1, ?2, ?3, ?4, ?5, ?6, 0, 0, 0, ?7, ?8, ?9, ?10, 0)");
  row.bind(1, m.seq).bind(2, std::string_view(m.id)).bind(3, std::string_view(m.action)).bind(4, std::string_view(m.payload));
  row.bind(5, m.accepted_at).bind(6, m.expires_at).bind(7, std::string_view(m.traceparent)).bind(8, std::string_view(m.caller));
  row.bind(9, std::int64_t{m.id_from_caller}).bind(10, std::string_view(m.hops));
  FLEXI_TRY(row.run());
  account.accepted += 1, account.in_flight += 1, account.bytes += size_of(m);
  return Inserted::queued;
}

Result<Fetched> QueueTable::fetch(Connection& c, const FetchRequest& request) {
  Fetched fetched;
  fetched.cursor = request.cursor;
  FLEXI_TRY(take_due(c, request, fetched));
  FLEXI_TRY(take_new(c, request, fetched));
  if (fetched.cursor != request.cursor) {
    auto mark = c.use("UPDATE queue_mark SET fetched_to = max(fetched_to, ?1)");
    mark.bind(1, fetched.cursor);
    FLEXI_TRY(mark.run());
  }
  auto next = c.use("SELECT min(due_at) FROM queue_messages WHERE due_at > ?1 AND due_at < ?2");
  next.bind(1, request.now).bind(2, kBeingHandled);
  FLEXI_TRY(next.step());
  if (!next.is_null(0)) fetched.next_due = next.integer(0);
  return fetched;
}

Result<void> QueueTable::take_due(Connection& c, const FetchRequest& request, Fetched& fetched) {
  std::vector<Message> due;
  {
    // Beyond the limit by as many as may be suspects that have to wait for another suspect.
    auto rows = c.use("SELECT " FLEXI_QUEUE_COLUMNS " FROM queue_messages WHERE due_at > 0 AND due_at <= ?1 ORDER BY due_at LIMIT ?2");
    rows.bind(1, request.now).bind(2, request.limit + options_.prefetch);
    for (;;) {
      FLEXI_TRY(auto found, rows.step());
      if (!found) break;
      due.push_back(read_message(rows));
    }
  }
  bool isolated = request.isolated_in_flight;
  for (auto& m : due) {
    if (m.expires_at && m.expires_at <= request.now) {
      FLEXI_TRY(expire(c, m, request.now));
      fetched.expired.push_back(std::move(m));
      continue;
    }
    if (m.deliveries >= options_.delivery_limit) {
      const auto reason = "internal: the process died " + std::to_string(m.deliveries) + " times while it handled this message";
      FLEXI_TRY(bury(c, m, m.attempts + m.deliveries, reason, request.now));
      fetched.poison.push_back(std::move(m));
      continue;
    }
    if (static_cast<std::int64_t>(fetched.messages.size()) >= request.limit) {
      fetched.more = true;
      break;
    }
    if (m.deliveries >= kIsolateFrom) {
      if (isolated) continue;
      isolated = m.isolated = true;
    }
    // Counted before it is handed out, and taken back when the attempt ends while the process lives.
    auto mark = c.use("UPDATE queue_messages SET due_at = ?2, deliveries = deliveries + 1 WHERE seq = ?1");
    mark.bind(1, m.seq).bind(2, kBeingHandled);
    FLEXI_TRY(mark.run());
    line(m.action).redelivered += 1;
    fetched.messages.push_back(std::move(m));
  }
  return core::ok();
}

Result<void> QueueTable::take_new(Connection& c, const FetchRequest& request, Fetched& fetched) {
  const auto room = request.limit - static_cast<std::int64_t>(fetched.messages.size());
  if (room <= 0) {
    fetched.more = true;
    return core::ok();
  }
  std::vector<Message> expired;
  std::int64_t seen = 0;
  {
    auto rows = c.use("SELECT " FLEXI_QUEUE_COLUMNS " FROM queue_messages WHERE seq > ?1 AND due_at = 0 ORDER BY seq LIMIT ?2");
    rows.bind(1, request.cursor).bind(2, room);
    for (;;) {
      FLEXI_TRY(auto found, rows.step());
      if (!found) break;
      ++seen;
      auto m = read_message(rows);
      fetched.cursor = m.seq;
      const bool late = m.expires_at && m.expires_at <= request.now;
      (late ? expired : fetched.messages).push_back(std::move(m));
    }
  }
  if (seen == room) fetched.more = true;
  for (auto& m : expired) {
    FLEXI_TRY(expire(c, m, request.now));
    fetched.expired.push_back(std::move(m));
  }
  return core::ok();
}

Result<bool> QueueTable::remove(Connection& c, const Message& m) {
  auto row = c.use("DELETE FROM queue_messages WHERE seq = ?1");
  row.bind(1, m.seq);
  FLEXI_TRY(row.run());
  if (c.changes() == 0) return false;
  auto& account = line(m.action);
  account.in_flight -= 1, account.bytes -= size_of(m);
  return true;
}

Result<void> QueueTable::end(Connection& c, const Message& m, core::Receipt::State state, std::string_view reason, bool doubt, std::int64_t now) {
  auto row = c.use("INSERT OR REPLACE INTO queue_ended VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");
  row.bind(1, std::string_view(m.id)).bind(2, std::string_view(m.action)).bind(3, core::to_string(state)).bind(4, reason);
  row.bind(5, m.accepted_at).bind(6, m.attempts).bind(7, now).bind(8, std::int64_t{doubt});
  return row.run();
}

/// The caller was told that it failed, so the same id may come again.
Result<void> QueueTable::expire(Connection& c, const Message& m, std::int64_t now) {
  FLEXI_TRY(auto removed, remove(c, m));
  if (!removed) return core::ok();
  auto id = c.use("DELETE FROM queue_ids WHERE seq = ?1");
  id.bind(1, m.seq);
  FLEXI_TRY(id.run());
  line(m.action).expired += 1;
  return end(c, m, core::Receipt::State::expired, "its caller's deadline passed first", m.attempts + m.deliveries > 0, now);
}

Result<bool> QueueTable::bury(Connection& c, const Message& m, std::int64_t attempts, std::string_view reason, std::int64_t now) {
  {
    auto row = c.use("INSERT INTO queue_dead SELECT seq, id, action, payload, accepted_at, ?2, traceparent, caller, id_from_caller, ?3, ?4, hops "
                     "FROM queue_messages WHERE seq = ?1");
    row.bind(1, m.seq).bind(2, attempts).bind(3, reason).bind(4, now);
    FLEXI_TRY(row.run());
  }
  FLEXI_TRY(auto removed, remove(c, m));
  if (!removed) return false;
  auto& account = line(m.action);
  account.dead_lettered += 1, account.bytes += size_of(m);
  return true;
}

Result<bool> QueueTable::settle(Connection& c, const Message& m, Settlement& how, std::int64_t now) {
  using Kind = Settlement::Kind;
  auto kind = how.kind;
  if (kind == Kind::refused) {
    auto row = c.use("SELECT 1 FROM queue_messages WHERE seq = ?1 AND expires_at = 0");
    row.bind(1, m.seq);
    FLEXI_TRY(auto accepted, row.step());
    if (accepted) kind = how.if_accepted;
    how.became = kind;
  }
  switch (kind) {
    case Kind::released: return true;
    case Kind::dead: return bury(c, m, m.attempts + 1, how.reason, now);
    case Kind::retry: {
      auto row = c.use("UPDATE queue_messages SET due_at = ?2, attempts = attempts + 1, untaken = ?3, deliveries = 0 WHERE seq = ?1");
      row.bind(1, m.seq).bind(2, std::max<std::int64_t>(how.due_at, 1)).bind(3, m.untaken);
      FLEXI_TRY(row.run());
      return c.changes() > 0;
    }
    case Kind::stored:
    case Kind::refused: break;
  }
  FLEXI_TRY(auto removed, remove(c, m));
  if (!removed) return false;
  if (kind == Kind::refused) {
    auto id = c.use("DELETE FROM queue_ids WHERE seq = ?1");
    id.bind(1, m.seq);
    FLEXI_TRY(id.run());
    line(m.action).discarded += 1;
    FLEXI_TRY(end(c, m, core::Receipt::State::discarded, how.reason, how.maybe_stored, now));
    return true;
  }
  line(m.action).stored += 1;
  // kept_since was accepted_at, which is near enough unless the message took long.
  if (now - m.accepted_at > options_.keep_ids.count() * 1000 / 24) {
    auto id = c.use("UPDATE queue_ids SET kept_since = ?2 WHERE seq = ?1");
    id.bind(1, m.seq).bind(2, now);
    FLEXI_TRY(id.run());
  }
  return true;
}

Result<void> QueueTable::recover(Connection& c, std::int64_t now) {
  {
    auto handled = c.use("UPDATE queue_messages SET deliveries = deliveries + 1, due_at = ?1 + deliveries "
                         "WHERE due_at = 0 AND seq <= (SELECT fetched_to FROM queue_mark)");
    handled.bind(1, now);
    FLEXI_TRY(handled.run());
  }
  {
    // By deliveries: those that met one death go before those that met many.
    auto handled = c.use("UPDATE queue_messages SET due_at = ?1 + deliveries WHERE due_at = ?2");
    handled.bind(1, now).bind(2, kBeingHandled);
    FLEXI_TRY(handled.run());
  }
  return c.use("UPDATE queue_mark SET fetched_to = 0").run();
}

Result<void> QueueTable::release_all(Connection& c, std::int64_t now) {
  {
    auto handled = c.use("UPDATE queue_messages SET due_at = ?1, deliveries = deliveries - 1 WHERE due_at = ?2");
    handled.bind(1, now).bind(2, kBeingHandled);
    FLEXI_TRY(handled.run());
  }
  return c.use("UPDATE queue_mark SET fetched_to = 0").run();
}

#undef FLEXI_QUEUE_COLUMNS

}  // namespace flexi::transports::queue
