// SPDX-License-Identifier: Apache-2.0
#include "services/broker/published_messages.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace flexi::services::broker {

namespace asio = boost::asio;
using core::CallContext;
using core::MessageId;
using core::Published;
using core::Receipt;
using core::Reply;
using core::Result;
using std::chrono::milliseconds;

namespace {

constexpr milliseconds kPatience(2000);       ///< for one question
constexpr milliseconds kNoteTime(2000);       ///< that one note may take
constexpr std::size_t kMostNotes = 10'000;    ///< being written behind their callers' backs; then callers wait for theirs
constexpr milliseconds kBeforeReading(1000);  ///< that a reading of the ledger waits for its answers to be asked for
constexpr milliseconds kYoung(1000);          ///< what is younger is on its way, most likely
constexpr milliseconds kListAgain(60'000);
constexpr int kBatches = 50;                  ///< of one sweep

asio::awaitable<void> wait_until(CallContext::Clock::time_point time) {
  asio::steady_timer timer(co_await asio::this_coro::executor, time);
  co_await timer.async_wait(asio::use_awaitable);
}

/// Runs work on its own thread. A cancellation does not cross; the deadlines within hold.
template <class T>
core::awaitable<T> there(asio::any_io_executor executor, core::awaitable<T> work) {
  std::optional<T> result;
  auto run = [](core::awaitable<T> w, std::optional<T>* out) -> core::awaitable<void> { out->emplace(co_await std::move(w)); };
  co_await asio::co_spawn(executor, run(std::move(work), &result), asio::bind_cancellation_slot(asio::cancellation_slot(), asio::use_awaitable));
  co_return std::move(*result);
}

/// A call without anything of its caller's but the time.
CallContext within(const CallContext& context, milliseconds most) {
  CallContext own;
  own.deadline = context.deadline;
  return own.limited_to(most);
}

}  // namespace

PublishedMessages::PublishedMessages(PublishedOptions options, PublishedPorts ports)
    : options_(std::move(options)), ports_(std::move(ports)),
      unnoted_(ports_.metrics.counter("flexi_published_unnoted_total",
                                      "Messages in RabbitMQ that could not be noted: receipts don't know them until they are stored")),
      full_(ports_.metrics.counter("flexi_published_full_total",
                                   "Messages in RabbitMQ that were not noted because published.max_messages are under way")),
      scope_(ports_.executor, "published messages", ports_.log), tick_(ports_.executor), passed_(ports_.executor) {
  for (auto& action : options_.actions) followed_.emplace(action, QueueWatch(options_.hold, options_.prefetch));
}

bool PublishedMessages::follows(std::string_view action) const {
  return std::find(options_.actions.begin(), options_.actions.end(), action) != options_.actions.end();
}

core::awaitable<Result<Reply>> PublishedMessages::handle(core::Request request, CallContext context) {
  const bool followed = request.ack != core::Ack::stored && follows(request.action);
  if (!followed) co_return co_await ports_.publisher.handle(std::move(request), std::move(context));
  if (request.id.empty()) request.id = MessageId::generate();
  Published message{.action = request.action, .id = request.id, .accepted_at = request.accepted_at};
  if (message.accepted_at == core::Timestamp{}) message.accepted_at = ports_.now();
  auto result = co_await ports_.publisher.handle(std::move(request), std::move(context));
  if (!result) co_return result;
  message.noted_at = ports_.now();
  if (notes_.fetch_add(1) < kMostNotes) {
    note_behind(std::move(message));
  } else {
    co_await note(std::move(message));
    notes_.fetch_sub(1);
  }
  co_return result;
}

/// The caller has its answer meanwhile: a crash before the note is written unbalances nothing.
void PublishedMessages::note_behind(Published message) {
  asio::post(scope_.executor(), [this, message = std::move(message)]() mutable {
    const auto place = noting_.insert(noting_.end(), std::move(message));
    scope_.spawn(note_and_leave(place));
  });
}

core::awaitable<void> PublishedMessages::note_and_leave(std::list<Published>::iterator place) {
  co_await note(*place);
  noting_.erase(place);
  notes_.fetch_sub(1);
}

core::awaitable<void> PublishedMessages::note(Published message) {
  using namespace asio::experimental::awaitable_operators;
  const auto context = CallContext::with_timeout(kNoteTime);
  std::string why = "it takes too long";
  try {
    auto noted = co_await (ports_.store.note(std::move(message), context) || wait_until(context.deadline));
    if (auto* answer = std::get_if<0>(&noted)) {
      if (*answer && answer->value() == core::Noted::full) {
        full_.add();
        if (!notes_full_.exchange(true))
          ports_.log.warning("more messages are in RabbitMQ than are followed", {{"setting", "published.max_messages"}});
        co_return;
      }
      if (*answer) {
        if (noting_fails_.exchange(false)) ports_.log.info("messages in RabbitMQ are noted again");
        notes_full_ = false;
        co_return;
      }
      why = answer->error().message;
    }
  } catch (const std::exception& e) {  // also what a caller leaves behind who went away
    why = e.what();
  }
  unnoted_.add();
  if (!noting_fails_.exchange(true))
    ports_.log.warning("messages in RabbitMQ can't be noted: receipts don't know them until they are stored", {{"reason", why}});
}

// What waits for its end.

void PublishedMessages::start(std::map<std::string, Ask> stores, milliseconds period) {
  asio::post(scope_.executor(), [this, stores = std::move(stores), period]() mutable {
    stores_ = std::move(stores);
    if (!stopping_) scope_.spawn(follow(period));
  });
}

core::awaitable<void> PublishedMessages::stop() {
  auto work = [](PublishedMessages* self) -> core::awaitable<void> {
    co_await asio::this_coro::throw_if_cancelled(false);
    self->stopping_ = true;
    self->tick_.cancel();
    co_await self->scope_.join();
  };
  co_await asio::co_spawn(scope_.executor(), work(this), asio::use_awaitable);
}

core::awaitable<void> PublishedMessages::follow(milliseconds period) {
  while (!stopping_) {
    co_await reconcile(kYoung, CallContext::with_timeout(std::chrono::seconds(30)));
    if (stopping_) co_return;
    tick_.expires_after(period);
    boost::system::error_code ignored;
    co_await tick_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
}

core::awaitable<void> PublishedMessages::reconcile(milliseconds young, CallContext context) {
  boost::system::error_code ignored;
  if (passing_) {
    passed_.expires_at(context.deadline);
    co_await passed_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    co_return;
  }
  passing_ = true;
  try {
    while (co_await pass(young, context) && !stopping_ && !context.expired()) {
    }
  } catch (const std::exception& e) {
    ports_.log.error("messages in RabbitMQ can't be followed", {{"error", e.what()}});
  }
  passing_ = false;
  passed_.cancel();
}

/// @return whether more can be done at once
core::awaitable<bool> PublishedMessages::pass(milliseconds young, CallContext context) {
  left_ = false;
  for (auto& [action, followed] : followed_) followed.asked = true;
  const auto before = young.count() > 0 ? ports_.now() - young : core::Timestamp::max();
  // What does not end soon, say behind a service that is down, gathers in front: it is asked about too, but not alone.
  const auto stopped = co_await sweep(0, before, context);
  cursor_ = stopped == 0 ? 0 : co_await sweep(std::max(cursor_, stopped), before, context);
  if (!left_) {
    for (auto& [action, followed] : followed_) followed.watch.forget(), followed.listed = -1, followed.unlisted = 0;
    blind_ = false;
    co_return stopped != 0;
  }
  if (ports_.ticks() < next_look_) co_return false;
  next_look_ = ports_.ticks() + std::clamp(options_.hold / 20, milliseconds(500), milliseconds(10'000));
  co_await look(context);
  co_return false;
}

/// @return where to go on; 0: there is nothing behind
core::awaitable<std::int64_t> PublishedMessages::sweep(std::int64_t after, core::Timestamp before, CallContext context) {
  for (int i = 0; i < kBatches && !stopping_ && !context.expired(); ++i) {
    auto batch = co_await ask_stores(after, before, context);
    if (!batch) left_ = true;
    if (!batch) co_return after;
    if (batch.value().seen < core::KnownIds::kMost) co_return 0;
    after = batch.value().last;
    if (2 * batch.value().ended < batch.value().seen) co_return after;
  }
  co_return after;
}

core::awaitable<Result<PublishedMessages::Batch>> PublishedMessages::ask_stores(std::int64_t after, core::Timestamp before, CallContext context) {
  FLEXI_CO_TRY(auto rows, co_await ports_.store.list({.after = after, .before = before, .limit = core::KnownIds::kMost}, within(context, kPatience)));
  Batch batch{.seen = rows.size(), .ended = 0, .last = rows.empty() ? after : rows.back().seq};
  std::map<std::string, std::vector<Published>> by_action;
  for (auto& row : rows) by_action[row.action].push_back(std::move(row));
  for (auto& [action, messages] : by_action) {
    std::vector<MessageId> ids, ended;
    for (auto& message : messages) ids.push_back(message.id);
    if (const auto ask = stores_.find(action); ask != stores_.end()) {
      auto known = co_await ask->second(ids, within(context, kPatience));
      if (!known) {
        left_ = true;
        if (auto followed = followed_.find(action); followed != followed_.end()) followed->second.asked = false;
        continue;
      }
      const std::set<MessageId> has(known.value().ids.begin(), known.value().ids.end());
      for (auto& message : messages)
        if (has.contains(message.id) || message.accepted_at < known.value().kept_since) ended.push_back(message.id);
    } else {
      ended = ids;  // nobody is asked about this action any more
    }
    left_ |= ended.size() < messages.size();
    batch.ended += ended.size();
    FLEXI_CO_TRY(co_await ports_.store.forget(action, std::move(ended), within(context, kPatience)));
  }
  co_return batch;
}

// What did not end: where is it?

core::awaitable<void> PublishedMessages::look(CallContext context) {
  auto sights = co_await ports_.sights(within(context, kPatience));
  blind_ = !sights;
  auto counts = co_await ports_.store.count(ports_.now() - options_.hold, within(context, kPatience));
  if (!sights || !counts) {
    for (auto& [action, followed] : followed_) followed.watch.forget();
    co_return;
  }
  bool list = false;
  for (auto& count : counts.value()) {
    const auto followed = followed_.find(count.action);
    if (followed != followed_.end()) list |= must_list(followed->second, sights.value()[count.action], count);
  }
  if (list) {
    co_await list_letters(sights.value(), context);
    counts = co_await ports_.store.count(ports_.now() - options_.hold, within(context, kPatience));
    if (!counts) co_return;
  }
  for (auto& [action, followed] : followed_) {
    std::int64_t old = 0;
    for (auto& count : counts.value())
      if (count.action == action) old = count.old;
    auto& sight = sights.value()[action];
    const bool listed = followed.listed == sight.dead;
    followed.watch.saw(sight, old, listed ? followed.unlisted : sight.dead, ports_.ticks());
  }
  co_await settle_gone(context);
}

/// Looking at the letters takes each of them in hand: only where that may tell something.
bool PublishedMessages::must_list(const Followed& followed, const QueueSight& sight, const core::PublishedCount& count) const {
  const bool changed = followed.listed != sight.dead;
  if (count.dead > 0 && changed) return true;
  return sight.dead > 0 && count.under_way + count.gone > 0 && (changed || ports_.ticks() - followed.listed_at >= kListAgain);
}

core::awaitable<void> PublishedMessages::list_letters(const std::map<std::string, QueueSight>& sights, CallContext context) {
  auto page = co_await ports_.letters.list(options_.letters, {}, within(context, 5 * kPatience));
  if (!page) co_return;
  std::map<std::string, std::vector<MessageId>> letters;
  for (auto& letter : page.value().letters) letters[letter.action].push_back(std::move(letter.id));
  std::map<std::string, std::set<MessageId>> complete;
  for (auto& [action, followed] : followed_) {
    auto& ids = letters[action];
    const auto sight = sights.find(action);
    followed.listed = sight == sights.end() ? 0 : sight->second.dead;
    followed.listed_at = ports_.ticks();
    followed.unlisted = std::max<std::int64_t>(followed.listed - static_cast<std::int64_t>(ids.size()), 0);
    if (followed.unlisted == 0 && page.value().next.empty()) complete.emplace(action, std::set<MessageId>(ids.begin(), ids.end()));
    co_await mark(action, std::move(ids), Published::State::dead, context);
  }
  co_await mark_gone(complete, context);
}

/// In steps, so that the database's writer is there for others.
core::awaitable<void> PublishedMessages::mark(std::string action, std::vector<MessageId> ids, Published::State state, CallContext context) {
  for (auto begin = ids.begin(); begin != ids.end();) {
    const auto end = begin + std::min<std::ptrdiff_t>(ids.end() - begin, core::KnownIds::kMost);
    std::vector<MessageId> some(begin, end);
    (void)co_await ports_.store.mark(action, std::move(some), state, ports_.now(), within(context, kPatience));
    begin = end;
  }
}

/// Those that were dead letters and are not any more.
core::awaitable<void> PublishedMessages::mark_gone(const std::map<std::string, std::set<MessageId>>& dead, CallContext context) {
  for (std::int64_t after = 0;;) {
    auto rows = co_await ports_.store.list({.state = Published::State::dead, .after = after}, within(context, kPatience));
    if (!rows || rows.value().empty()) co_return;
    after = rows.value().back().seq;
    std::map<std::string, std::vector<MessageId>> gone;
    for (auto& row : rows.value())
      if (const auto known = dead.find(row.action); known != dead.end() && !known->second.contains(row.id)) gone[row.action].push_back(row.id);
    for (auto& [action, ids] : gone) co_await mark(action, std::move(ids), Published::State::gone, context);
  }
}

/// Who left the dead letters and came nowhere was taken out of them: by another broker's operator, or by RabbitMQ's own tools.
core::awaitable<void> PublishedMessages::settle_gone(CallContext context) {
  auto rows = co_await ports_.store.list({.state = Published::State::gone, .before = ports_.now() - options_.hold}, within(context, kPatience));
  if (!rows) co_return;
  std::map<std::string, std::vector<MessageId>> ended;
  for (auto& row : rows.value()) {
    const auto followed = followed_.find(row.action);
    if (followed != followed_.end() && followed->second.asked && followed->second.unlisted == 0 && followed->second.watch.at_rest(ports_.ticks()))
      ended[row.action].push_back(row.id);
  }
  for (auto& [action, ids] : ended) (void)co_await ports_.store.discard(action, std::move(ids), within(context, kPatience));
}

core::awaitable<void> PublishedMessages::replayed(core::DeadLetterKey key, CallContext context) {
  auto work = [](PublishedMessages* self, core::DeadLetterKey key, CallContext context) -> core::awaitable<bool> {
    auto rows = co_await self->ports_.store.find(key.id, context);
    if (!rows) co_return false;
    for (auto& row : rows.value())
      if (key.action.empty() || row.action == key.action) co_await self->mark(row.action, {key.id}, Published::State::under_way, context);
    self->list_again();
    co_return true;
  };
  co_await there(scope_.executor(), work(this, std::move(key), within(context, kPatience)));
}

core::awaitable<void> PublishedMessages::swept() {
  auto work = [](PublishedMessages* self) -> core::awaitable<bool> {
    self->list_again();
    co_return true;
  };
  co_await there(scope_.executor(), work(this));
}

core::awaitable<void> PublishedMessages::discarded(core::DeadLetterKey key, CallContext context) {
  auto work = [](PublishedMessages* self, core::DeadLetterKey key, CallContext context) -> core::awaitable<bool> {
    (void)co_await self->ports_.store.discard(std::move(key.action), {std::move(key.id)}, context);
    self->list_again();
    co_return true;
  };
  co_await there(scope_.executor(), work(this, std::move(key), within(context, kPatience)));
}

void PublishedMessages::list_again() {
  for (auto& [action, followed] : followed_) followed.listed = -1;
}

// What is said about it.

core::awaitable<Result<std::vector<core::Account>>> PublishedMessages::accounts(CallContext context) {
  return there(scope_.executor(), count(std::move(context)));
}

core::awaitable<Result<std::vector<core::Account>>> PublishedMessages::count(CallContext context) {
  if (!stopping_) co_await reconcile(milliseconds(0), within(context, kBeforeReading));
  FLEXI_CO_TRY(auto counts, co_await ports_.store.count(ports_.now() - options_.hold, within(context, kPatience)));
  core::Account account{.book = "rabbitmq", .lines = {}};
  for (auto& count : counts) {
    const auto followed = followed_.find(count.action);
    if (blind_ && count.old > 0) co_return core::unavailable("RabbitMQ does not say what waits there");
    const auto lost = followed == followed_.end() ? 0 : std::min(followed->second.watch.lost(), count.old);
    const auto alive = count.under_way + count.gone;
    account.lines.push_back({.action = count.action, .way = std::string(core::to_string(core::Via::amqp)), .accepted = alive + count.dead,
                             .dead_lettered = count.dead, .in_flight = alive - lost});
  }
  std::vector<core::Account> all;
  all.push_back(std::move(account));
  co_return all;
}

/// While others wait nobody can say which ones are lost.
bool PublishedMessages::is_lost(const Published& message) const {
  const auto followed = followed_.find(message.action);
  if (followed == followed_.end()) return false;
  auto& watch = followed->second.watch;
  return watch.lost() > 0 && watch.at_rest(ports_.ticks()) && message.noted_at < ports_.now() - options_.hold;
}

core::awaitable<Result<std::optional<Receipt>>> PublishedMessages::find_receipt(MessageId id, CallContext context) {
  return there(scope_.executor(), find(std::move(id), std::move(context)));
}

core::awaitable<Result<std::optional<Receipt>>> PublishedMessages::find(MessageId id, CallContext context) {
  std::vector<Published> known;
  std::copy_if(noting_.begin(), noting_.end(), std::back_inserter(known), [&](auto& message) { return message.id == id; });
  FLEXI_CO_TRY(auto rows, co_await ports_.store.find(std::move(id), within(context, kPatience)));
  known.insert(known.end(), std::make_move_iterator(rows.begin()), std::make_move_iterator(rows.end()));
  std::optional<Receipt> best;
  for (auto& row : known) {
    if (row.state == Published::State::dead) continue;
    Receipt receipt{.id = row.id, .action = row.action, .state = Receipt::State::queued, .where = "rabbitmq"};
    receipt.accepted_at = row.accepted_at, receipt.at = row.noted_at, receipt.way = "amqp";
    if (row.state == Published::State::gone) receipt.state = Receipt::State::unknown, receipt.reason = "it left the dead letters";
    else if (is_lost(row)) receipt.state = Receipt::State::unknown, receipt.reason = "it is in no queue any more";
    if (!best || best->state != Receipt::State::queued) best = std::move(receipt);
  }
  co_return best;
}

core::awaitable<Result<void>> PublishedLetters::replay(core::DeadLetterKey key, CallContext context) {
  auto done = co_await letters_.replay(key, context);
  if (done) co_await messages_.replayed(std::move(key), std::move(context));
  co_return done;
}

core::awaitable<Result<void>> PublishedLetters::discard(core::DeadLetterKey key, CallContext context) {
  // Its action is asked for before: the id may be another message's too.
  auto letter = co_await letters_.get(key, context);
  if (!letter) co_return letter.error();
  auto done = co_await letters_.discard(key, context);
  key.action = std::move(letter.value().action);
  if (done) co_await messages_.discarded(std::move(key), std::move(context));
  co_return done;
}

core::awaitable<Result<core::DeadLettersSwept>> PublishedLetters::sweep(core::DeadLetterSweep what, CallContext context) {
  auto done = co_await letters_.sweep(std::move(what), std::move(context));
  co_await messages_.swept();
  co_return done;
}

}  // namespace flexi::services::broker
