// SPDX-License-Identifier: Apache-2.0
#include "stores/mongo/upkeep.hpp"

#include "core/timestamp.hpp"
#include "stores/mongo/document.hpp"

namespace flexi::stores::mongo {

using core::Result;
using Clock = LedgerAccount::Clock;

namespace {

constexpr std::chrono::hours kRepeatsKept(24 * 90);
constexpr std::chrono::milliseconds kDoubtHold(60'000);  ///< by then no statement of a connection that broke is on its way any more
constexpr std::int64_t kRemovedAtOnce = 1'000;
constexpr int kNoSuchCollection = 26, kIndexConflict = 85, kIndexKeyConflict = 86;

}  // namespace

Upkeep::Upkeep(Parts parts) : parts_(std::move(parts)) {
  watcher_ = std::thread([this] { watch(); });
  housekeeper_ = std::thread([this] { keep_house(); });
}

Upkeep::~Upkeep() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  watcher_.join();
  housekeeper_.join();
}

void Upkeep::look() {
  {
    std::lock_guard lock(mutex_);
    asked_ = true;
  }
  wake_.notify_all();
}

/// @return false when it is time to stop
bool Upkeep::pause(std::chrono::milliseconds time, bool* wake) {
  std::unique_lock lock(mutex_);
  wake_.wait_for(lock, time, [&] { return stopping_ || (wake && *wake); });
  if (wake) *wake = false;
  return !stopping_;
}

Result<void> Upkeep::check(std::optional<Session>& session) {
  FLEXI_TRY(parts_.server.resolve());
  // Anew after each failure: the driver leaves an address that failed alone for 5 s.
  if (!session) session.emplace(parts_.server.probe());
  FLEXI_TRY(session->ping());
  if (!parts_.health.well() || parts_.ledger.due()) {
    FLEXI_TRY(parts_.ledger.keep(*session));
  }
  return core::ok();
}

void Upkeep::watch() {
  std::optional<Session> session;
  do {
    auto checked = check(session);
    if (checked) {
      if (!parts_.health.well()) {
        up_since_ = Clock::now().time_since_epoch().count();
        parts_.health.up();
        parts_.log.info("MongoDB is there", {{"database", parts_.options.database}, {"collection", parts_.options.collection}});
      }
    } else {
      session.reset();
      if (parts_.health.down(checked.error()))
        parts_.log.warning("MongoDB can't be used", {{"error", checked.error().message}, {"detail", checked.error().detail}});
    }
  } while (pause(parts_.options.check_interval, &asked_));
  if (session && parts_.health.well()) parts_.ledger.release(*session);
}

void Upkeep::keep_house() {
  auto next = Clock::now();
  while (pause(std::min<std::chrono::milliseconds>(parts_.options.housekeeping_interval, std::chrono::milliseconds(200)), nullptr)) {
    if (!parts_.health.well() || Clock::now() < next) continue;
    auto session = parts_.server.session();
    Result<void> done = core::ok();
    if (!indexed_) done = make_indexes(session);
    if (done) done = clean(session);
    if (!done) parts_.log.warning("MongoDB's upkeep failed, it is tried again", {{"error", done.error().message}, {"detail", done.error().detail}});
    next = Clock::now() + parts_.options.housekeeping_interval;
  }
}

Result<void> Upkeep::make_index(Session& session, const std::string& collection, const Bson& keys, bool sparse) {
  std::string name;  // created_at_-1__id_-1, as MongoDB's tools name them
  for (char c : keys.json()) {
    if ((c >= 'a' && c <= 'z') || c == '_' || c == '1' || c == '-') name += c;
    else if (c == ':' || c == ',') name += '_';
  }
  Bson command, index;
  index.document("key", keys).text("name", name);
  if (sparse) index.boolean("sparse", true);
  std::vector<Bson> one;
  one.push_back(std::move(index));
  command.text("createIndexes", collection).array("indexes", one);
  auto made = session.command(command);
  if (made || session.unreachable()) return made;
  // Somebody's own index of the same fields does as well; and one that is refused leaves all others of use.
  if (session.code() != kIndexConflict && session.code() != kIndexKeyConflict)
    parts_.log.warning("MongoDB made no index", {{"collection", collection}, {"index", name}, {"detail", made.error().detail}});
  return core::ok();
}

Result<void> Upkeep::make_indexes(Session& session) {
  const auto& logs = parts_.options.collection;
  Bson by_time, by_name, by_trace, by_seq, by_original, by_age;
  by_time.small_integer("created_at", -1).small_integer("created_us", -1).small_integer("_id", -1);
  by_name.small_integer("name", 1).small_integer("created_at", -1).small_integer("created_us", -1).small_integer("_id", -1);
  by_trace.small_integer("trace_id", 1);
  by_seq.small_integer("seq", 1);
  by_original.small_integer("of", 1);
  by_age.small_integer("at", 1);
  FLEXI_TRY(make_index(session, logs, by_time, false));
  FLEXI_TRY(make_index(session, logs, by_name, false));
  FLEXI_TRY(make_index(session, logs, by_trace, true));
  FLEXI_TRY(make_index(session, logs, by_seq, true));
  FLEXI_TRY(make_index(session, parts_.ledger.repeats(), by_original, false));
  FLEXI_TRY(make_index(session, parts_.ledger.repeats(), by_seq, true));
  FLEXI_TRY(make_index(session, parts_.ledger.repeats(), by_age, false));
  FLEXI_TRY(auto there, find_text_index(session));
  if (!there && parts_.options.text_index) {
    FLEXI_TRY(make_text_index(session));
    FLEXI_TRY(there, find_text_index(session));
  }
  indexed_ = true;
  has_text_index_ = there;
  return core::ok();
}

/// Without stemming and stop words, as the embedded store searches; and without a field that names a document's language, for that of
/// another program's documents may hold anything.
Result<void> Upkeep::make_text_index(Session& session) {
  Bson keys, index, command;
  keys.text("name", "text").text("data", "text");
  index.document("key", keys).text("name", "flexi_text").text("default_language", "none").text("language_override", "flexi_language");
  std::vector<Bson> one;
  one.push_back(std::move(index));
  command.text("createIndexes", parts_.options.collection).array("indexes", one);
  auto made = session.command(command);
  if (made || session.unreachable()) return made;
  parts_.log.info("MongoDB has no text index, searches match entry by entry", {{"detail", made.error().detail}});
  return core::ok();
}

Result<bool> Upkeep::find_text_index(Session& session) {
  Bson command;
  command.text("listIndexes", parts_.options.collection);
  bool found = false;
  auto listed = session.command(command, [&](Fields reply) {
    reply.with("cursor", [&](Fields cursor) {
      cursor.for_each("firstBatch", [&](const char*, Fields index) {
        index.with("weights", [&](Fields weights) { found = found || (weights.has("name") && weights.has("data")); });
      });
    });
  });
  if (!listed && (session.unreachable() || session.code() != kNoSuchCollection)) return listed.error();
  return found;
}

Result<void> Upkeep::clean(Session& session) {
  const Clock::time_point up_since{Clock::duration(up_since_)};
  const auto now = Clock::now();
  if (now - up_since >= kDoubtHold) {
    FLEXI_TRY(parts_.ledger.settle_doubts(session, now - kDoubtHold));
  }
  FLEXI_TRY(parts_.ledger.close_abandoned(session));
  if (parts_.options.retention.count() > 0) {
    FLEXI_TRY(remove_before(session, parts_.options.collection, "created_at", std::chrono::system_clock::now() - parts_.options.retention));
  }
  return remove_before(session, parts_.ledger.repeats(), "at", std::chrono::system_clock::now() - kRepeatsKept);
}

/// The oldest first. What the ledger has not counted yet stays until it has.
Result<void> Upkeep::remove_before(Session& session, const std::string& collection, const char* field, core::Timestamp time) {
  FLEXI_TRY(auto counted, parts_.ledger.counted(session));
  Bson filter, older;
  older.date("$lt", split(core::to_unix_micros(time)).milliseconds);
  filter.document(field, older);
  for (;;) {
    FindOptions how;
    how.projection.small_integer("seq", 1);
    how.sort.small_integer(field, 1);
    how.limit = kRemovedAtOnce;
    std::vector<ObjectId> ids;
    std::int64_t seen = 0;
    FLEXI_TRY(session.find(collection, filter, how, [&](Fields fields) {
      ++seen;
      auto id = fields.id("_id");
      auto seq = fields.integer("seq");
      if (id && (!seq || counted.holds(*seq))) ids.push_back(*id);
      return Next::more;
    }));
    if (ids.empty()) return core::ok();
    Bson in, those;
    in.ids("$in", ids);
    those.document("_id", in);
    FLEXI_TRY(session.remove(collection, those));
    if (seen < kRemovedAtOnce || !pause(std::chrono::milliseconds(0), nullptr)) return core::ok();
  }
}

}  // namespace flexi::stores::mongo
