// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "core/ledger.hpp"
#include "stores/mongo/ledger_account.hpp"
#include "stores/mongo/server.hpp"

namespace flexi::stores::mongo {

/// The ledger's numbers of one collection, in <collection>_ledger: one document that names the book, and a slot for each process that
/// writes at the same time. A slot is claimed by changing its token, kept by its `beat`, freed at the end, and closed by another process
/// when its own has not touched it for `abandoned_after`.
/// Lifetime/threads: any thread; each call with a session of its thread's own
class Ledger {
 public:
  using Clock = LedgerAccount::Clock;
  using Range = LedgerAccount::Range;

  explicit Ledger(const MongoOptions& options);

  /// Claims a slot where this process has none, or no longer; else keeps its own, and stores what is new.
  core::Result<void> keep(Session& session);
  /// Whether the slot is certainly ours still: nothing may be written without.
  bool kept() const;
  /// Whether keep() has something to do.
  bool due() const;
  /// Frees the slot where everything is settled.
  void release(Session& session);
  /// Counts what processes that are gone have left, and frees their slots.
  core::Result<void> close_abandoned(Session& session);
  /// Counts what has been in doubt since before `then`.
  core::Result<void> settle_doubts(Session& session, Clock::time_point then);

  Range take(std::size_t count);
  void settle(Range range, const LedgerCounts& counts);
  void doubt(Range range);

  core::Result<core::Account> account(Session& session);

  /// Up to which number each slot's documents are in its counts, and may go.
  class Counted {
   public:
    void add(std::int64_t slot, std::int64_t upto) { upto_[slot] = upto; }
    bool holds(std::int64_t seq) const {
      auto found = upto_.find(seq >> LedgerAccount::kSlotShift);
      return found != upto_.end() && seq <= found->second;
    }

   private:
    std::map<std::int64_t, std::int64_t> upto_;
  };
  core::Result<Counted> counted(Session& session);

  const std::string& repeats() const { return repeats_; }

 private:
  struct Slot;
  core::Result<void> find_book(Session& session);
  core::Result<std::vector<Slot>> slots(Session& session);
  core::Result<void> claim(Session& session);
  core::Result<bool> try_claim(Session& session, const Slot& slot);
  core::Result<LedgerCounts> count(Session& session, const std::vector<Range>& ranges);
  core::Result<std::int64_t> newest(Session& session, const std::string& collection, Range range);
  core::Result<void> close(Session& session, const Slot& slot);

  const MongoOptions& options_;
  const std::string collection_, repeats_;
  const std::string token_;
  mutable std::mutex mutex_;
  std::string book_;
  LedgerAccount account_;
  bool claimed_ = false;
  std::int64_t stored_upto_ = 0;       ///< of the last checkpoint that is stored
  Clock::time_point kept_at_{};        ///< when it was begun
  struct Seen {
    std::string token;
    std::int64_t beat = 0;
    Clock::time_point since{};
  };
  std::map<std::int64_t, Seen> seen_;  ///< of close_abandoned's thread
};

}  // namespace flexi::stores::mongo
