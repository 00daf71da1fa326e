// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/dead_letters.hpp"
#include "core/known_ids.hpp"
#include "core/ledger.hpp"
#include "core/published_store.hpp"
#include "core/receipt.hpp"
#include "runtime/metrics.hpp"
#include "runtime/task_scope.hpp"
#include "services/broker/queue_watch.hpp"

namespace flexi::services::broker {

struct PublishedOptions {
  std::vector<std::string> actions{};       ///< whose messages are followed: those whose store can be asked
  std::chrono::milliseconds hold{142'000};  ///< how long a message may be in a consumer's hand, at most
  std::int64_t prefetch = 200;              ///< messages that one consumer may have in hand
  unsigned letters = 10'000;                ///< dead letters that are looked at
};

/// What is asked and where; everything outlives the messages.
struct PublishedPorts {
  core::Handler& publisher;    ///< of a queue that is not ours: an answer means that the queue has the message
  core::PublishedStore& store;
  core::DeadLetters& letters;  ///< of that queue
  /// What waits, by action.
  std::function<core::awaitable<core::Result<std::map<std::string, QueueSight>>>(core::CallContext)> sights;
  boost::asio::any_io_executor executor;
  runtime::LogSink& log;
  runtime::Metrics& metrics;
  std::function<core::Timestamp()> now = [] { return std::chrono::system_clock::now(); };
  std::function<QueueWatch::Time()> ticks = [] { return std::chrono::steady_clock::now(); };
};

/// Follows what was accepted into RabbitMQ until its end is known: notes each message durably behind the publisher's confirm and
/// its caller's answer, and forgets it once its store has it. A note is a message accepted and in flight at once, and whoever stores the message
/// counts it as accepted and stored: so a note that a crash kept from being written, or from being forgotten, unbalances nothing.
/// Lifetime/threads: handle(), find_receipt() and accounts() on any thread; stop() behind the last handle(), before it is destroyed
class PublishedMessages final : public core::Handler, public core::ReceiptSource, public core::LedgerSource {
 public:
  /// Asks a store which of some ids it has.
  using Ask = std::function<core::awaitable<core::Result<core::KnownIds>>(std::vector<core::MessageId>, core::CallContext)>;

  PublishedMessages(PublishedOptions options, PublishedPorts ports);

  /// The publisher's answer. A note that can't be written changes nothing about it: the queue has the message.
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override;
  /// What is under way; a dead letter is told by who has it.
  core::awaitable<core::Result<std::optional<core::Receipt>>> find_receipt(core::MessageId id, core::CallContext context) override;

  std::string_view source_name() const override { return "rabbitmq"; }
  /// Above 0 unaccounted: no store has them, they are no dead letters, and nothing waits in the queue that they could be.
  /// @return unavailable where the queue can't say what waits, and it matters
  core::awaitable<core::Result<std::vector<core::Account>>> accounts(core::CallContext context) override;

  /// An operator's replay or discard of a dead letter has been done.
  core::awaitable<void> replayed(core::DeadLetterKey key, core::CallContext context);
  /// @param key with its action
  core::awaitable<void> discarded(core::DeadLetterKey key, core::CallContext context);
  /// Many left the dead letters at once: which ones, the next look tells.
  core::awaitable<void> swept();

  /// Begins to ask; each action's store by its own. Once.
  void start(std::map<std::string, Ask> stores, std::chrono::milliseconds period = std::chrono::seconds(1));
  core::awaitable<void> stop();
  /// Asks once, now; on the executor. Others wait for one that runs.
  /// @param young how young a message may be that is asked for
  core::awaitable<void> reconcile(std::chrono::milliseconds young, core::CallContext context);

 private:
  struct Followed {
    explicit Followed(QueueWatch w) : watch(std::move(w)) {}
    QueueWatch watch;
    std::int64_t listed = -1;  ///< dead letters when they were listed last; below 0: they must be again
    std::int64_t unlisted = 0; ///< of those, how many nobody knows
    QueueWatch::Time listed_at{};
    bool asked = false;        ///< its store answered, this time
  };
  struct Batch {
    std::size_t seen = 0, ended = 0;
    std::int64_t last = 0;
  };
  void note_behind(core::Published message);
  core::awaitable<void> note_and_leave(std::list<core::Published>::iterator place);
  core::awaitable<void> note(core::Published message);
  core::awaitable<void> follow(std::chrono::milliseconds period);
  core::awaitable<bool> pass(std::chrono::milliseconds young, core::CallContext context);
  core::awaitable<std::int64_t> sweep(std::int64_t after, core::Timestamp before, core::CallContext context);
  core::awaitable<core::Result<Batch>> ask_stores(std::int64_t after, core::Timestamp before, core::CallContext context);
  core::awaitable<void> look(core::CallContext context);
  void list_again();
  bool must_list(const Followed& followed, const QueueSight& sight, const core::PublishedCount& count) const;
  core::awaitable<void> list_letters(const std::map<std::string, QueueSight>& sights, core::CallContext context);
  core::awaitable<void> mark(std::string action, std::vector<core::MessageId> ids, core::Published::State state, core::CallContext context);
  core::awaitable<void> mark_gone(const std::map<std::string, std::set<core::MessageId>>& dead, core::CallContext context);
  core::awaitable<void> settle_gone(core::CallContext context);
  core::awaitable<core::Result<std::vector<core::Account>>> count(core::CallContext context);
  core::awaitable<core::Result<std::optional<core::Receipt>>> find(core::MessageId id, core::CallContext context);
  bool is_lost(const core::Published& message) const;
  bool follows(std::string_view action) const;

  const PublishedOptions options_;
  const PublishedPorts ports_;
  runtime::Metrics::Counter unnoted_, full_;
  std::atomic<bool> noting_fails_{false}, notes_full_{false}, stopping_{false};
  std::atomic<std::size_t> notes_{0};  ///< that wait to be written
  // On the executor:
  std::map<std::string, Ask> stores_;
  std::map<std::string, Followed, std::less<>> followed_;
  std::list<core::Published> noting_;  ///< being written
  std::int64_t cursor_ = 0;          ///< where the last sweep stopped behind what does not end
  bool left_ = false, blind_ = false;  ///< something did not end; the queue could not be asked
  bool passing_ = false;
  QueueWatch::Time next_look_{};
  runtime::TaskScope scope_;
  boost::asio::steady_timer tick_, passed_;
};

/// The queue's dead letters, whose replays and discards the messages hear of.
/// Lifetime/threads: any thread; both outlive it
class PublishedLetters final : public core::DeadLetters {
 public:
  PublishedLetters(core::DeadLetters& letters, PublishedMessages& messages) : letters_(letters), messages_(messages) {}
  core::awaitable<core::Result<core::DeadLetterPage>> list(unsigned limit, std::string cursor, core::CallContext context) override {
    return letters_.list(limit, std::move(cursor), std::move(context));
  }
  core::awaitable<core::Result<core::DeadLetter>> get(core::DeadLetterKey key, core::CallContext context) override {
    return letters_.get(std::move(key), std::move(context));
  }
  core::awaitable<core::Result<void>> replay(core::DeadLetterKey key, core::CallContext context) override;
  core::awaitable<core::Result<void>> discard(core::DeadLetterKey key, core::CallContext context) override;
  core::awaitable<core::Result<core::DeadLettersSwept>> sweep(core::DeadLetterSweep what, core::CallContext context) override;

 private:
  core::DeadLetters& letters_;
  PublishedMessages& messages_;
};

}  // namespace flexi::services::broker
