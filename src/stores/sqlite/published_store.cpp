// SPDX-License-Identifier: Apache-2.0
#include "stores/sqlite/published_store.hpp"

#include "core/timestamp.hpp"

namespace flexi::stores::sqlite {

using core::awaitable, core::CallContext, core::MessageId, core::Noted, core::Published, core::PublishedCount, core::Result, core::Timestamp;
using runtime::sqlite::Atomicity, runtime::sqlite::Connection, runtime::sqlite::Statement;

namespace {

// Nearly all rows are under way and gone within seconds: only the others have an index of their own.
constexpr runtime::sqlite::Migration kMigrations[] = {
    {1,
     "CREATE TABLE published(seq INTEGER PRIMARY KEY, action TEXT NOT NULL, id TEXT NOT NULL, accepted_at INTEGER NOT NULL, "
     "noted_at INTEGER NOT NULL, state INTEGER NOT NULL, UNIQUE(id, action));"
     "CREATE INDEX published_apart ON published(state, seq) WHERE state > 0;"}};

#define FLEXI_PUBLISHED_COLUMNS "SELECT seq, action, id, accepted_at, noted_at, state FROM published "

std::int64_t number_of(Published::State state) {
  switch (state) {
    case Published::State::under_way: return 0;
    case Published::State::dead: return 1;
    case Published::State::gone: return 2;
  }
  return 0;
}

Published::State state_of(std::int64_t number) {
  return number == 1 ? Published::State::dead : number == 2 ? Published::State::gone : Published::State::under_way;
}

Result<std::vector<Published>> read_all(Statement& rows) {
  std::vector<Published> all;
  for (;;) {
    FLEXI_TRY(auto found, rows.step());
    if (!found) return all;
    Published message{.action = rows.text(1), .id = {}, .state = state_of(rows.integer(5)), .seq = rows.integer(0)};
    FLEXI_TRY(message.id, MessageId::parse(rows.text_view(2)));
    message.accepted_at = core::from_unix_micros(rows.integer(3)), message.noted_at = core::from_unix_micros(rows.integer(4));
    all.push_back(std::move(message));
  }
}

Result<Noted> note_in(Connection& connection, const Published& message) {
  auto insert = connection.use("INSERT INTO published VALUES(NULL, ?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING");
  insert.bind(1, std::string_view(message.action)).bind(2, message.id.str());
  insert.bind(3, core::to_unix_micros(message.accepted_at)).bind(4, core::to_unix_micros(message.noted_at));
  FLEXI_TRY(insert.bind(5, number_of(message.state)).run());
  return connection.changes() == 1 ? Noted::added : Noted::known;
}

/// A state is a literal, or the index of those apart would not serve.
std::string_view listing_of(std::optional<Published::State> state) {
#define FLEXI_LISTING(condition) FLEXI_PUBLISHED_COLUMNS "WHERE " condition " AND seq > ?1 AND noted_at < ?2 ORDER BY seq LIMIT ?3"
  if (!state) return FLEXI_LISTING("true");
  switch (*state) {
    case Published::State::under_way: return FLEXI_LISTING("state = 0");
    case Published::State::dead: return FLEXI_LISTING("state = 1");
    case Published::State::gone: return FLEXI_LISTING("state = 2");
  }
#undef FLEXI_LISTING
  return {};
}

Result<std::int64_t> count_all(Connection& connection) {
  auto row = connection.use("SELECT count(*) FROM published");
  FLEXI_TRY(row.step());
  return row.integer(0);
}

}  // namespace

void PublishedStoreOptions::describe(runtime::OptionVisitor& v) {
  v.field("max_messages", max_messages,
          "Messages that are followed on their way through RabbitMQ; receipts and the ledger don't see what waits there beyond them");
}

runtime::Problems PublishedStoreOptions::validate() const {
  if (max_messages >= 0 && max_messages <= 1'000'000'000) return {};
  return {{"max_messages", "must be 0 to 1000000000"}};
}

Result<std::unique_ptr<SqlitePublishedStore>> SqlitePublishedStore::open(runtime::sqlite::Database& database, PublishedStoreOptions options,
                                                                         runtime::sqlite::LedgerBook& book) {
  FLEXI_TRY(database.migrate("published", kMigrations));
  std::int64_t held = 0;
  FLEXI_TRY(database.write_now([&held](Connection& connection) -> Result<void> {
    FLEXI_TRY(held, count_all(connection));
    return core::ok();
  }));
  return std::unique_ptr<SqlitePublishedStore>(new SqlitePublishedStore(database, options, book, held));
}

awaitable<Result<Noted>> SqlitePublishedStore::note(Published message, CallContext context) {
  if (held_.load(std::memory_order_relaxed) >= options_.max_messages) co_return Noted::full;
  auto job = [message = std::move(message)](Connection& connection) { return note_in(connection, message); };
  auto noted = co_await database_.write(Atomicity::single_statement, std::move(job), std::move(context));
  if (noted && noted.value() == Noted::added) held_.fetch_add(1, std::memory_order_relaxed);
  co_return noted;
}

awaitable<Result<std::vector<Published>>> SqlitePublishedStore::list(core::PublishedQuery query, CallContext context) {
  auto job = [query](Connection& connection) {
    auto rows = connection.use(listing_of(query.state));
    rows.bind(1, query.after).bind(2, core::to_unix_micros(query.before)).bind(3, std::int64_t{query.limit});
    return read_all(rows);
  };
  co_return co_await database_.read(std::move(job), std::move(context));
}

awaitable<Result<std::vector<Published>>> SqlitePublishedStore::find(MessageId id, CallContext context) {
  auto job = [id = std::move(id)](Connection& connection) {
    auto rows = connection.use(FLEXI_PUBLISHED_COLUMNS "WHERE id = ?1 ORDER BY seq");
    rows.bind(1, id.str());
    return read_all(rows);
  };
  co_return co_await database_.read(std::move(job), std::move(context));
}

awaitable<Result<void>> SqlitePublishedStore::forget(std::string action, std::vector<MessageId> ids, CallContext context) {
  return remove(std::move(action), std::move(ids), nullptr, std::move(context));
}

awaitable<Result<void>> SqlitePublishedStore::discard(std::string action, std::vector<MessageId> ids, CallContext context) {
  return remove(std::move(action), std::move(ids), &book_, std::move(context));
}

awaitable<Result<void>> SqlitePublishedStore::remove(std::string action, std::vector<MessageId> ids, runtime::sqlite::LedgerBook* book,
                                                     CallContext context) {
  if (ids.empty()) co_return core::ok();
  auto job = [action = std::move(action), ids = std::move(ids), book](Connection& connection) -> Result<std::int64_t> {
    std::int64_t removed = 0;
    {
      auto row = connection.use("DELETE FROM published WHERE id = ?1 AND action = ?2");
      for (auto& id : ids) {
        FLEXI_TRY(row.bind(1, id.str()).bind(2, std::string_view(action)).run());
        removed += connection.changes();
        row.reset();
      }
    }
    const std::string way(core::to_string(core::Via::amqp));
    if (book && removed > 0) book->count({.action = action, .way = way, .accepted = removed, .discarded = removed});
    return removed;
  };
  auto removed = co_await database_.write(Atomicity::many_statements, std::move(job), std::move(context));
  if (!removed) co_return removed.error();
  held_.fetch_sub(removed.value(), std::memory_order_relaxed);
  co_return core::ok();
}

awaitable<Result<void>> SqlitePublishedStore::mark(std::string action, std::vector<MessageId> ids, Published::State state, Timestamp now,
                                                   CallContext context) {
  if (ids.empty()) co_return core::ok();
  const auto at = core::to_unix_micros(now);
  auto job = [action = std::move(action), ids = std::move(ids), to = number_of(state), at](Connection& connection) -> Result<bool> {
    auto row = connection.use("UPDATE published SET state = ?3, noted_at = ?4 WHERE id = ?1 AND action = ?2 AND state <> ?3");
    for (auto& id : ids) {
      FLEXI_TRY(row.bind(1, id.str()).bind(2, std::string_view(action)).bind(3, to).bind(4, at).run());
      row.reset();
    }
    return true;
  };
  auto marked = co_await database_.write(Atomicity::many_statements, std::move(job), std::move(context));
  if (!marked) co_return marked.error();
  co_return core::ok();
}

awaitable<Result<std::vector<PublishedCount>>> SqlitePublishedStore::count(Timestamp old_before, CallContext context) {
  auto job = [before = core::to_unix_micros(old_before)](Connection& connection) -> Result<std::vector<PublishedCount>> {
    auto rows = connection.use("SELECT action, sum(state = 0), sum(state = 1), sum(state = 2), sum(state = 0 AND noted_at < ?1) "
                               "FROM published GROUP BY action");
    rows.bind(1, before);
    std::vector<PublishedCount> all;
    for (;;) {
      FLEXI_TRY(auto found, rows.step());
      if (!found) return all;
      core::PublishedCount count{.action = rows.text(0)};
      count.under_way = rows.integer(1), count.dead = rows.integer(2), count.gone = rows.integer(3), count.old = rows.integer(4);
      all.push_back(std::move(count));
    }
  };
  co_return co_await database_.read(std::move(job), std::move(context));
}

#undef FLEXI_PUBLISHED_COLUMNS

}  // namespace flexi::stores::sqlite
