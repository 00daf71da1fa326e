// SPDX-License-Identifier: Apache-2.0
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "core/random.hpp"
#include "runtime/postgres/migrator.hpp"

namespace flexi::runtime::postgres {

namespace asio = boost::asio;
using core::Result;
using std::chrono::milliseconds, std::chrono::seconds;

namespace {

// Advisory locks of this program's: any numbers that no other program is likely to use.
constexpr std::int64_t kMigrating = 0x666c657869'01, kIndexing = 0x666c657869'02;
constexpr milliseconds kPatience = seconds(60);

std::string quoted(const std::string& text) {
  std::string out = "'";
  for (char c : text) out.append(c == '\'' ? 2 : 1, c);
  return out + "'";
}

core::awaitable<void> pause(milliseconds about) {
  std::array<std::uint8_t, 1> random;
  core::fill_random(random);
  asio::steady_timer timer(co_await asio::this_coro::executor, about / 2 + about * random[0] / 512);
  co_await timer.async_wait(asio::use_awaitable);
}

core::awaitable<Result<bool>> try_lock(PlainConnection& connection, std::int64_t key) {
  auto got = co_await connection.ask("SELECT pg_try_advisory_lock($1::bigint)", {number(key)}, kPatience);
  if (!got) co_return got.error();
  co_return got.value().integer(0, 0) != 0;
}

/// The highest recorded version of each component.
core::awaitable<Result<std::map<std::string, std::int64_t>>> recorded(PlainConnection& connection) {
  std::map<std::string, std::int64_t> versions;
  auto there = co_await connection.ask("SELECT to_regclass('public.flexi_migrations') IS NOT NULL", {}, kPatience);
  if (!there) co_return there.error();
  if (there.value().integer(0, 0) == 0) co_return versions;
  auto rows = co_await connection.ask("SELECT component, max(version) FROM public.flexi_migrations GROUP BY component", {}, kPatience);
  if (!rows) co_return rows.error();
  for (int i = 0; i < rows.value().size(); ++i) versions[std::string(rows.value().text(i, 0))] = rows.value().integer(i, 1);
  co_return versions;
}

bool lacks_any(const std::vector<Schema>& schemas, const std::map<std::string, std::int64_t>& versions) {
  for (auto& schema : schemas) {
    const auto it = versions.find(schema.component);
    if (!schema.steps.empty() && schema.steps.back().version > (it == versions.end() ? 0 : it->second)) return true;
  }
  return false;
}

core::awaitable<Result<void>> apply(PlainConnection& connection, std::string component, Migration step) {
  const auto record =
      "INSERT INTO public.flexi_migrations(component, version) VALUES (" + quoted(component) + ", " + std::to_string(step.version) + ")";
  auto applied = co_await connection.run("BEGIN; " + std::string(step.sql) + "; " + record + "; COMMIT", kPatience);
  if (!applied) co_return applied.error();
  co_return core::ok();
}

core::awaitable<Result<void>> apply_lacking(PlainConnection& connection, const std::vector<Schema>& schemas, LogSink& log) {
  // As the lock is ours now: another process may have been quicker.
  auto versions = co_await recorded(connection);
  if (!versions) co_return versions.error();
  if (!lacks_any(schemas, versions.value())) co_return core::ok();
  auto table = co_await connection.run("CREATE TABLE IF NOT EXISTS public.flexi_migrations(component text NOT NULL, version integer NOT NULL, "
                                       "applied_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (component, version))", kPatience);
  if (!table) co_return table.error();
  for (auto& schema : schemas)
    for (auto& step : schema.steps) {
      if (step.version <= versions.value()[schema.component]) continue;
      auto applied = co_await apply(connection, schema.component, step);
      if (!applied) co_return applied.error();
      log.info("database migrated", {{"component", schema.component}, {"version", step.version}});
    }
  co_return core::ok();
}

/// What a stranger may read on /readyz is the same for every reason; the log has PostgreSQL's words.
core::Error in_words(core::Error error) {
  if (error.kind == core::ErrorKind::unavailable) return error;
  return core::unavailable("the database's tables can't be made or used: see the log", error.message + ": " + error.detail);
}

/// Whether the index is there: 'v' valid, 'i' invalid, '-' not at all.
core::awaitable<Result<char>> state_of(PlainConnection& connection, std::string name) {
  auto rows = co_await connection.ask("SELECT i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relname = $1::text AND "
                                      "c.relnamespace = 'public'::regnamespace", {text(name)}, kPatience);
  if (!rows) co_return rows.error();
  if (rows.value().size() == 0) co_return '-';
  co_return rows.value().integer(0, 0) ? 'v' : 'i';
}

core::awaitable<Result<void>> make(PlainConnection& connection, ConcurrentIndex index, LogSink& log) {
  for (;;) {
    auto state = co_await state_of(connection, index.name);
    if (!state) co_return state.error();
    if (state.value() == 'v') co_return core::ok();
    // Waiting for the lock would be a transaction, which the other's CREATE INDEX waits for: it is only ever tried.
    auto locked = co_await try_lock(connection, kIndexing);
    if (!locked) co_return locked.error();
    if (locked.value()) break;
    co_await pause(seconds(1));
  }
  auto made = co_await state_of(connection, index.name);
  if (made && made.value() == 'i') {
    log.info("an index whose making broke off is made again", {{"index", index.name}});
    auto dropped = co_await connection.run("DROP INDEX CONCURRENTLY IF EXISTS public." + index.name, PlainConnection::kForever);
    if (dropped) made = '-';
    else made = dropped.error();
  }
  core::Result<void> result = core::ok();
  if (made && made.value() == '-') {
    auto created = co_await connection.run("CREATE INDEX CONCURRENTLY IF NOT EXISTS " + index.name + " ON " + index.on, PlainConnection::kForever);
    if (!created) result = created.error();
    else log.info("index made", {{"index", index.name}});
  } else if (!made) {
    result = made.error();
  }
  (void)co_await connection.ask("SELECT pg_advisory_unlock($1::bigint)", {number(kIndexing)}, kPatience);
  co_return result;
}

bool is_lost(const core::Error& error) { return error.message == "the connection to the database was lost"; }

}  // namespace

core::awaitable<Result<void>> migrate(PlainConnection& connection, const std::vector<Schema>& schemas, LogSink& log) {
  auto versions = co_await recorded(connection);
  if (!versions) co_return in_words(versions.error());
  if (lacks_any(schemas, versions.value())) {
    for (;;) {
      auto locked = co_await try_lock(connection, kMigrating);
      if (!locked) co_return in_words(locked.error());
      if (locked.value()) break;
      co_await pause(milliseconds(100));
    }
    auto applied = co_await apply_lacking(connection, schemas, log);
    if (!applied) co_return in_words(applied.error());  // and the lock ends with the connection
    (void)co_await connection.ask("SELECT pg_advisory_unlock($1::bigint)", {number(kMigrating)}, kPatience);
  }
  for (auto& schema : schemas) {
    if (schema.check.empty()) continue;
    auto checked = co_await connection.run(schema.check, kPatience);
    if (!checked) co_return in_words(checked.error());
  }
  co_return core::ok();
}

core::awaitable<Result<void>> finish_schemas(PlainConnection& connection, const std::vector<Schema>& schemas, LogSink& log) {
  if (auto set = co_await connection.run("SET statement_timeout = 0", kPatience); !set) co_return set.error();
  for (auto& schema : schemas) {
    for (auto& index : schema.indexes) {
      auto made = co_await make(connection, index, log);
      if (made) continue;
      if (is_lost(made.error())) co_return made.error();
      log.warning("an index can't be made: look-ups read the whole table",
                  {{"index", index.name}, {"on", index.on}, {"detail", made.error().detail}});
    }
    for (auto& notice : schema.notices) {
      auto rows = co_await connection.ask(notice.sql, {}, PlainConnection::kForever);
      if (rows) notice.tell(rows.value(), log);
      else if (is_lost(rows.error())) co_return rows.error();
    }
  }
  co_return core::ok();
}

}  // namespace flexi::runtime::postgres
