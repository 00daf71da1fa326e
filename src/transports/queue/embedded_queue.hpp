// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>

#include "core/dead_letters.hpp"
#include "core/ledger.hpp"
#include "core/receipt.hpp"
#include "core/transport.hpp"
#include "runtime/shards.hpp"
#include "runtime/sqlite/database.hpp"
#include "transports/queue/ledger.hpp"
#include "transports/queue/queue_options.hpp"

namespace flexi::transports::queue {

/// A durable queue in an embedded database, standing where RabbitMQ stands in a cluster: publisher, consumer, retries,
/// dead letters and the ledger. At least once, in order of acceptance except for retries.
///
/// accepted → in flight → stored | dead-lettered (→ replayed | discarded) | expired | discarded
///
/// Lifetime/threads: any thread; the database and the shards outlive it; stop() before it is destroyed, and the servers
/// of serve() before that
class EmbeddedQueue final : public core::Transport, public core::DeadLetters, public core::ReceiptSource, public core::LedgerSource {
 public:
  struct Environment {
    runtime::sqlite::Database& database;
    runtime::Shards& shards;
    runtime::LogSink& log;
    runtime::Metrics& metrics;
    std::function<core::Timestamp()> now = [] { return std::chrono::system_clock::now(); };  ///< tests turn it
    /// Actions whose `stored` is counted by the store behind the consumer; of all others accounts() tells what their service acknowledged.
    std::vector<std::string> counted_by_stores{};
  };
  /// Makes or upgrades the tables. Blocks; for the start-up.
  static core::Result<std::unique_ptr<EmbeddedQueue>> open(Environment environment, QueueOptions options);
  ~EmbeddedQueue() override;

  core::Via via() const override { return core::Via::amqp; }
  /// Starts the one consumer: dispatches to `handler` with ack = stored.
  /// @return conflict where a consumer runs already
  core::Result<std::unique_ptr<core::Server>> serve(core::Handler& handler) override;
  /// A publisher. `endpoint` is not looked at: the queue is in this process.
  core::Result<std::unique_ptr<core::Client>> connect(std::string endpoint) override;

  /// `accepted` (the default): @return {message: "queued"} once committed; duplicate for the same id and payload;
  /// conflict for another payload, or where it is a dead letter; overloaded when full; unavailable where the disk refuses.
  /// `stored`: the handler's own Reply or Error. It is tried once: the caller decides about another try, and a failure
  /// that the caller was told is over (discarded), as is one whose deadline has passed (expired).
  core::awaitable<core::Result<core::Reply>> publish(core::Request request, core::CallContext context);

  core::awaitable<core::Result<core::DeadLetterPage>> list(unsigned limit, std::string cursor, core::CallContext context) override;
  core::awaitable<core::Result<core::DeadLetter>> get(core::DeadLetterKey key, core::CallContext context) override;
  core::awaitable<core::Result<void>> replay(core::DeadLetterKey key, core::CallContext context) override;
  core::awaitable<core::Result<void>> discard(core::DeadLetterKey key, core::CallContext context) override;
  core::awaitable<core::Result<core::DeadLettersSwept>> sweep(core::DeadLetterSweep what, core::CallContext context) override;
  /// Of messages that were `accepted` or dead-lettered here: queued ("queue", or "listener" while it is handled), dead_lettered,
  /// stored (as long as the id is kept), expired, discarded (as long).
  core::awaitable<core::Result<std::optional<core::Receipt>>> find_receipt(core::MessageId id, core::CallContext context) override;
  struct Status {
    std::int64_t depth = 0;         ///< messages that wait, or are being handled
    std::int64_t dead_letters = 0;
    std::int64_t bytes = 0;         ///< payloads of both
    std::optional<std::chrono::seconds> oldest_age{};  ///< of those that wait; none: none does
  };
  core::awaitable<core::Result<Status>> status(core::CallContext context);
  core::awaitable<core::Result<Ledger>> ledger(core::CallContext context);
  std::string_view source_name() const override { return "queue"; }
  /// As ledger(), but what it holds is counted in its tables, not by changes.
  core::awaitable<core::Result<std::vector<core::Account>>> accounts(core::CallContext context) override;
  core::awaitable<core::Result<std::vector<core::Doubt>>> doubts(unsigned limit, core::CallContext context) override;
  core::awaitable<core::Result<void>> resolve(core::Doubt doubt, bool stored, core::CallContext context) override;

  /// For Database::set_idle_work: forgets some old ids. @return whether more may be left
  bool purge_some(runtime::sqlite::Connection& connection);
  /// Looks for work now. For clocks that were turned.
  void wake();
  /// After the consumer's stop(). What was published is committed, then nothing runs.
  core::awaitable<void> stop();

 private:
  struct Impl;
  explicit EmbeddedQueue(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace flexi::transports::queue
