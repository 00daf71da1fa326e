// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/ledger.hpp"
#include "core/request.hpp"

namespace flexi::stores::mongo {

/// What became of the entries of one way.
struct LedgerCount {
  std::int64_t accepted = 0, stored = 0, duplicates = 0;
  LedgerCount& operator+=(const LedgerCount& other) {
    accepted += other.accepted, stored += other.stored, duplicates += other.duplicates;
    return *this;
  }
  friend bool operator==(const LedgerCount&, const LedgerCount&) = default;
};
using LedgerCounts = std::map<std::string, LedgerCount>;  ///< by way
void add(LedgerCounts& sum, const LedgerCounts& more);
/// What never met the broker came from within the process.
std::string way_of(core::Via via);

/// One process's numbers in a database without transactions. Every document that counts carries a `seq`, which no other has: those up to
/// `upto` are in `counts`, the documents above it count for themselves. So whoever adds up the stored counts and the
/// documents above has all, each once, and a crash between two writes parts nothing.
/// Lifetime/threads: of its owner, under the owner's lock
class LedgerAccount {
 public:
  using Clock = std::chrono::steady_clock;

  /// A slot is a range of numbers that one process at a time may give out.
  static constexpr int kSlotShift = 47;
  static constexpr std::int64_t first_of(std::int64_t slot) { return slot << kSlotShift; }
  static constexpr std::int64_t last_of(std::int64_t slot) { return (slot << kSlotShift) + ((std::int64_t{1} << kSlotShift) - 1); }

  struct Range {
    std::int64_t first = 0, last = 0;
  };
  struct Checkpoint {
    std::int64_t upto = 0;
    LedgerCounts counts;  ///< of everything up to it
  };

  /// Begins anew: what was taken before and not settled belongs to whoever has that slot now.
  void claim(std::int64_t slot, Checkpoint stored);
  std::int64_t slot() const { return slot_; }

  /// Numbers for `count` documents that are about to be written.
  Range take(std::size_t count);
  /// It is known which of them were stored: they are `counts`.
  void settle(Range range, const LedgerCounts& counts);
  /// It is not: they may come yet.
  void doubt(Range range, Clock::time_point now);
  /// Ranges that have been in doubt since before `then`: settle() them with what is counted.
  std::vector<Range> doubted_before(Clock::time_point then) const;

  Checkpoint checkpoint() const;
  /// Everything known, whether a checkpoint may hold it already or not.
  LedgerCounts total() const;

 private:
  struct Taken {
    std::int64_t last = 0;
    bool settled = false;
    bool in_doubt = false;
    Clock::time_point since{};
    LedgerCounts counts{};
  };
  void fold();

  std::int64_t slot_ = 0, last_ = 0;
  Checkpoint folded_;
  std::map<std::int64_t, Taken> taken_;  ///< by its first; those behind folded_.upto
};

}  // namespace flexi::stores::mongo
