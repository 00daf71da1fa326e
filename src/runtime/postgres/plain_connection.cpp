// SPDX-License-Identifier: Apache-2.0
#include "runtime/postgres/plain_connection.hpp"

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "runtime/postgres/errors.hpp"

namespace flexi::runtime::postgres {

namespace asio = boost::asio;
using namespace asio::experimental::awaitable_operators;
using Clock = std::chrono::steady_clock;

namespace {

/// One address to try.
struct Target {
  Conninfo::Host host;
  std::string session;  ///< target_session_attrs; empty: any
};

enum class Waited { ready, late, cancelled };

/// Until the socket is readable (or writable, where that is wanted).
core::awaitable<Waited> wait_for(asio::any_io_executor executor, int socket, asio::posix::descriptor_base::wait_type type, Clock::time_point until) {
  if (socket < 0) co_return Waited::ready;  // libpq will say what is wrong
  // The socket is libpq's, and may be another at the next turn: it is only lent.
  asio::posix::stream_descriptor descriptor(executor);
  boost::system::error_code ec, late;
  descriptor.assign(socket, ec);
  if (ec) co_return Waited::ready;
  asio::steady_timer timer(executor, until);
  auto first = co_await (descriptor.async_wait(type, asio::redirect_error(asio::use_awaitable, ec)) ||
                         timer.async_wait(asio::redirect_error(asio::use_awaitable, late)));
  descriptor.release();
  if (first.index() == 1) co_return late ? Waited::cancelled : Waited::late;
  co_return ec == asio::error::operation_aborted ? Waited::cancelled : Waited::ready;
}

core::awaitable<std::vector<Target>> targets_of(asio::any_io_executor executor, Conninfo info) {
  std::vector<Conninfo::Host> found;
  for (auto& host : info.hosts) {
    if (!host.wants_resolving()) {
      found.push_back(host);
      continue;
    }
    asio::ip::tcp::resolver resolver(executor);
    boost::system::error_code ec;
    auto results = co_await resolver.async_resolve(host.name, "", asio::redirect_error(asio::use_awaitable, ec));
    if (ec) continue;
    for (auto& each : results) found.push_back({host.name, each.endpoint().address().to_string(), host.port});
  }
  auto session = info.values["target_session_attrs"];
  std::vector<Target> targets;
  // libpq goes through its list of hosts twice for that one; ours has a single host each time.
  if (session == "prefer-standby") {
    for (auto& host : found) targets.push_back({host, "standby"});
    session = "any";
  }
  for (auto& host : found) targets.push_back({host, session});
  co_return targets;
}

ConnectionPtr begin(Conninfo::Values values, const Target& target) {
  auto set = [&](const char* key, const std::string& value) {
    if (value.empty()) values.erase(key);
    else values[key] = value;
  };
  set("host", target.host.name);
  set("hostaddr", target.host.address);
  set("port", target.host.port);
  set("target_session_attrs", target.session);
  values["client_encoding"] = "UTF8";
  values.try_emplace("fallback_application_name", "flexiconnect");
  // Looking for a Kerberos ticket may block, and nobody asked for one.
  values.try_emplace("gssencmode", "disable");
  values.try_emplace("keepalives_idle", "15");
  values.try_emplace("keepalives_interval", "5");
  values.try_emplace("keepalives_count", "3");
  std::vector<const char*> keys, texts;
  for (auto& [key, value] : values) keys.push_back(key.c_str()), texts.push_back(value.c_str());
  keys.push_back(nullptr), texts.push_back(nullptr);
  ConnectionPtr connection(PQconnectStartParams(keys.data(), texts.data(), 0));
  if (!connection) return connection;
  // Only so is the SQLSTATE of a refusal known: libpq 15 gives nothing but words.
  PQsetErrorVerbosity(connection.get(), PQERRORS_VERBOSE);
  PQsetNoticeProcessor(connection.get(), [](void*, const char*) {}, nullptr);
  return connection;
}

std::string cut_at_location(std::string words) {
  // " LOCATION:  function, file.c:line"
  for (auto at = words.find(" LOCATION:"); at != words.npos; at = words.find(" LOCATION:")) {
    const auto comma = words.find(", ", at);
    words.erase(at, comma == words.npos ? words.npos : words.find(' ', comma + 2) - at);
  }
  return words;
}

ConnectFailure failure_of(const PGconn* connection) {
  const auto words = words_of(connection);
  const auto state = sqlstate_in(words);
  return {.error = to_error(state, cut_at_location(words)), .refused_login = is_refused_login(state)};
}

/// Server settings of every connection of ours.
std::string session_settings(const PostgresOptions& options) {
  return "SET statement_timeout = " + std::to_string(options.statement_timeout.count()) + "; SET timezone = 'UTC'; SET datestyle = 'ISO'";
}

}  // namespace

std::string words_of(const PGconn* connection) {
  std::string words = PQerrorMessage(connection);
  while (!words.empty() && words.back() == '\n') words.pop_back();
  for (auto& c : words)
    if (c == '\n' || c == '\t') c = ' ';
  return words;
}

std::string sqlstate_of(const PGresult* result) {
  const char* state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  return state ? state : "";
}

core::Error error_of(const PGresult* result) {
  const char* words = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  std::string all = words ? words : PQresultErrorMessage(result);
  if (const char* rule = PQresultErrorField(result, PG_DIAG_CONSTRAINT_NAME)) all += std::string(" (") + rule + ")";
  return to_error(sqlstate_of(result), all);
}

core::awaitable<PlainConnection::Opened> PlainConnection::open(asio::any_io_executor executor, PostgresOptions options) {
  auto info = Conninfo::parse(options.dsn);
  if (!info) co_return ConnectFailure{info.error()};
  const auto where = info.value().where();
  ConnectFailure last{to_error("", "no host of " + where + " can be resolved")};
  for (auto& target : co_await targets_of(executor, info.value())) {
    auto connection = begin(info.value().values, target);
    if (!connection) co_return ConnectFailure{core::internal("internal error", "out of memory")};
    const auto until = Clock::now() + options.connect_timeout;
    auto state = PQstatus(connection.get()) == CONNECTION_BAD ? PGRES_POLLING_FAILED : PGRES_POLLING_WRITING;
    while (state == PGRES_POLLING_READING || state == PGRES_POLLING_WRITING) {
      const auto type = state == PGRES_POLLING_READING ? asio::posix::descriptor_base::wait_read : asio::posix::descriptor_base::wait_write;
      const auto waited = co_await wait_for(executor, PQsocket(connection.get()), type, until);
      if (waited == Waited::cancelled) co_return ConnectFailure{core::cancelled("stopping")};
      if (waited == Waited::late) break;
      state = PQconnectPoll(connection.get());
    }
    if (state != PGRES_POLLING_OK) {
      last = state == PGRES_POLLING_FAILED
                 ? failure_of(connection.get())
                 : ConnectFailure{to_error("", where + " (" + target.host.address + ") did not answer within " +
                                                   std::to_string(options.connect_timeout.count()) + " ms")};
      if (last.refused_login) co_return last;  // as libpq: the other hosts would refuse it, too
      continue;
    }
    PQsetErrorVerbosity(connection.get(), PQERRORS_DEFAULT);
    PQsetnonblocking(connection.get(), 1);
    auto opened = std::make_unique<PlainConnection>(executor, std::move(connection));
    auto set = co_await opened->run(session_settings(options), options.connect_timeout);
    // A backend whose client has gone ends, rather than wait for a lock on. Unknown before version 14.
    if (set && PQserverVersion(opened->connection_.get()) >= 140000)
      (void)co_await opened->run("SET client_connection_check_interval = 1000", options.connect_timeout);
    if (set) co_return Opened(std::move(opened));
    last = {set.error()};
  }
  co_return last;
}

core::awaitable<core::Result<Rows>> PlainConnection::run(std::string sql, std::chrono::milliseconds timeout) {
  if (!PQsendQuery(connection_.get(), sql.c_str())) co_return to_error("08006", words_of(connection_.get()));
  co_return co_await answer(timeout);
}

core::awaitable<core::Result<Rows>> PlainConnection::ask(std::string sql, std::vector<Value> values, std::chrono::milliseconds timeout) {
  std::vector<const char*> texts;
  std::vector<int> lengths, formats;
  for (auto& value : values) {
    texts.push_back(value.null ? nullptr : value.bytes.c_str());
    lengths.push_back(static_cast<int>(value.bytes.size()));
    formats.push_back(value.binary);
  }
  if (!PQsendQueryParams(connection_.get(), sql.c_str(), static_cast<int>(values.size()), nullptr, texts.data(), lengths.data(), formats.data(), 1))
    co_return to_error("08006", words_of(connection_.get()));
  co_return co_await answer(timeout);
}

core::awaitable<core::Result<Rows>> PlainConnection::answer(std::chrono::milliseconds timeout) {
  const auto until = timeout == kForever ? Clock::time_point::max() : Clock::now() + timeout;
  core::Result<Rows> result = Rows();
  for (;;) {
    const int unsent = PQflush(connection_.get());
    if (unsent < 0) co_return to_error("08006", words_of(connection_.get()));
    if (unsent > 0 || PQisBusy(connection_.get())) {
      const auto type = unsent > 0 ? asio::posix::descriptor_base::wait_write : asio::posix::descriptor_base::wait_read;
      const auto waited = co_await wait_for(executor_, PQsocket(connection_.get()), type, until);
      if (waited == Waited::cancelled) co_return core::cancelled("stopping");
      if (waited == Waited::late) co_return to_error("08006", "no answer within " + std::to_string(timeout.count()) + " ms");
      if (unsent == 0 && !PQconsumeInput(connection_.get())) co_return to_error("08006", words_of(connection_.get()));
      continue;
    }
    auto* answered = PQgetResult(connection_.get());
    if (!answered) co_return result;
    const auto status = PQresultStatus(answered);
    Rows rows(answered);
    if (!result) continue;
    if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_EMPTY_QUERY) result = std::move(rows);
    else result = error_of(answered);
  }
}

}  // namespace flexi::runtime::postgres
