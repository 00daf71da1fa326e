// SPDX-License-Identifier: Apache-2.0
#include "stores/mongo/ledger_account.hpp"

namespace flexi::stores::mongo {

void add(LedgerCounts& sum, const LedgerCounts& more) {
  for (auto& [way, count] : more) sum[way] += count;
}

std::string way_of(core::Via via) { return std::string(core::to_string(via == core::Via::automatic ? core::Via::inproc : via)); }

void LedgerAccount::claim(std::int64_t slot, Checkpoint stored) {
  slot_ = slot;
  last_ = stored.upto;
  folded_ = std::move(stored);
  taken_.clear();
}

LedgerAccount::Range LedgerAccount::take(std::size_t count) {
  const Range range{last_ + 1, last_ + static_cast<std::int64_t>(count)};
  last_ = range.last;
  taken_.emplace(range.first, Taken{.last = range.last});
  return range;
}

void LedgerAccount::settle(Range range, const LedgerCounts& counts) {
  auto found = taken_.find(range.first);
  if (found == taken_.end() || found->second.last != range.last) return;  // taken before the last claim
  found->second.settled = true;
  found->second.counts = counts;
  fold();
}

void LedgerAccount::doubt(Range range, Clock::time_point now) {
  auto found = taken_.find(range.first);
  if (found == taken_.end() || found->second.last != range.last) return;
  found->second.in_doubt = true;
  found->second.since = now;
}

std::vector<LedgerAccount::Range> LedgerAccount::doubted_before(Clock::time_point then) const {
  std::vector<Range> ranges;
  for (auto& [first, taken] : taken_)
    if (taken.in_doubt && !taken.settled && taken.since <= then) ranges.push_back({first, taken.last});
  return ranges;
}

void LedgerAccount::fold() {
  for (auto first = taken_.begin(); first != taken_.end() && first->second.settled; first = taken_.erase(first)) {
    folded_.upto = first->second.last;
    add(folded_.counts, first->second.counts);
  }
}

LedgerAccount::Checkpoint LedgerAccount::checkpoint() const { return folded_; }

LedgerCounts LedgerAccount::total() const {
  auto sum = folded_.counts;
  for (auto& [first, taken] : taken_)
    if (taken.settled) add(sum, taken.counts);
  return sum;
}

}  // namespace flexi::stores::mongo
