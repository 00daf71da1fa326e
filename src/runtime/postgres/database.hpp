// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <functional>
#include <memory>
#include <vector>

#include "core/call_context.hpp"
#include "core/handler.hpp"
#include "runtime/log_sink.hpp"
#include "runtime/metrics.hpp"
#include "runtime/postgres/options.hpp"
#include "runtime/postgres/rows.hpp"
#include "runtime/postgres/schema.hpp"

namespace flexi::runtime::postgres {

/// One PostgreSQL, over a few connections that are made as they are wanted and made again when they break. Statements are prepared once a
/// connection and pipelined: what arrives in one turn of the loop is one round trip. Until the schemas are there, and while the server is
/// away, calls are `unavailable`; nothing is tried twice.
/// Lifetime/threads: calls and start() from any thread; stop() on `home`'s thread and before it is destroyed; outlives its calls
class Database {
 public:
  /// @param home      whose thread does all the work
  /// @param on_health called on home's thread when the database becomes usable (no error) or unusable, or the reason changes
  Database(PostgresOptions options, boost::asio::any_io_executor home, LogSink& log, Metrics& metrics,
           std::function<void(const core::Error*)> on_health = [](const core::Error*) {});
  ~Database();

  /// What a store wants; before start().
  void add(Schema schema);
  /// Connects in the background, brings the schemas up to date, and says so by on_health.
  void start();
  /// Refuses new calls and ends those under way.
  core::awaitable<void> stop();

  /// @return the statement's rows; unavailable, overloaded, deadline_exceeded; conflict where a unique rule is broken; invalid_argument
  /// Cancellation: leaves; the answer is dropped when it comes
  core::awaitable<core::Result<Rows>> read(Query query, core::CallContext context);
  /// All of `queries`, as one transaction.
  /// @return their rows; an error undid all of it, unless Sent::maybe
  core::awaitable<core::Result<std::vector<Rows>>> write(std::vector<Query> queries, core::CallContext context);

  /// Writes waiting or in flight. On home's thread.
  std::size_t writes_under_way() const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace flexi::runtime::postgres
