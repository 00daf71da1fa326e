// SPDX-License-Identifier: Apache-2.0
#include "stores/mongo/ledger.hpp"

#include <algorithm>

#include "core/handler.hpp"

namespace flexi::stores::mongo {

using core::Result;

namespace {

constexpr char kBook[] = "book";
constexpr std::chrono::seconds kCheckpointEvery(5);
constexpr int kClaimTries = 20;
constexpr std::int64_t kMostSlots = 65'535;

Bson counts_to_bson(const LedgerCounts& counts) {
  Bson all;
  for (auto& [way, count] : counts) {
    Bson one;
    one.integer("accepted", count.accepted).integer("stored", count.stored).integer("duplicates", count.duplicates);
    all.document(way, one);
  }
  return all;
}

LedgerCounts counts_from(Fields slot) {
  LedgerCounts counts;
  slot.for_each("counts", [&](const char* way, Fields one) {
    counts[way] = {one.integer("accepted").value_or(0), one.integer("stored").value_or(0), one.integer("duplicates").value_or(0)};
  });
  return counts;
}

Bson between(std::int64_t first, std::int64_t last) {
  Bson range;
  range.integer("$gte", first).integer("$lte", last);
  return range;
}

Bson key_of_slot(std::int64_t number) {
  Bson key;
  key.integer("_id", number);
  return key;
}

}  // namespace

struct Ledger::Slot {
  std::int64_t number = 0;
  std::string token;
  bool free = false;
  std::int64_t beat = 0;
  LedgerAccount::Checkpoint stored;
  Range tail() const { return {stored.upto + 1, LedgerAccount::last_of(number)}; }
};

Ledger::Ledger(const MongoOptions& options)
    : options_(options), collection_(options.collection + "_ledger"), repeats_(options.collection + "_repeats"), token_(ObjectId::generate().hex()) {}

Result<void> Ledger::find_book(Session& session) {
  if (!book_.empty()) return core::ok();
  std::string found;
  Bson key;
  key.text("_id", kBook);
  const auto read = [&]() { return session.find(collection_, key, {}, [&](Fields book) { return found = book.shown("id"), Next::enough; }); };
  FLEXI_TRY(read());
  if (found.empty()) {
    std::vector<Bson> one(1);
    one[0].text("_id", kBook).text("id", "mongodb-" + ObjectId::generate().hex());
    auto inserted = session.insert(collection_, one);
    if (inserted.failure) return inserted.failure->error;
    FLEXI_TRY(read());  // somebody else's, where that was first
  }
  if (found.empty()) return core::unavailable("MongoDB's ledger can't be read", "no book in " + collection_);
  std::lock_guard lock(mutex_);
  book_ = std::move(found);
  return core::ok();
}

Result<std::vector<Ledger::Slot>> Ledger::slots(Session& session) {
  std::vector<Slot> all;
  FLEXI_TRY(session.find(collection_, Bson(), {}, [&](Fields fields) {
    auto number = fields.integer("_id");
    if (!number || *number < 0 || *number > kMostSlots) return Next::more;
    Slot slot{.number = *number, .token = fields.shown("token"), .free = fields.boolean("free").value_or(false), .beat = fields.integer("beat").value_or(0),
              .stored = {.upto = fields.integer("upto").value_or(LedgerAccount::first_of(*number)), .counts = counts_from(fields)}};
    all.push_back(std::move(slot));
    return Next::more;
  }));
  return all;
}

Result<bool> Ledger::try_claim(Session& session, const Slot& slot) {
  auto filter = key_of_slot(slot.number);
  filter.text("token", slot.token).boolean("free", true);
  Bson set, beat, change;
  set.text("token", token_).boolean("free", false);
  beat.integer("beat", 1);
  change.document("$set", set).document("$inc", beat);
  return session.update(collection_, filter, change);
}

Result<void> Ledger::claim(Session& session) {
  for (int attempt = 0; attempt < kClaimTries; ++attempt) {
    const auto now = Clock::now();
    FLEXI_TRY(auto all, slots(session));
    const auto taken = [&](std::int64_t number, LedgerAccount::Checkpoint stored) {
      std::lock_guard lock(mutex_);
      stored_upto_ = stored.upto;
      account_.claim(number, std::move(stored));
      claimed_ = true;
      kept_at_ = now;
    };
    std::int64_t next = 0;
    for (auto& slot : all) {
      next = std::max(next, slot.number + 1);
      if (!slot.free) continue;
      FLEXI_TRY(auto mine, try_claim(session, slot));
      if (mine) return taken(slot.number, slot.stored), core::ok();
    }
    if (next > kMostSlots) return core::unavailable("MongoDB's ledger has no room for another process");
    std::vector<Bson> one(1);
    const LedgerAccount::Checkpoint none{.upto = LedgerAccount::first_of(next), .counts = {}};
    one[0].integer("_id", next).text("token", token_).boolean("free", false).integer("beat", 1).integer("upto", none.upto).document("counts", Bson());
    auto inserted = session.insert(collection_, one);
    if (inserted.failure) return inserted.failure->error;
    if (inserted.refused.empty()) return taken(next, none), core::ok();
    if (!inserted.refused.front().duplicate) return inserted.refused.front().error;
  }
  return core::unavailable("MongoDB's ledger is busy");
}

Result<void> Ledger::keep(Session& session) {
  FLEXI_TRY(find_book(session));
  LedgerAccount::Checkpoint next;
  std::int64_t slot = 0;
  bool claimed = false;
  {
    std::lock_guard lock(mutex_);
    claimed = claimed_;
    next = account_.checkpoint();
    slot = account_.slot();
  }
  if (!claimed) return claim(session);
  const auto now = Clock::now();
  auto filter = key_of_slot(slot);
  Bson not_newer, set, beat, change;
  not_newer.integer("$lte", next.upto);  // one that was held up on its way undoes nothing
  filter.text("token", token_).boolean("free", false).document("upto", not_newer);
  set.integer("upto", next.upto).document("counts", counts_to_bson(next.counts));
  beat.integer("beat", 1);
  change.document("$set", set).document("$inc", beat);
  FLEXI_TRY(auto kept, session.update(collection_, filter, change));
  if (!kept) {
    {
      std::lock_guard lock(mutex_);
      claimed_ = false;
    }
    return claim(session);  // we were away for so long that another has counted ours
  }
  std::lock_guard lock(mutex_);
  stored_upto_ = next.upto;
  kept_at_ = now;
  return core::ok();
}

bool Ledger::kept() const {
  std::lock_guard lock(mutex_);
  return claimed_ && Clock::now() - kept_at_ < options_.abandoned_after / 2;
}

bool Ledger::due() const {
  std::lock_guard lock(mutex_);
  const auto age = Clock::now() - kept_at_;
  return !claimed_ || age > options_.abandoned_after / 10 || (age > kCheckpointEvery && account_.checkpoint().upto != stored_upto_);
}

void Ledger::release(Session& session) {
  if (!kept() || !keep(session)) return;
  std::unique_lock lock(mutex_);
  const auto stored = account_.checkpoint();
  // What was settled behind a doubt, or is in doubt, is counted when the slot is found abandoned.
  if (account_.total() != stored.counts || !account_.doubted_before(Clock::time_point::max()).empty()) return;
  auto filter = key_of_slot(account_.slot());
  filter.text("token", token_).integer("upto", stored.upto);
  claimed_ = false;
  lock.unlock();
  Bson set, change;
  set.boolean("free", true);
  change.document("$set", set);
  (void)session.update(collection_, filter, change);
}

/// In one question for all ranges: where the server has no index in use, each question reads the whole collection.
Result<LedgerCounts> Ledger::count(Session& session, const std::vector<Range>& ranges) {
  LedgerCounts counts;
  if (ranges.empty()) return counts;
  const auto group = [](const char* second) {
    Bson by, sum, one;
    by.text("via", "$via").text("second", second);
    one.small_integer("$sum", 1);
    sum.document("_id", by).document("count", one);
    Bson stage;
    stage.document("$group", sum);
    return stage;
  };
  const auto stages = [&](const char* second) {
    std::vector<Bson> both(2);
    std::vector<Bson> each;
    for (auto& range : ranges) each.emplace_back().document("seq", between(range.first, range.last));
    Bson match;
    match.array("$or", each);
    both[0].document("$match", match);
    both[1] = group(second);
    return both;
  };
  const auto each = [&](auto tell) {
    return [tell](Fields row) {
      core::Via via = core::Via::automatic;
      bool second = false;
      std::int64_t count = row.integer("count").value_or(0);
      row.with("_id", [&](Fields by) {
        via = core::via_from(by.text("via").value_or("")).value_or(via);
        second = by.boolean("second").value_or(false);
      });
      tell(way_of(via), second, count);
      return Next::more;
    };
  };
  FLEXI_TRY(session.aggregate(options_.collection, stages("$published"), each([&](const std::string& way, bool published, std::int64_t count) {
    counts[way] += {.accepted = published ? 0 : count, .stored = count, .duplicates = 0};
  })));
  FLEXI_TRY(session.aggregate(repeats_, stages("$off"), each([&](const std::string& way, bool taken_off, std::int64_t count) {
    counts[way] += {.accepted = taken_off ? -count : 0, .stored = 0, .duplicates = count};
  })));
  return counts;
}

Result<std::int64_t> Ledger::newest(Session& session, const std::string& collection, Range range) {
  Bson filter;
  filter.document("seq", between(range.first, range.last));
  FindOptions how;
  how.projection.small_integer("seq", 1);
  how.sort.small_integer("seq", -1);
  how.limit = 1;
  std::int64_t seq = range.first - 1;
  FLEXI_TRY(session.find(collection, filter, how, [&](Fields fields) { return seq = std::max(seq, fields.integer("seq").value_or(seq)), Next::enough; }));
  return seq;
}

/// What stands above its `upto` is counted into it, in one change of one document, which frees it.
Result<void> Ledger::close(Session& session, const Slot& slot) {
  FLEXI_TRY(auto mine, [&]() -> Result<bool> {
    auto filter = key_of_slot(slot.number);
    filter.text("token", slot.token).integer("beat", slot.beat).boolean("free", false);
    Bson set, beat, change;
    set.text("token", token_ + "-closing");
    beat.integer("beat", 1);
    change.document("$set", set).document("$inc", beat);
    return session.update(collection_, filter, change);
  }());
  if (!mine) return core::ok();  // its owner is there after all, or another was faster
  const auto tail = slot.tail();
  FLEXI_TRY(auto entries, newest(session, options_.collection, tail));
  FLEXI_TRY(auto repeats, newest(session, repeats_, tail));
  const Range left{tail.first, std::max(entries, repeats)};
  auto counts = slot.stored.counts;
  FLEXI_TRY(auto counted, count(session, {left}));
  add(counts, counted);
  auto filter = key_of_slot(slot.number);
  filter.text("token", token_ + "-closing");
  Bson set, change;
  set.integer("upto", left.last).document("counts", counts_to_bson(counts)).boolean("free", true);
  change.document("$set", set);
  FLEXI_TRY(session.update(collection_, filter, change));
  return core::ok();
}

Result<void> Ledger::close_abandoned(Session& session) {
  FLEXI_TRY(auto all, slots(session));
  const auto now = Clock::now();
  for (auto& slot : all) {
    auto& seen = seen_[slot.number];
    if (slot.free || slot.token == token_ || seen.token != slot.token || seen.beat != slot.beat) {
      seen = {slot.token, slot.beat, now};
      continue;
    }
    if (now - seen.since < options_.abandoned_after) continue;
    FLEXI_TRY(close(session, slot));
  }
  return core::ok();
}

Result<void> Ledger::settle_doubts(Session& session, Clock::time_point then) {
  std::vector<Range> ranges;
  {
    std::lock_guard lock(mutex_);
    ranges = account_.doubted_before(then);
  }
  for (auto& range : ranges) {
    FLEXI_TRY(auto counts, count(session, {range}));
    settle(range, counts);
  }
  return core::ok();
}

Ledger::Range Ledger::take(std::size_t count) {
  std::lock_guard lock(mutex_);
  return account_.take(count);
}
void Ledger::settle(Range range, const LedgerCounts& counts) {
  std::lock_guard lock(mutex_);
  account_.settle(range, counts);
}
void Ledger::doubt(Range range) {
  std::lock_guard lock(mutex_);
  account_.doubt(range, Clock::now());
}

Result<core::Account> Ledger::account(Session& session) {
  FLEXI_TRY(auto all, slots(session));
  LedgerCounts sum;
  std::int64_t own = -1;
  core::Account account;
  std::vector<Range> open;  ///< what counts by its documents
  {
    // Behind the slots: what another process counted meanwhile is not missed, for its documents stay.
    std::lock_guard lock(mutex_);
    if (book_.empty()) return core::unavailable("MongoDB has not been reached yet");
    account.book = book_;
    if (claimed_) {
      own = account_.slot();
      sum = account_.total();
      open = account_.doubted_before(Clock::time_point::max());
    }
  }
  for (auto& slot : all) {
    if (slot.number == own) continue;
    add(sum, slot.stored.counts);
    if (!slot.free) open.push_back(slot.tail());
  }
  FLEXI_TRY(auto counts, count(session, open));
  add(sum, counts);
  for (auto& [way, count] : sum) {
    account.lines.push_back({.action = std::string(core::actions::kLog), .way = way});
    auto& line = account.lines.back();
    line.accepted = count.accepted, line.stored = count.stored, line.duplicates = count.duplicates;
  }
  return account;
}

Result<Ledger::Counted> Ledger::counted(Session& session) {
  FLEXI_TRY(auto all, slots(session));
  Counted counted;
  for (auto& slot : all) counted.add(slot.number, slot.stored.upto);
  return counted;
}

}  // namespace flexi::stores::mongo
