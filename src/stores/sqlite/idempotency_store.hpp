// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include "core/idempotency_store.hpp"
#include "runtime/options.hpp"
#include "runtime/sqlite/database.hpp"

namespace flexi::stores::sqlite {

struct IdempotencyStoreOptions {
  std::chrono::milliseconds ttl = std::chrono::hours(24);  ///< how long a key is remembered; after it, it is free again

  void describe(runtime::OptionVisitor& v);
  runtime::Problems validate() const;
};

/// Keys in a table of the embedded database, one small row each, written in the group commit.
/// Lifetime/threads: any thread; `database` outlives it
class SqliteIdempotencyStore final : public core::IdempotencyStore {
 public:
  using Now = std::function<core::Timestamp()>;
  /// Creates or upgrades its table.
  static core::Result<std::unique_ptr<SqliteIdempotencyStore>> open(runtime::sqlite::Database& database, IdempotencyStoreOptions options,
                                                                    Now now = std::chrono::system_clock::now);

  core::awaitable<core::Result<core::Seen>> remember(std::string action, core::MessageId id, core::PayloadDigest digest,
                                                     core::CallContext context) override;
  /// Idle work of the database: forgets a few hundred keys that are past their time.
  /// @return whether more are left
  bool purge_some(runtime::sqlite::Connection& connection);

 private:
  SqliteIdempotencyStore(runtime::sqlite::Database& database, IdempotencyStoreOptions options, Now now)
      : database_(database), options_(options), now_(std::move(now)) {}
  std::int64_t oldest_kept() const;
  runtime::sqlite::Database& database_;
  IdempotencyStoreOptions options_;
  Now now_;
};

}  // namespace flexi::stores::sqlite
