// SPDX-License-Identifier: Apache-2.0
#include "stores/mongo/writer.hpp"

#include <algorithm>

#include "core/hops.hpp"
#include "core/timestamp.hpp"
#include "stores/mongo/document.hpp"

namespace flexi::stores::mongo {

using core::Appended, core::Result;

namespace {

constexpr std::size_t kBatchBytes = 12 * 1024 * 1024;  ///< with one more of the largest, one message of the protocol (48 MB) still
constexpr std::size_t kOverhead = 512;                 ///< of an entry beside its texts
constexpr int kRounds = 2 * static_cast<int>(kPlaces);

core::Error overloaded(const char* what) {
  auto error = core::overloaded("the log database is busy, try again later", std::string("too many ") + what + " wait for MongoDB");
  error.retry_after = std::chrono::seconds(1);
  return error;
}

}  // namespace

ObjectId Writer::Entry::place() const { return place_of(record.id, attempt); }

Writer::Writer(Parts parts) : parts_(std::move(parts)) {
  batches_ = parts_.metrics.counter("flexi_mongodb_batches_total", "Bulk inserts into MongoDB");
  entries_ = parts_.metrics.counter("flexi_mongodb_entries_total", "Log entries that MongoDB has stored for the first time");
  failed_ = parts_.metrics.counter("flexi_mongodb_failed_batches_total", "Bulk inserts that MongoDB did not acknowledge");
  for (std::int64_t i = 0; i < parts_.options.write_connections; ++i) threads_.emplace_back([this] { work(); });
}

Writer::~Writer() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (auto& thread : threads_) thread.join();
}

core::awaitable<Result<Appended>> Writer::append(core::LogRecord record, core::CallContext context) {
  if (context.expired()) co_return runtime::cancelled_error(core::Sent::no);
  record.hops = core::shorten_hops(record.hops, record.created_at);
  if (auto fits = check_document(record); !fits) co_return fits.error();
  auto left = std::make_shared<std::atomic<bool>>(false);
  Entry entry{.record = std::move(record), .context = std::move(context), .completion = {}, .left = left};
  entry.bytes = entry.record.name.size() + entry.record.data.size() + kOverhead;
  auto start = [this, entry = std::move(entry)](std::shared_ptr<runtime::Completion<Appended>> completion) mutable {
    entry.completion = completion;
    if (auto submitted = submit(std::move(entry)); !submitted) completion->complete(submitted.error());
  };
  auto result = co_await runtime::wait_for_completion<Appended>(std::move(start), runtime::cancelled_error(core::Sent::maybe));
  *left = true;
  co_return result;
}

Result<void> Writer::submit(Entry entry) {
  if (!parts_.health.well()) return parts_.health.why();
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return core::unavailable("the log database is closing");
    if (queue_.size() >= static_cast<std::size_t>(parts_.options.queue_limit)) return overloaded("entries");
    // One that is larger than the limit by itself is taken all the same, or it never could be.
    if (bytes_ != 0 && bytes_ + entry.bytes > static_cast<std::size_t>(parts_.options.queue_bytes)) return overloaded("bytes");
    bytes_ += entry.bytes;
    queue_.push_back(std::move(entry));
  }
  wake_.notify_one();
  return core::ok();
}

Writer::Batch Writer::take() {
  std::unique_lock lock(mutex_);
  wake_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
  Batch batch;
  std::size_t bytes = 0;
  while (!queue_.empty() && batch.size() < static_cast<std::size_t>(parts_.options.batch_entries) && bytes < kBatchBytes) {
    bytes += queue_.front().bytes;
    batch.push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  if (!queue_.empty()) wake_.notify_one();
  return batch;
}

void Writer::work() {
  for (;;) {
    auto batch = take();
    if (batch.empty()) return;  // stopping
    std::size_t bytes = 0;
    for (auto& entry : batch) bytes += entry.bytes;
    store(batch);
    {
      std::lock_guard lock(mutex_);
      bytes_ -= bytes;
    }
    answer(std::move(batch));
    // On busy cores those just answered come again at once: letting them first makes the next batch as large as this one.
    std::this_thread::yield();
  }
}

void Writer::store(Batch& batch) {
  std::vector<Entry*> todo;
  for (auto& entry : batch) {
    if (!entry.wants_answer()) entry.result = runtime::cancelled_error(core::Sent::no);
    else todo.push_back(&entry);
  }
  if (todo.empty()) return;
  if (parts_.health.well() && !parts_.ledger.kept()) {
    parts_.health.down(core::unavailable("MongoDB's ledger must be looked at first", "this process was away for too long"));
    parts_.look();
  }
  if (!parts_.health.well()) return fail(todo, {parts_.health.why(), 0, false});
  auto session = parts_.server.session();
  for (int round = 0; !todo.empty() && round < kRounds; ++round) todo = look_up(session, insert(session, todo));
  fail(todo, {core::unavailable("MongoDB has no place for the entry", "its _id is taken, and what took it is not found"), 0, false});
  count_repeats(session, batch);
}

/// @return those whose place was taken
std::vector<Writer::Entry*> Writer::insert(Session& session, const std::vector<Entry*>& entries) {
  const auto range = parts_.ledger.take(entries.size());
  std::vector<Bson> documents;
  documents.reserve(entries.size());
  for (std::size_t i = 0; i < entries.size(); ++i)
    documents.push_back(to_document(entries[i]->record, entries[i]->place(), range.first + static_cast<std::int64_t>(i)));
  auto inserted = session.insert(parts_.options.collection, documents);
  batches_.add();
  std::vector<Entry*> taken, others = entries;
  for (auto& refused : inserted.refused) {
    others[refused.index] = nullptr;
    if (refused.duplicate) taken.push_back(entries[refused.index]);
    else entries[refused.index]->result = refused.error;
  }
  std::erase(others, nullptr);
  if (inserted.failure) {
    if (inserted.failure->error.sent == core::Sent::maybe) parts_.ledger.doubt(range);
    else parts_.ledger.settle(range, {});
    fail(others, *inserted.failure);
    fail(taken, *inserted.failure);
    return {};
  }
  LedgerCounts counts;
  for (auto* entry : others) {
    entry->result = Appended::stored;
    if (!entry->record.moved) counts[way_of(entry->record.via)] += {.accepted = entry->record.published ? 0 : 1, .stored = 1, .duplicates = 0};
  }
  parts_.ledger.settle(range, counts);
  entries_.add(static_cast<double>(others.size()));
  return taken;
}

void Writer::fail(const std::vector<Entry*>& entries, const Failure& failure) {
  if (entries.empty()) return;
  for (auto* entry : entries) entry->result = failure.error;
  failed_.add();
  if (failure.unreachable && parts_.health.down(failure.error))
    parts_.log.warning("MongoDB failed", {{"error", failure.error.message}, {"detail", failure.error.detail}});
  parts_.look();  // one connection that broke is not the server's end, but may be its first sign
}

/// What took a place: the same message, or another. @return those that must be inserted again, elsewhere or where nothing is any more
std::vector<Writer::Entry*> Writer::look_up(Session& session, const std::vector<Entry*>& taken) {
  if (taken.empty()) return {};
  std::multimap<ObjectId, Entry*> by_place;
  std::vector<ObjectId> places;
  for (auto* entry : taken) {
    auto place = entry->place();
    if (!by_place.contains(place)) places.push_back(place);
    by_place.emplace(place, entry);
  }
  Bson filter;
  if (places.size() == 1) {
    filter.id("_id", places.front());
  } else {
    Bson in;
    in.ids("$in", places);
    filter.document("_id", in);
  }
  std::vector<Entry*> again;
  auto found = session.find(parts_.options.collection, filter, {}, [&](Fields there) {
    auto [first, last] = by_place.equal_range(there.id("_id").value_or(ObjectId{}));
    for (auto at = first; at != last; at = by_place.erase(at)) {
      auto& entry = *at->second;
      if (is_message(there, entry.record.id)) compare(entry, there);
      else if (++entry.attempt < kPlaces) again.push_back(&entry);
      else entry.result = core::unavailable("MongoDB has no place for the entry", "all its _ids are taken by others");
    }
    return Next::more;
  });
  std::vector<Entry*> gone;
  for (auto& [place, entry] : by_place) gone.push_back(entry);
  if (!found) {
    gone.insert(gone.end(), again.begin(), again.end());
    fail(gone, {found.error(), session.code(), session.unreachable()});
    return {};
  }
  again.insert(again.end(), gone.begin(), gone.end());
  return again;
}

void Writer::compare(Entry& entry, Fields there) {
  if (there.text("name") != std::string_view(entry.record.name) || there.text("data") != std::string_view(entry.record.data)) {
    entry.result = core::conflict("the id " + entry.record.id.str() + " belongs to another log entry");
    return;
  }
  if (entry.record.moved) {
    entry.result = Appended::duplicate;
    return;
  }
  entry.repeats = entry.place();
  entry.first_via = core::via_from(there.text("via").value_or("")).value_or(core::Via::automatic);
  entry.first_accepted_at = there.date("created_at").value_or(0) * 1000 + there.integer("created_us").value_or(0);
}

/// Each repetition is a document of its own, so that it counts in the step that writes it. Another acceptance of a stored id, which its publisher
/// has counted, is taken off again: once, for the first document of an acceptance has an `_id` that follows from it.
void Writer::count_repeats(Session& session, Batch& batch) {
  std::vector<Entry*> repeated;
  for (auto& entry : batch)
    if (entry.repeats) repeated.push_back(&entry);
  insert_repeats(session, insert_repeats(session, repeated, false), true);
}

std::vector<Writer::Entry*> Writer::insert_repeats(Session& session, const std::vector<Entry*>& entries, bool again) {
  if (entries.empty()) return {};
  const auto range = parts_.ledger.take(entries.size());
  const auto now = split(core::to_unix_micros(std::chrono::system_clock::now())).milliseconds;
  std::vector<Bson> documents(entries.size());
  std::vector<bool> off(entries.size());
  for (std::size_t i = 0; i < entries.size(); ++i) {
    auto& entry = *entries[i];
    const auto accepted_at = core::to_unix_micros(entry.record.created_at);
    off[i] = !again && entry.record.published && !(entry.record.via == entry.first_via && accepted_at == entry.first_accepted_at);
    auto& document = documents[i];
    document.id("_id", off[i] ? repeat_id(entry.record.id, entry.record.via, accepted_at) : ObjectId::generate());
    document.id("of", *entry.repeats).text("message_id", entry.record.id.str()).text("via", core::to_string(entry.record.via));
    if (off[i]) document.boolean("off", true);
    document.date("at", now).integer("seq", range.first + static_cast<std::int64_t>(i));
  }
  auto inserted = session.insert(parts_.ledger.repeats(), documents);
  std::vector<Entry*> known, others = entries;
  for (auto& refused : inserted.refused) {
    others[refused.index] = nullptr;
    if (refused.duplicate) known.push_back(entries[refused.index]);
    else entries[refused.index]->result = refused.error;
  }
  if (inserted.failure) {
    if (inserted.failure->error.sent == core::Sent::maybe) parts_.ledger.doubt(range);
    else parts_.ledger.settle(range, {});
    std::erase(others, nullptr);
    fail(others, *inserted.failure);
    fail(known, *inserted.failure);
    return {};
  }
  LedgerCounts counts;
  for (std::size_t i = 0; i < others.size(); ++i) {
    if (!others[i]) continue;
    others[i]->result = Appended::duplicate;
    counts[way_of(others[i]->record.via)] += {.accepted = off[i] ? -1 : 0, .stored = 0, .duplicates = 1};
  }
  parts_.ledger.settle(range, counts);
  return known;
}

/// Each executor gets one post for all its answers: a wake-up per caller would cost more than the insert.
void Writer::answer(Batch batch) {
  while (!batch.empty()) {
    auto executor = batch.front().completion->executor();
    auto middle = std::stable_partition(batch.begin(), batch.end(), [&](auto& entry) { return entry.completion->executor() != executor; });
    auto mine = std::make_shared<Batch>(std::make_move_iterator(middle), std::make_move_iterator(batch.end()));
    batch.erase(middle, batch.end());
    boost::asio::post(executor, [mine] {
      for (auto& entry : *mine)
        entry.completion->resolve(entry.result ? std::move(*entry.result) : Result<Appended>(core::internal("internal error", "an entry without an answer")));
    });
  }
}

}  // namespace flexi::stores::mongo
