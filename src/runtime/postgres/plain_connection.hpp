// SPDX-License-Identifier: Apache-2.0
// Private to this folder's sources: it includes libpq's header.
#pragma once

#include <libpq-fe.h>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>

#include "core/handler.hpp"
#include "runtime/postgres/conninfo.hpp"
#include "runtime/postgres/options.hpp"
#include "runtime/postgres/rows.hpp"

namespace flexi::runtime::postgres {

struct Finish {
  void operator()(PGconn* connection) const { PQfinish(connection); }
};
using ConnectionPtr = std::unique_ptr<PGconn, Finish>;

/// Why a connection could not be made.
struct ConnectFailure {
  core::Error error;
  bool refused_login = false;  ///< nothing is to be gained from trying soon
};

/// One connection, one statement at a time. It is made over libpq's non-blocking interface; names are resolved first, and each address has
/// its own time-out, which libpq leaves to its caller. Source: PostgreSQL manual, 34.1 (PQconnectPoll)
/// Lifetime/threads: one executor's thread
class PlainConnection {
 public:
  using Opened = std::variant<std::unique_ptr<PlainConnection>, ConnectFailure>;
  static core::awaitable<Opened> open(boost::asio::any_io_executor executor, PostgresOptions options);

  PlainConnection(boost::asio::any_io_executor executor, ConnectionPtr connection)
      : executor_(std::move(executor)), connection_(std::move(connection)) {}

  static constexpr std::chrono::milliseconds kForever{-1};
  /// Several statements with ';' between, as one transaction unless they say otherwise; text results.
  /// @return the last one's rows; the connection is of no use after a time-out
  core::awaitable<core::Result<Rows>> run(std::string sql, std::chrono::milliseconds timeout);
  /// One statement with parameters; binary results.
  core::awaitable<core::Result<Rows>> ask(std::string sql, std::vector<Value> values, std::chrono::milliseconds timeout);
  ConnectionPtr release() { return std::move(connection_); }

 private:
  core::awaitable<core::Result<Rows>> answer(std::chrono::milliseconds timeout);
  boost::asio::any_io_executor executor_;
  ConnectionPtr connection_;
};

/// The Error of a failed PGresult. Neither detail nor hint: they may hold personal data.
core::Error error_of(const PGresult* result);
std::string sqlstate_of(const PGresult* result);
/// libpq's last words of a connection, on one line.
std::string words_of(const PGconn* connection);

}  // namespace flexi::runtime::postgres
