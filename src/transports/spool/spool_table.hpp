// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/dead_letters.hpp"
#include "core/ledger.hpp"
#include "core/receipt.hpp"
#include "runtime/sqlite/database.hpp"

namespace flexi::transports::spool {

/// One message of the spool. Times are microseconds since 1970.
struct Spooled {
  std::int64_t seq = 0;  ///< order; given by append()
  std::string id, action;
  std::string payload;  ///< JSON text
  std::int64_t accepted_at = 0;
  std::int64_t spooled_at = 0;
  std::string traceparent, caller, hops;
  bool id_from_caller = false;

  std::int64_t bytes() const { return static_cast<std::int64_t>(payload.size()); }
};

/// What came into a spool, or is there.
struct Held {
  std::int64_t messages = 0, bytes = 0;
};
using HeldByAction = std::map<std::string, Held, std::less<>>;

enum class Appended { spooled, duplicate, conflict };

/// The spool's tables and every statement on them. What changes something runs on the database's writer.
namespace table {

std::span<const runtime::sqlite::Migration> migrations();

core::Result<Appended> append(runtime::sqlite::Connection& c, Spooled& message);
/// The oldest messages of one action.
core::Result<std::vector<Spooled>> head(runtime::sqlite::Connection& c, std::string_view action, std::int64_t limit);
/// One that the queue refuses for good becomes a dead letter; then it, and those before it in the batch, are gone.
core::Result<void> bury(runtime::sqlite::Connection& c, std::int64_t seq, std::string_view reason, std::int64_t attempts, std::int64_t now);
/// Exactly this stretch of one action: what was adopted meanwhile stands before `first`.
core::Result<void> remove(runtime::sqlite::Connection& c, std::string_view action, std::int64_t first, std::int64_t last);

core::Result<HeldByAction> held(runtime::sqlite::Connection& c);
core::Result<Held> dead(runtime::sqlite::Connection& c);
/// spooled_at of the oldest message; 0: there is none.
core::Result<std::int64_t> oldest(runtime::sqlite::Connection& c);
/// By action: each message and dead letter as accepted and where it is.
core::Result<std::vector<core::LedgerLine>> count(runtime::sqlite::Connection& c);
core::Result<std::optional<core::Receipt>> find(runtime::sqlite::Connection& c, std::string_view id);

/// Takes over everything in another spool's file, before what is here: it is older.
struct Adopted {
  HeldByAction messages;
  Held dead;
};
core::Result<Adopted> adopt(runtime::sqlite::Connection& c, const std::string& file);

core::Result<core::DeadLetterPage> list_dead(runtime::sqlite::Connection& c, unsigned limit, std::string_view cursor);
core::Result<core::DeadLetter> get_dead(runtime::sqlite::Connection& c, const core::DeadLetterKey& key);
/// Behind what waits. @return what is in the spool now
core::Result<HeldByAction> replay(runtime::sqlite::Connection& c, const core::DeadLetterKey& key, std::int64_t now);
core::Result<Held> discard(runtime::sqlite::Connection& c, const core::DeadLetterKey& key);
/// Some of the letters that a sweep means. @return what went, by action (discarded: under no action); none: nothing is left
core::Result<HeldByAction> sweep_some(runtime::sqlite::Connection& c, const core::DeadLetterSweep& what, std::int64_t now);

}  // namespace table
}  // namespace flexi::transports::spool
