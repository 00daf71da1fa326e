// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/dead_letters.hpp"
#include "core/ledger.hpp"
#include "core/receipt.hpp"
#include "runtime/sqlite/database.hpp"
#include "transports/queue/ledger.hpp"
#include "transports/queue/queue_options.hpp"

namespace flexi::transports::queue {

/// One row of the queue. Times are microseconds since 1970.
struct Message {
  std::int64_t seq = 0;  ///< order; given by insert()
  std::string id;
  std::string action;
  std::string payload;  ///< JSON text
  std::int64_t accepted_at = 0;
  std::int64_t expires_at = 0;  ///< 0: never
  std::int64_t attempts = 0;    ///< that failed
  std::int64_t deliveries = 0;  ///< during which the process died
  std::int64_t untaken = 0;     ///< of the attempts: nobody took it, which is not its fault
  std::string traceparent;
  std::string hops;  ///< shortened since accepted_at (core::shorten_hops)
  std::string caller;
  bool id_from_caller = false;
  bool isolated = false;  ///< suspected to kill the process: fetched one at a time
};

/// due_at of a message that is being handled for a second time or more. First-time messages keep 0, and the fetched_to
/// mark, written with each batch that is fetched, says which of them are being handled: no write per message.
inline constexpr std::int64_t kBeingHandled = std::numeric_limits<std::int64_t>::max();

enum class Inserted { queued, pending, finished, dead, conflict };

struct FetchRequest {
  std::int64_t cursor = 0;  ///< the last first-time message fetched by this run
  std::int64_t limit = 0;
  std::int64_t now = 0;
  bool isolated_in_flight = false;
};
struct Fetched {
  std::vector<Message> messages;
  std::vector<Message> expired;  ///< removed: nobody waits any more
  std::vector<Message> poison;   ///< dead-lettered: over the delivery limit
  std::int64_t cursor = 0;
  std::optional<std::int64_t> next_due{};  ///< when to fetch again though nothing new came
  bool more = false;                       ///< the limit was reached
};

/// What becomes of a message that was fetched.
struct Settlement {
  enum class Kind { stored, retry, dead, refused, released };
  Kind kind = Kind::stored;
  Kind if_accepted = Kind::retry;  ///< refused, but meanwhile another caller was answered `accepted` for it: this instead
  std::int64_t due_at = 0;         ///< retry
  std::string reason{};            ///< dead, refused
  bool maybe_stored = false;       ///< refused: the attempt may have reached the store
  std::optional<Kind> became{};    ///< set by settle(): `if_accepted`, where that held
};

/// The queue's tables and every statement on them. Sequence numbers and the ledger's changes since the last flush()
/// live in memory: one update per action and transaction instead of one per message.
/// Lifetime/threads: everything but the static reads on the database's writer, inside its transactions
class QueueTable {
 public:
  explicit QueueTable(const QueueOptions& options) : options_(options) {}

  static std::span<const runtime::sqlite::Migration> migrations();
  /// Continues where the file ends. Before anything else.
  core::Result<void> load(runtime::sqlite::Connection& c);

  void begin() { deltas_.clear(); }
  /// Writes the ledger's changes: last in each transaction.
  core::Result<void> flush(runtime::sqlite::Connection& c);

  core::Result<Inserted> insert(runtime::sqlite::Connection& c, Message& message, std::int64_t digest);
  core::Result<Fetched> fetch(runtime::sqlite::Connection& c, const FetchRequest& request);
  /// @return false where the message was gone already
  core::Result<bool> settle(runtime::sqlite::Connection& c, const Message& message, Settlement& how, std::int64_t now);

  /// Messages that were being handled when the process died count one more delivery and wait to be fetched again.
  core::Result<void> recover(runtime::sqlite::Connection& c, std::int64_t now);
  /// Nothing is being handled any more: what was fetched and not settled is as if it had never been.
  core::Result<void> release_all(runtime::sqlite::Connection& c, std::int64_t now);

  core::Result<std::int64_t> replay(runtime::sqlite::Connection& c, const core::DeadLetterKey& key, std::int64_t now);
  /// @return payload bytes and letters removed
  core::Result<std::pair<std::int64_t, std::int64_t>> discard(runtime::sqlite::Connection& c, const core::DeadLetterKey& key, std::int64_t now);
  /// What a part of a sweep did: letters, and payload bytes that went with them.
  struct Swept {
    std::int64_t letters = 0, bytes = 0;
    bool more = false;
  };
  core::Result<Swept> sweep_some(runtime::sqlite::Connection& c, const core::DeadLetterSweep& what, std::int64_t now);
  /// Forgets some finished ids. @return whether more may be left
  bool purge_some(runtime::sqlite::Connection& c, std::int64_t now);

  static core::Result<core::DeadLetterPage> list_dead(runtime::sqlite::Connection& c, unsigned limit, std::string_view cursor);
  static core::Result<core::DeadLetter> get_dead(runtime::sqlite::Connection& c, const core::DeadLetterKey& key);
  static core::Result<std::optional<core::Receipt>> find(runtime::sqlite::Connection& c, std::string_view id);
  /// Ends that may have been stored all the same (core::Doubt).
  static core::Result<std::vector<core::Doubt>> doubts(runtime::sqlite::Connection& c, unsigned limit);
  core::Result<void> resolve(runtime::sqlite::Connection& c, const core::Doubt& doubt, bool stored);
  static core::Result<Ledger> ledger(runtime::sqlite::Connection& c);
  /// The ledger with in_flight and dead_lettered counted in the tables themselves: what is lost there shows.
  static core::Result<Ledger> count(runtime::sqlite::Connection& c);
  /// The name of the ledger's book, unlike any other's.
  static core::Result<std::string> book(runtime::sqlite::Connection& c);
  /// accepted_at of the oldest queued message; 0: the queue is empty.
  static core::Result<std::int64_t> oldest(runtime::sqlite::Connection& c);

 private:
  core::Result<void> take_due(runtime::sqlite::Connection& c, const FetchRequest& request, Fetched& fetched);
  core::Result<void> take_new(runtime::sqlite::Connection& c, const FetchRequest& request, Fetched& fetched);
  core::Result<bool> remove(runtime::sqlite::Connection& c, const Message& message);
  core::Result<bool> bury(runtime::sqlite::Connection& c, const Message& message, std::int64_t attempts, std::string_view reason, std::int64_t now);
  core::Result<void> expire(runtime::sqlite::Connection& c, const Message& message, std::int64_t now);
  core::Result<void> end(runtime::sqlite::Connection& c, const Message& message, core::Receipt::State state, std::string_view reason, bool doubt, std::int64_t now);
  LedgerLine& line(std::string_view action);

  const QueueOptions& options_;
  std::int64_t next_seq_ = 1;
  std::int64_t purge_cursor_ = 0;
  std::map<std::string, LedgerLine, std::less<>> deltas_;
};

}  // namespace flexi::transports::queue
