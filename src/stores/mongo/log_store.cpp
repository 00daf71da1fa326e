// SPDX-License-Identifier: Apache-2.0
#include "stores/mongo/log_store.hpp"

#include <algorithm>
#include <map>
#include <thread>

#include "core/timestamp.hpp"
#include "runtime/blocking_pool.hpp"
#include "runtime/page_budget.hpp"
#include "stores/mongo/document.hpp"
#include "stores/mongo/log_query.hpp"
#include "stores/mongo/upkeep.hpp"
#include "stores/mongo/writer.hpp"

namespace flexi::stores::mongo {

using core::Result;

namespace {

constexpr int kIndexNotFound = 27;

/// Collects entries until the page is full.
class PageBuilder {
 public:
  explicit PageBuilder(std::size_t limit) : limit_(limit) {}
  /// @return false when the page was full: this entry belongs to the next page
  bool add(const LogPosition& position, core::LogRecord record) {
    if (page_.records.size() == limit_ || !budget_.take({record.name, record.data, record.hops})) {
      page_.next = to_cursor(last_);
      return false;
    }
    last_ = position;
    page_.records.push_back(std::move(record));
    return true;
  }
  std::size_t room() const { return limit_ + 1 - page_.records.size(); }
  core::LogPage take() { return std::move(page_); }

 private:
  std::size_t limit_;
  runtime::PageBudget budget_;
  LogPosition last_{};
  core::LogPage page_;
};

class Store final : public MongoLogStore {
 public:
  Store(MongoOptions options, runtime::LogSink& log) : options_(std::move(options)), log_(log), health_(options_.on_health), ledger_(options_) {}
  /// What refers to others goes first.
  ~Store() override {
    readers_.reset();
    writer_.reset();
    upkeep_.reset();
  }

  Result<void> start(runtime::Metrics& metrics) {
    FLEXI_TRY(server_, Server::make(options_));
    upkeep_ = std::make_unique<Upkeep>(Upkeep::Parts{options_, *server_, ledger_, health_, log_});
    auto look = [upkeep = upkeep_.get()] { upkeep->look(); };
    writer_ = std::make_unique<Writer>(Writer::Parts{options_, *server_, ledger_, health_, std::move(look), log_, metrics});
    readers_ = std::make_unique<runtime::BlockingPool>(
        runtime::BlockingPoolOptions{.name = "the log database",
                                     .threads = static_cast<unsigned>(options_.read_connections),
                                     .queue_limit = static_cast<std::size_t>(options_.read_queue_limit)});
    return core::ok();
  }

  Result<void> wait_until_ready(std::chrono::milliseconds time) override {
    const auto end = std::chrono::steady_clock::now() + time;
    while (!health_.well() && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    if (!health_.well()) return health_.why();
    return core::ok();
  }

  core::awaitable<Result<core::Appended>> append(core::LogRecord record, core::CallContext context) override {
    return writer_->append(std::move(record), std::move(context));
  }
  core::awaitable<Result<core::LogPage>> list(core::LogQuery query, core::CallContext context) override;
  core::awaitable<Result<core::FoundLog>> find(core::MessageId id, core::CallContext context) override;
  core::awaitable<Result<core::KnownIds>> known(std::vector<core::MessageId> ids, core::CallContext context) override;

  std::string_view source_name() const override { return "mongodb"; }
  core::awaitable<Result<std::vector<core::Account>>> accounts(core::CallContext context) override;

 private:
  /// Runs a reading job on a thread that may block.
  template <class Job>
  auto read(core::CallContext context, Job job) -> core::awaitable<std::invoke_result_t<Job&, Session&>> {
    using R = std::invoke_result_t<Job&, Session&>;
    auto guarded = [this, context, job = std::move(job)]() mutable -> R {
      if (!health_.well()) return health_.why();
      auto session = server_->session();
      auto result = job(session);
      if (result) return result;
      if (session.unreachable()) health_.down(result.error());
      if (result.error().kind == core::ErrorKind::unavailable) upkeep_->look();
      if (context.expired()) return core::deadline_exceeded("the search took too long, narrow it or allow more time", result.error().detail);
      return result;
    };
    return readers_->run(std::move(guarded), std::move(context));
  }

  /// What the server may spend: the caller waits no longer, and the connection neither.
  std::chrono::milliseconds time_for(const core::CallContext& context) const {
    return std::max(std::chrono::milliseconds(1), std::min(context.remaining(), options_.socket_timeout * 9 / 10));
  }
  core::Timestamp oldest_kept() const {
    return options_.retention.count() > 0 ? std::chrono::system_clock::now() - options_.retention : core::Timestamp::min();
  }
  Result<core::LogPage> page(Session& session, const core::LogQuery& query, const LogWords& words, LogRange range, std::optional<LogPosition> after,
                             const core::CallContext& context);
  Result<bool> fill(Session& session, const core::LogQuery& query, const LogWords& words, const LogRange& range, std::optional<LogPosition> after,
                    bool dated, const core::CallContext& context, PageBuilder& page);
  Result<core::FoundLog> find_now(Session& session, const core::MessageId& id);
  Result<core::KnownIds> known_now(Session& session, const std::vector<core::MessageId>& ids);

  const MongoOptions options_;
  runtime::LogSink& log_;
  Health health_;
  Ledger ledger_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<Upkeep> upkeep_;
  std::unique_ptr<Writer> writer_;
  std::unique_ptr<runtime::BlockingPool> readers_;
};

core::awaitable<Result<core::LogPage>> Store::list(core::LogQuery query, core::CallContext context) {
  if (query.limit < 1 || query.limit > 500) co_return core::invalid_argument("limit must be 1 to 500");
  std::optional<LogPosition> after;
  if (!query.cursor.empty()) {
    auto position = from_cursor(query.cursor);
    if (!position) co_return position.error();
    after = position.value();
  }
  auto words = read_words(query.q);
  if (!words) co_return words.error();
  LogRange range;
  if (query.since) range.least = core::to_unix_micros(*query.since);
  if (query.until) range.end = core::to_unix_micros(*query.until);
  // Expired entries wait to be removed, but nobody sees them meanwhile.
  if (options_.retention.count() > 0) range.least = std::max(range.least, core::to_unix_micros(oldest_kept()));
  auto job = [this, query = std::move(query), words = std::move(words.value()), range, after, context](Session& session) {
    return page(session, query, words, range, after, context);
  };
  co_return co_await read(std::move(context), std::move(job));
}

Result<core::LogPage> Store::page(Session& session, const core::LogQuery& query, const LogWords& words, LogRange range, std::optional<LogPosition> after,
                                  const core::CallContext& context) {
  if (words.nothing) return core::LogPage{};
  PageBuilder page(query.limit);
  if (!after || after->dated) {
    FLEXI_TRY(auto full, fill(session, query, words, range, after, true, context, page));
    if (full) return page.take();
    after.reset();
  }
  const bool asks_for_time = query.since || query.until;
  if (!asks_for_time) {
    FLEXI_TRY(fill(session, query, words, range, after, false, context, page));
  }
  return page.take();
}

/// @return whether the page is full
Result<bool> Store::fill(Session& session, const core::LogQuery& query, const LogWords& words, const LogRange& range, std::optional<LogPosition> after,
                         bool dated, const core::CallContext& context, PageBuilder& page) {
  for (;;) {
    FindOptions how;
    how.sort = make_sort(dated);
    how.limit = static_cast<std::int64_t>(page.room());
    how.time = time_for(context);
    how.anywhere = true;
    std::int64_t seen = 0;
    bool full = false;
    const auto index = upkeep_->text_index();
    auto found = session.find(options_.collection, make_filter(query, words, range, after, dated, index), how, [&](Fields fields) {
      ++seen;
      auto id = fields.id("_id");
      if (!id) return Next::more;
      const auto micros = fields.integer("created_us").value_or(-1);
      const LogPosition position{dated, fields.date("created_at").value_or(0), micros >= 0 && micros <= 999 ? static_cast<int>(micros) : -1, *id};
      after = position;
      auto record = read_record(*id, fields);
      if (dated && !range.holds(core::to_unix_micros(record.created_at))) return Next::more;
      full = !page.add(position, std::move(record));
      return full ? Next::enough : Next::more;
    });
    if (!found && session.code() == kIndexNotFound && index == TextIndex::present) {
      upkeep_->text_index_is_gone();
      continue;
    }
    if (!found) return found.error();
    if (full || seen < how.limit) return full;
  }
}

core::awaitable<Result<core::FoundLog>> Store::find(core::MessageId id, core::CallContext context) {
  auto job = [this, id = std::move(id)](Session& session) { return find_now(session, id); };
  co_return co_await read(std::move(context), std::move(job));
}

Result<core::FoundLog> Store::find_now(Session& session, const core::MessageId& id) {
  std::optional<core::FoundLog> found;
  ObjectId place;
  bool taken = true;
  const auto look_at = [&](const ObjectId& at) {
    Bson filter;
    filter.id("_id", at);
    taken = false;
    return session.find(options_.collection, filter, {}, [&](Fields fields) {
      taken = true;
      auto record = read_record(at, fields);
      if (record.id == id) found.emplace(core::FoundLog{std::move(record), {}}), place = at;
      return Next::enough;
    });
  };
  // Only where another has a place can it be at the next.
  for (unsigned attempt = 0; attempt < kPlaces && taken && !found; ++attempt) {
    FLEXI_TRY(look_at(place_of(id, attempt)));
  }
  if (auto others = ObjectId::from_hex(id.str()); others && !found) {
    FLEXI_TRY(look_at(*others));
  }
  if (!found || found->record.created_at < oldest_kept()) return core::not_found("no log entry with this id");
  Bson match, stage, group, one, of;
  of.id("of", place);
  match.document("$match", of);
  one.small_integer("$sum", 1);
  group.null("_id").document("count", one);
  stage.document("$group", group);
  std::vector<Bson> stages;
  stages.push_back(std::move(match));
  stages.push_back(std::move(stage));
  found->duplicates = 0;
  FLEXI_TRY(session.aggregate(ledger_.repeats(), stages, [&](Fields row) {
    found->duplicates = static_cast<unsigned>(row.integer("count").value_or(0));
    return Next::enough;
  }));
  return std::move(*found);
}

core::awaitable<Result<core::KnownIds>> Store::known(std::vector<core::MessageId> ids, core::CallContext context) {
  if (ids.size() > core::KnownIds::kMost) co_return core::invalid_argument("at most " + std::to_string(core::KnownIds::kMost) + " ids at once");
  auto job = [this, ids = std::move(ids)](Session& session) { return known_now(session, ids); };
  co_return co_await read(std::move(context), std::move(job));
}

Result<core::KnownIds> Store::known_now(Session& session, const std::vector<core::MessageId>& ids) {
  std::vector<core::MessageId> there;
  std::multimap<ObjectId, const core::MessageId*> wanted;  ///< who would be at a place
  for (auto& id : ids) {
    wanted.emplace(place_of(id, 0), &id);
    if (auto others = ObjectId::from_hex(id.str())) wanted.emplace(*others, &id);
  }
  for (unsigned attempt = 0; attempt < kPlaces && !wanted.empty(); ++attempt) {
    std::vector<ObjectId> places;
    for (auto& [place, id] : wanted)
      if (places.empty() || places.back() != place) places.push_back(place);
    Bson filter, in;
    in.ids("$in", places);
    filter.document("_id", in);
    FindOptions how;
    how.projection.small_integer("message_id", 1);
    std::multimap<ObjectId, const core::MessageId*> next;  // only where another has a place can it be at the next
    FLEXI_TRY(session.find(options_.collection, filter, how, [&](Fields fields) {
      auto at = fields.id("_id");
      if (!at) return Next::more;
      there.push_back(read_record(*at, fields).id);
      auto [first, last] = wanted.equal_range(*at);
      for (; first != last; ++first)
        if (*first->second != there.back() && attempt + 1 < kPlaces) next.emplace(place_of(*first->second, attempt + 1), first->second);
      return Next::more;
    }));
    wanted = std::move(next);
  }
  std::sort(there.begin(), there.end());
  core::KnownIds known;
  for (auto& id : ids)
    if (std::binary_search(there.begin(), there.end(), id)) known.ids.push_back(id);
  // Last: what goes meanwhile was still found, or is older than this.
  if (options_.retention.count() > 0) known.kept_since = oldest_kept();
  return known;
}

core::awaitable<Result<std::vector<core::Account>>> Store::accounts(core::CallContext context) {
  auto job = [this](Session& session) -> Result<std::vector<core::Account>> {
    FLEXI_TRY(auto account, ledger_.account(session));
    return std::vector<core::Account>{std::move(account)};
  };
  co_return co_await read(std::move(context), std::move(job));
}

}  // namespace

Result<std::unique_ptr<MongoLogStore>> MongoLogStore::open(MongoOptions options, runtime::LogSink& log, runtime::Metrics& metrics) {
  auto store = std::make_unique<Store>(std::move(options), log);
  FLEXI_TRY(store->start(metrics));
  return std::unique_ptr<MongoLogStore>(std::move(store));
}

}  // namespace flexi::stores::mongo
