// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <stdexcept>
#include <string>

#include "core/log_store.hpp"
#include "stores/sqlite/log_store.hpp"

namespace flexi::bench {

/// Forgets everything at once: what is left is the cost of the way.
class NullLogStore final : public core::LogStore {
 public:
  core::awaitable<core::Result<core::Appended>> append(core::LogRecord, core::CallContext) override { co_return core::Appended::stored; }
  core::awaitable<core::Result<core::LogPage>> list(core::LogQuery, core::CallContext) override { co_return core::LogPage(); }
  core::awaitable<core::Result<core::FoundLog>> find(core::MessageId, core::CallContext) override { co_return core::not_found("nothing is kept"); }
  core::awaitable<core::Result<core::KnownIds>> known(std::vector<core::MessageId>, core::CallContext) override { co_return core::KnownIds(); }
};

/// Where a benchmark's logger stores: "null", or the path of a new SQLite file, committed as the product does.
struct Store {
  Store(const std::string& where, runtime::LogSink& log) {
    if (where == "null") {
      logs = std::make_unique<NullLogStore>();
      return;
    }
    runtime::sqlite::DatabaseOptions options;
    options.path = where;
    auto opened = runtime::sqlite::Database::open(options, log, metrics);
    if (!opened) throw std::runtime_error(opened.error().message);
    database = std::move(opened.value());
    logs = std::move(stores::sqlite::open_log_store(*database, {}).value());
  }
  runtime::Metrics metrics;
  std::unique_ptr<runtime::sqlite::Database> database;
  std::unique_ptr<core::LogStore> logs;
};

}  // namespace flexi::bench
