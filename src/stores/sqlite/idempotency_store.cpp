// SPDX-License-Identifier: Apache-2.0
#include "stores/sqlite/idempotency_store.hpp"

#include "core/timestamp.hpp"

namespace flexi::stores::sqlite {

using core::PayloadDigest;
using core::Result;
using core::Seen;
using runtime::sqlite::Connection;

namespace {

constexpr runtime::sqlite::Migration kMigrations[] = {
    {1,
     "CREATE TABLE idempotency_keys("
     "  action TEXT NOT NULL, id TEXT NOT NULL, digest BLOB NOT NULL, seen_at INTEGER NOT NULL,"
     "  PRIMARY KEY(action, id)) WITHOUT ROWID;"
     "CREATE INDEX idempotency_keys_by_age ON idempotency_keys(seen_at);"}};

std::string_view bytes_of(const PayloadDigest& digest) { return {reinterpret_cast<const char*>(digest.bytes.data()), digest.bytes.size()}; }

Result<Seen> remember_in(Connection& connection, std::string_view action, std::string_view id, std::string_view digest, std::int64_t now,
                         std::int64_t oldest_kept) {
  // A key past its time that nobody has purged yet is free: it is taken over as if it were not there.
  auto insert = connection.use(
      "INSERT INTO idempotency_keys(action, id, digest, seen_at) VALUES(?1, ?2, ?3, ?4)"
      " ON CONFLICT DO UPDATE SET digest = excluded.digest, seen_at = excluded.seen_at WHERE seen_at < ?5");
  insert.bind(1, action).bind(2, id).bind_blob(3, digest).bind(4, now).bind(5, oldest_kept);
  FLEXI_TRY(insert.run());
  if (connection.changes() == 1) return Seen::first;
  auto select = connection.use("SELECT digest FROM idempotency_keys WHERE action = ?1 AND id = ?2");
  FLEXI_TRY(auto found, select.bind(1, action).bind(2, id).step());
  if (!found) return core::internal("internal error", "an idempotency key is neither there nor could it be inserted");
  if (select.text_view(0) == digest) return Seen::again;
  return core::conflict("this id was used before with another payload");
}

}  // namespace

void IdempotencyStoreOptions::describe(runtime::OptionVisitor& v) {
  v.field("ttl", ttl, "How long an idempotency key is remembered; the same key with another payload is a conflict until then");
}

runtime::Problems IdempotencyStoreOptions::validate() const {
  if (ttl >= std::chrono::minutes(1)) return {};
  return {{"ttl", "must be at least 1m"}};
}

Result<std::unique_ptr<SqliteIdempotencyStore>> SqliteIdempotencyStore::open(runtime::sqlite::Database& database, IdempotencyStoreOptions options,
                                                                            Now now) {
  FLEXI_TRY(database.migrate("idempotency", kMigrations));
  return std::unique_ptr<SqliteIdempotencyStore>(new SqliteIdempotencyStore(database, options, std::move(now)));
}

std::int64_t SqliteIdempotencyStore::oldest_kept() const { return core::to_unix_micros(now_() - options_.ttl); }

core::awaitable<Result<Seen>> SqliteIdempotencyStore::remember(std::string action, core::MessageId id, PayloadDigest digest,
                                                               core::CallContext context) {
  auto job = [action = std::move(action), id = std::move(id), digest, now = core::to_unix_micros(now_()), oldest = oldest_kept()](Connection& c) {
    return remember_in(c, action, id.str(), bytes_of(digest), now, oldest);
  };
  auto seen = co_await database_.write(runtime::sqlite::Atomicity::single_statement, std::move(job), std::move(context));
  // A key that may have been noted has not sent the request itself anywhere.
  if (!seen) seen.error().sent = core::Sent::no;
  co_return seen;
}

bool SqliteIdempotencyStore::purge_some(Connection& connection) {
  static constexpr std::int64_t kAtOnce = 500;
  auto purge = connection.use(
      "DELETE FROM idempotency_keys WHERE (action, id) IN"
      " (SELECT action, id FROM idempotency_keys WHERE seen_at < ?1 ORDER BY seen_at LIMIT ?2)");
  if (!purge.bind(1, oldest_kept()).bind(2, kAtOnce).run()) return false;
  return connection.changes() == kAtOnce;
}

}  // namespace flexi::stores::sqlite
