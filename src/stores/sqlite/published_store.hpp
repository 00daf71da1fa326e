// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <memory>

#include "core/published_store.hpp"
#include "runtime/options.hpp"
#include "runtime/sqlite/database.hpp"
#include "runtime/sqlite/ledger_book.hpp"

namespace flexi::stores::sqlite {

struct PublishedStoreOptions {
  std::int64_t max_messages = 1'000'000;  ///< notes that are kept; what comes beyond them is not followed on its way

  void describe(runtime::OptionVisitor& v);
  runtime::Problems validate() const;
};

/// Notes in a table of the embedded database, one small row each, written in the group commit.
/// Lifetime/threads: any thread; `database` and `book` outlive it
class SqlitePublishedStore final : public core::PublishedStore {
 public:
  /// Creates or upgrades its table.
  /// @param book counts what is discarded
  static core::Result<std::unique_ptr<SqlitePublishedStore>> open(runtime::sqlite::Database& database, PublishedStoreOptions options,
                                                                  runtime::sqlite::LedgerBook& book);

  core::awaitable<core::Result<core::Noted>> note(core::Published message, core::CallContext context) override;
  core::awaitable<core::Result<std::vector<core::Published>>> list(core::PublishedQuery query, core::CallContext context) override;
  core::awaitable<core::Result<std::vector<core::Published>>> find(core::MessageId id, core::CallContext context) override;
  core::awaitable<core::Result<void>> forget(std::string action, std::vector<core::MessageId> ids, core::CallContext context) override;
  core::awaitable<core::Result<void>> mark(std::string action, std::vector<core::MessageId> ids, core::Published::State state, core::Timestamp now,
                                           core::CallContext context) override;
  core::awaitable<core::Result<void>> discard(std::string action, std::vector<core::MessageId> ids, core::CallContext context) override;
  core::awaitable<core::Result<std::vector<core::PublishedCount>>> count(core::Timestamp old_before, core::CallContext context) override;

 private:
  SqlitePublishedStore(runtime::sqlite::Database& database, PublishedStoreOptions options, runtime::sqlite::LedgerBook& book, std::int64_t held)
      : database_(database), options_(options), book_(book), held_(held) {}
  core::awaitable<core::Result<void>> remove(std::string action, std::vector<core::MessageId> ids, runtime::sqlite::LedgerBook* book,
                                             core::CallContext context);

  runtime::sqlite::Database& database_;
  const PublishedStoreOptions options_;
  runtime::sqlite::LedgerBook& book_;
  std::atomic<std::int64_t> held_;  ///< notes, as of the last commits
};

}  // namespace flexi::stores::sqlite
