// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "core/log_store.hpp"
#include "runtime/options.hpp"
#include "runtime/sqlite/database.hpp"
#include "runtime/sqlite/ledger_book.hpp"

namespace flexi::stores::sqlite {

struct LogStoreOptions {
  std::chrono::milliseconds retention_age{0};  ///< older entries are no longer listed, and go; 0 keeps them
  std::int64_t retention_max_bytes = 0;        ///< beyond it the oldest entries go; 0 keeps them

  void describe(runtime::OptionVisitor& visitor);
  runtime::Problems validate() const;
};

/// What a log store leaves for the database's idle time (one function per database: the program combines it with that of
/// others). Each call does a few milliseconds of work and returns whether more is left. A failed step has done nothing.
/// Lifetime/threads: a value; called on the writer's thread, inside its transaction
class LogUpkeep {
 public:
  explicit LogUpkeep(LogStoreOptions options) : options_(options) {}
  /// Puts the oldest entries that it lacks into the full text index, and counts their bytes.
  bool index_some(runtime::sqlite::Connection& connection) const;
  /// Removes the oldest entries that retention doesn't keep. Only indexed entries count for retention_max_bytes.
  bool purge_some(runtime::sqlite::Connection& connection) const;
  /// Both: `database.set_idle_work(LogUpkeep(options))`.
  bool operator()(runtime::sqlite::Connection& connection) const;

 private:
  LogStoreOptions options_;
};

/// Log entries in `database`; brings its tables up to date first.
/// A query's words: see README.md. A page is cut at runtime::PageBudget, so it may end before `limit`.
/// @param book counts what is stored; none: nothing is counted
/// @return unavailable where the file can't be written; conflict where a newer program wrote it
/// Lifetime/threads: `database` and `book` outlive the store
core::Result<std::unique_ptr<core::LogStore>> open_log_store(runtime::sqlite::Database& database, LogStoreOptions options,
                                                             runtime::sqlite::LedgerBook* book = nullptr);

}  // namespace flexi::stores::sqlite
