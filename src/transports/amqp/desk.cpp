// SPDX-License-Identifier: Apache-2.0
#include "transports/amqp/desk.hpp"

#include <boost/asio/redirect_error.hpp>
#include <charconv>
#include <map>
#include <set>
#include <tuple>

#include "runtime/page_budget.hpp"
#include "transports/amqp/codec.hpp"

namespace flexi::transports::amqp {

namespace asio = boost::asio;
using core::DeadLetter;
using core::Result;
using Clock = core::CallContext::Clock;

namespace {

constexpr std::uint16_t kLockChannel = 1, kLettersChannel = 2;
constexpr std::size_t kGetsAtOnce = 64;
/// RabbitMQ's channel keeps acknowledgements for a quorum queue back while 32 are under way, and forgets those it keeps when it is
/// closed. Each basic.get is behind the acknowledgements before it in the queue's log.
constexpr std::size_t kAcksAtOnce = 16;
constexpr auto kLockPause = std::chrono::milliseconds(20);
constexpr auto kLongest = std::chrono::seconds(30);
constexpr auto kSweepMargin = std::chrono::milliseconds(2'000);

/// One connection, ended by the deadline.
class Visit {
 public:
  Visit(asio::any_io_executor executor, const Shared& shared, const core::CallContext& context)
      : connection(executor, shared.endpoint, shared.options, shared.log, "flexiconnect desk"), until_(context.limited_to(kLongest).deadline), limit_(executor) {
    limit_.expires_at(until_);
    limit_.async_wait([this, alive = std::weak_ptr(alive_)](boost::system::error_code ec) {
      if (!ec && alive.lock()) connection.fail(core::deadline_exceeded("RabbitMQ did not answer in time"));
    });
  }
  Clock::time_point until() const { return until_; }
  Connection connection;

 private:
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  const Clock::time_point until_;
  asio::steady_timer limit_;
};

/// The letters of one queue, in hand.
class Letters final : public ChannelUser {
 public:
  Letters(Connection& connection, const Shared& shared, asio::any_io_executor executor) : connection_(connection), shared_(shared), event_(executor) {}

  core::awaitable<Result<void>> open() {
    auto opened = co_await connection_.open_channel(kLettersChannel, this);
    if (!opened) co_return opened.error();
    amqp_confirm_select_t select{0};
    auto selected = co_await connection_.call(kLettersChannel, AMQP_CONFIRM_SELECT_METHOD, &select);
    if (!selected) co_return selected.error();
    co_return core::ok();
  }

  /// Takes them all, as far as the limits go.
  core::awaitable<Result<void>> take(const WorkQueue& work) {
    taken.clear();
    bytes_ = 0;
    empty_ = false;
    // An empty queue, which most are, costs one question; a full one few round trips.
    // Beyond the limit by one, to know whether it was met.
    for (std::size_t at_once = 1; !empty_ && taken.size() <= static_cast<std::size_t>(shared_.options.browse_messages) && bytes_ < shared_.options.browse_bytes;
         at_once = std::min(2 * at_once, kGetsAtOnce)) {
      FLEXI_CO_TRY(co_await take_some(work, at_once));
    }
    if (!empty_) shared_.log.warning("more dead letters than are looked at", {{"queue", work.dead}, {"looked_at", taken.size()}});
    co_return core::ok();
  }
  /// Takes so many more, where there are as many.
  core::awaitable<Result<void>> take_some(const WorkQueue& work, std::size_t count) {
    missing_ = count;
    for (std::size_t i = 0; i < count; ++i) connection_.get(kLettersChannel, work.dead);
    co_return co_await settled([this] { return missing_ == 0; });
  }
  /// How many wait now; those that are in hand don't.
  core::awaitable<Result<std::uint32_t>> count(const WorkQueue& work) {
    amqp_queue_declare_t declare{0, bytes_of(work.dead), 1, 0, 0, 0, 0, amqp_empty_table};
    auto seen = co_await connection_.call(kLettersChannel, AMQP_QUEUE_DECLARE_METHOD, &declare);
    if (!seen) co_return seen.error();
    if (seen.value().refused()) co_return core::unavailable("the dead letters can't be looked at", seen.value().text);
    co_return seen.value().messages;
  }
  /// Everything that is still in hand goes back, in order.
  void give_back() {
    // The last tag must be one that is still in hand, or RabbitMQ closes the channel.
    while (!taken.empty() && acked_.contains(taken.back().tag)) taken.pop_back();
    if (taken.empty()) return;
    amqp_basic_nack_t nack{taken.back().tag, 1, 1};
    connection_.send(kLettersChannel, AMQP_BASIC_NACK_METHOD, &nack);
  }
  /// @return ok once RabbitMQ has the message in that queue
  core::awaitable<Result<void>> publish(const std::string& queue, const Message& message) {
    FLEXI_CO_TRY(send(queue, message));
    FLEXI_CO_TRY(auto failures, co_await confirmed());
    if (!failures.empty()) co_return failures.begin()->second;
    co_return core::ok();
  }
  /// Without waiting; confirmed() does.
  Result<void> send(const std::string& queue, const Message& message) {
    FLEXI_TRY(connection_.publish(kLettersChannel, {}, queue, true, message));
    sent_.push_back({++published_, queue, message.message_id});
    return core::ok();
  }
  /// Once RabbitMQ has answered for all that was sent.
  /// @return which of them it has not got, by their place among them, and why
  core::awaitable<Result<std::map<std::size_t, core::Error>>> confirmed() {
    FLEXI_CO_TRY(co_await settled([this] { return std::all_of(sent_.begin(), sent_.end(), [](auto& one) { return one.done; }); }));
    std::map<std::size_t, core::Error> failures;
    const auto all = std::exchange(sent_, {});
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (all[i].returned) failures.emplace(i, core::unavailable("no queue takes it", all[i].queue));
      else if (all[i].nacked) failures.emplace(i, core::unavailable("RabbitMQ refused the message", all[i].queue));
    }
    co_return failures;
  }
  void ack(std::uint64_t tag) {
    connection_.ack(kLettersChannel, tag, false);
    acked_.insert(tag);
  }

  void on_got(std::optional<Delivery> letter) override {
    --missing_;
    if (letter) {
      bytes_ += static_cast<std::int64_t>(letter->message.body.size());
      taken.push_back(std::move(*letter));
    } else {
      empty_ = true;
    }
  }
  void on_return(std::uint16_t, std::string, std::string, Message message) override {
    for (auto& one : sent_)
      if (!one.done && !one.returned && one.id == message.message_id) return void(one.returned = true);
  }
  void on_confirm(std::uint64_t tag, bool multiple, bool ack) override {
    for (auto& one : sent_)
      if (!one.done && (one.tag == tag || (multiple && one.tag < tag))) one.done = true, one.nacked = !ack;
  }
  void on_channel_closed(const MethodReply& refusal) override { connection_.fail(core::unavailable("RabbitMQ closed the channel", refusal.text)); }
  void on_batch_end() override { event_.cancel(); }
  void on_over() override { event_.cancel(); }

  std::vector<Delivery> taken;
  bool seen_all() const { return empty_; }

 private:
  struct Sent {
    std::uint64_t tag;
    std::string queue, id;
    bool done = false, returned = false, nacked = false;
  };
  core::awaitable<Result<void>> settled(std::function<bool()> condition) {
    while (!condition() && !connection_.over()) {
      event_.expires_at(asio::steady_timer::time_point::max());
      boost::system::error_code ignored;
      co_await event_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
    if (connection_.over()) co_return *connection_.why_over();
    co_return core::ok();
  }

  Connection& connection_;
  const Shared& shared_;
  asio::steady_timer event_;
  std::set<std::uint64_t> acked_;
  std::size_t missing_ = 0;
  std::int64_t bytes_ = 0;
  std::vector<Sent> sent_;  ///< and not looked at by confirmed() yet
  std::uint64_t published_ = 0;
  bool empty_ = false;
};

/// One at a time, over all processes: what another has in hand could not be seen.
core::awaitable<Result<void>> lock(Visit& visit, const Shared& shared) {
  const auto name = shared.options.prefix + "flexi.dead.lock";
  asio::steady_timer pause(co_await asio::this_coro::executor);
  for (;;) {
    auto opened = co_await visit.connection.open_channel(kLockChannel, nullptr);
    if (!opened) co_return opened.error();
    amqp_queue_declare_t declare{0, bytes_of(name), 0, 0, 1, 1, 0, amqp_empty_table};
    auto declared = co_await visit.connection.call(kLockChannel, AMQP_QUEUE_DECLARE_METHOD, &declare);
    if (!declared) co_return declared.error();
    if (!declared.value().refused()) co_return core::ok();
    if (declared.value().code != 405) co_return core::unavailable("the dead letters can't be looked at", declared.value().text);
    if (Clock::now() + kLockPause >= visit.until()) co_return core::unavailable("somebody else is looking at the dead letters");
    pause.expires_after(kLockPause);
    boost::system::error_code ignored;
    co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
}

/// What somebody does with one queue's letters while they are in hand.
class Looker {
 public:
  virtual ~Looker() = default;
  virtual core::awaitable<Result<void>> look(const WorkQueue& work, Letters& letters) = 0;
  /// False: it takes what it wants itself.
  virtual bool wants_all() const { return true; }
  bool seen_all = true;  ///< of every queue; else the newest were not seen
};

/// The whole of a visit to the dead letters, but for its end.
core::awaitable<Result<void>> visit_queues(Visit& visit, const Shared& shared, Looker& looker) {
  auto executor = co_await asio::this_coro::executor;
  auto opened = co_await visit.connection.open();
  if (!opened) co_return opened.error();
  auto locked = co_await lock(visit, shared);
  if (!locked) co_return locked.error();
  for (auto& work : shared.topology.works()) {
    if (work.dead.empty()) continue;
    Letters letters(visit.connection, shared, executor);
    auto result = co_await letters.open();
    if (result && looker.wants_all()) {
      result = co_await letters.take(work);
      looker.seen_all &= letters.seen_all();
    }
    if (result) result = co_await looker.look(work, letters);
    letters.give_back();
    co_await visit.connection.close_channel(kLettersChannel);
    if (visit.connection.over() && result) result = *visit.connection.why_over();
    if (!result) co_return result.error();
  }
  co_return core::ok();
}

core::awaitable<Result<void>> visit_letters(asio::any_io_executor executor, const Shared& shared, core::CallContext context, Looker& looker) {
  Visit visit(executor, shared, context);
  auto looked = co_await visit_queues(visit, shared, looker);
  co_await visit.connection.finish();
  co_return looked;
}

using Place = std::pair<std::int64_t, std::string>;  ///< of a letter in the list: dead at, id

Place place_of(const DeadLetter& letter) { return {core::to_unix_micros(letter.dead_at), letter.id.str()}; }

/// "<dead_at>.<id>" of the page's last letter.
Result<Place> parse_cursor(const std::string& text) {
  Place place;
  const char* const end = text.data() + text.size();
  auto [stop, ec] = std::from_chars(text.data(), end, place.first);
  if (ec != std::errc() || stop == end || *stop != '.') return core::invalid_argument("cursor must be the `next` of an earlier page");
  place.second.assign(stop + 1, end);
  return place;
}

core::Error no_such_letter(const Looker& looker, const Shared& shared) {
  if (looker.seen_all) return core::not_found("no dead letter with this id");
  return core::unavailable("more than " + std::to_string(shared.options.browse_messages) +
                           " dead letters, and it is not among the oldest: raise amqp.browse_messages (or browse_bytes), or replay or discard all");
}

bool means(const core::DeadLetterKey& key, const DeadLetter& letter) { return letter.id == key.id && (key.action.empty() || letter.action == key.action); }

/// The newest of each action and id: a process that dies before its acknowledgement leaves a letter twice. What came without an id
/// is another letter each time.
class List final : public Looker {
 public:
  core::awaitable<Result<void>> look(const WorkQueue& work, Letters& letters) override {
    for (auto& letter : letters.taken) {
      auto read = read_dead_letter(work.action, work.queue, letter.message);
      const std::size_t number = core::MessageId::parse(letter.message.message_id) ? 0 : found.size() + 1;
      auto& newest = found[{read.action, read.id.str(), number}];
      if (newest.id.empty() || place_of(newest) < place_of(read)) newest = std::move(read);
    }
    co_return core::ok();
  }
  std::vector<DeadLetter> behind(const Place& before) {
    std::vector<DeadLetter> letters;
    for (auto& [key, letter] : found)
      if (place_of(letter) < before) letters.push_back(std::move(letter));
    std::sort(letters.begin(), letters.end(), [](auto& a, auto& b) { return place_of(b) < place_of(a); });
    return letters;
  }
  std::map<std::tuple<std::string, std::string, std::size_t>, DeadLetter> found;
};

/// The newest of those that a key means, and of which actions they are.
class Find final : public Looker {
 public:
  explicit Find(core::DeadLetterKey wanted) : key(std::move(wanted)) {}
  core::awaitable<Result<void>> look(const WorkQueue& work, Letters& letters) override {
    for (auto& letter : letters.taken) {
      auto read = read_dead_letter(work.action, work.queue, letter.message);
      if (!means(key, read)) continue;
      actions.insert(read.action);
      if (!found || place_of(*found) < place_of(read)) found = std::move(read);
    }
    co_return core::ok();
  }
  const core::DeadLetterKey key;
  std::set<std::string> actions;
  std::optional<DeadLetter> found;
};

/// Replays or discards all that a key means.
class End final : public Looker {
 public:
  End(core::DeadLetterKey wanted, Desk::Fate f, Teller& t) : key(std::move(wanted)), fate(f), teller(t) {}
  core::awaitable<Result<void>> look(const WorkQueue& work, Letters& letters) override {
    for (auto& letter : letters.taken) {
      auto read = read_dead_letter(work.action, work.queue, letter.message);
      if (!means(key, read)) continue;
      if (fate == Desk::Fate::replay) {
        if (letter.message.truncated()) co_return core::invalid_argument("its body is larger than amqp.max_body_bytes allows");
        auto published = co_await letters.publish(work.queue, for_replay(letter.message));
        if (!published) co_return published.error();
      }
      // Only now: a process that dies in between leaves it twice, which its id makes harmless.
      letters.ack(letter.tag);
      ++ended;
      teller.tell({fate == Desk::Fate::replay ? EventKind::replayed : EventKind::discarded, read.action, key.id.str(), "operator"});
    }
    co_return core::ok();
  }
  const core::DeadLetterKey key;
  const Desk::Fate fate;
  Teller& teller;
  std::size_t ended = 0;
};

/// Replays or discards all, as they stream by: only what stays is in hand, until the end.
class Sweep final : public Looker {
 public:
  Sweep(core::DeadLetterSweep w, Clock::time_point u, Teller& t) : what(std::move(w)), until(u), teller(t) {}
  bool wants_all() const override { return false; }
  core::awaitable<Result<void>> look(const WorkQueue& work, Letters& letters) override {
    if (!what.action.empty() && !work.action.empty() && what.action != work.action) co_return core::ok();
    // What is here now: what dies again meanwhile comes behind it.
    FLEXI_CO_TRY(auto left, co_await letters.count(work));
    while (left > 0 && Clock::now() < until) {
      const auto begin = letters.taken.size();
      const auto some = std::min<std::size_t>(left, kAcksAtOnce);
      FLEXI_CO_TRY(co_await letters.take_some(work, some));
      if (letters.taken.size() == begin) break;  // somebody was quicker
      left -= static_cast<std::uint32_t>(some);
      FLEXI_CO_TRY(co_await end_those_from(begin, work, letters));
    }
    swept.more |= left > 0 && Clock::now() >= until;
    // An answer to this is RabbitMQ's word that it has done what it was told before; what it takes goes back with the rest.
    co_return co_await letters.take_some(work, 1);
  }

  const core::DeadLetterSweep what;
  const Clock::time_point until;
  Teller& teller;
  core::DeadLettersSwept swept;

 private:
  bool is_replay() const { return what.fate == core::DeadLetterSweep::Fate::replay; }
  bool means(const DeadLetter& letter, const Message& message) const {
    return letter.dead_at <= what.before && (what.action.empty() || letter.action == what.action) && !(is_replay() && message.truncated());
  }
  core::awaitable<Result<void>> end_those_from(std::size_t begin, const WorkQueue& work, Letters& letters) {
    std::vector<std::pair<std::uint64_t, DeadLetter>> ending;
    for (auto i = begin; i < letters.taken.size(); ++i) {
      auto& message = letters.taken[i].message;
      auto read = read_dead_letter(work.action, work.queue, message);
      const bool ends = means(read, message);
      if (ends && is_replay()) {
        FLEXI_CO_TRY(letters.send(work.queue, for_replay(std::move(message))));
      }
      if (ends) ending.emplace_back(letters.taken[i].tag, std::move(read));
      message = {};  // what stays needs its tag only
    }
    FLEXI_CO_TRY(auto failures, co_await letters.confirmed());
    for (std::size_t i = 0; i < ending.size(); ++i) {
      if (failures.contains(i)) continue;
      letters.ack(ending[i].first);
      ++swept.letters;
      teller.tell({is_replay() ? EventKind::replayed : EventKind::discarded, ending[i].second.action, ending[i].second.id.str(), "operator"});
    }
    if (!failures.empty()) co_return failures.begin()->second;
    co_return core::ok();
  }
};

}  // namespace

core::awaitable<Result<core::DeadLetterPage>> Desk::list(unsigned limit, std::string cursor, core::CallContext context) {
  Place before{std::numeric_limits<std::int64_t>::max(), {}};
  if (!cursor.empty()) {
    FLEXI_CO_TRY(before, parse_cursor(cursor));
  }
  List list;
  auto looked = co_await visit_letters(executor_, shared_, std::move(context), list);
  if (!looked) co_return looked.error();
  auto found = list.behind(before);
  core::DeadLetterPage page;
  runtime::PageBudget budget;
  std::size_t fits = 0;
  while (fits < found.size() && fits < limit && budget.take({found[fits].payload, found[fits].reason})) ++fits;
  if (found.size() > fits) {
    found.resize(fits);
    const auto last = place_of(found.back());
    page.next = std::to_string(last.first) + "." + last.second;
  }
  page.letters = std::move(found);
  co_return page;
}

core::awaitable<Result<DeadLetter>> Desk::get(core::DeadLetterKey key, core::CallContext context) {
  Find find(std::move(key));
  auto looked = co_await visit_letters(executor_, shared_, std::move(context), find);
  if (!looked) co_return looked.error();
  if (!find.found) co_return no_such_letter(find, shared_);
  if (find.actions.size() > 1) co_return core::ambiguous_dead_letter(find.actions);
  co_return *find.found;
}

core::awaitable<Result<void>> Desk::end(core::DeadLetterKey key, Fate fate, core::CallContext context) {
  if (key.action.empty()) {
    // A look first: the letters of one queue are out of hand before those of the next are seen.
    auto meant = co_await get(key, context);
    if (!meant) co_return meant.error();
    key.action = meant.value().action;
  }
  End end(std::move(key), fate, shared_.teller);
  auto looked = co_await visit_letters(executor_, shared_, std::move(context), end);
  if (!looked) co_return looked.error();
  if (end.ended == 0) co_return no_such_letter(end, shared_);
  co_return core::ok();
}

core::awaitable<Result<core::DeadLettersSwept>> Desk::sweep(core::DeadLetterSweep what, core::CallContext context) {
  // It ends by itself before the deadline would end its connection.
  const auto time = context.limited_to(kLongest).remaining();
  Sweep sweep(std::move(what), Clock::now() + time - std::min<std::chrono::milliseconds>(time / 4, kSweepMargin), shared_.teller);
  auto looked = co_await visit_letters(executor_, shared_, std::move(context), sweep);
  if (!looked) co_return looked.error();
  co_return sweep.swept;
}

core::awaitable<Result<std::vector<QueueDepth>>> Desk::depths(core::CallContext context) {
  Visit visit(executor_, shared_, context);
  auto opened = co_await visit.connection.open();
  server_version_ = visit.connection.version();
  std::vector<QueueDepth> all;
  for (auto& work : shared_.topology.works()) {
    all.push_back({work.queue, work.action, QueueDepth::Role::work});
    for (auto& retry : work.retry) all.push_back({retry, work.action, QueueDepth::Role::retry});
    if (!work.dead.empty()) all.push_back({work.dead, work.action, QueueDepth::Role::dead});
  }
  bool channel = false;
  for (auto& depth : all) {
    if (opened && !channel) opened = co_await visit.connection.open_channel(kLettersChannel, nullptr);
    if (!opened) break;
    channel = true;
    amqp_queue_declare_t declare{0, bytes_of(depth.queue), 1, 0, 0, 0, 0, amqp_empty_table};
    auto seen = co_await visit.connection.call(kLettersChannel, AMQP_QUEUE_DECLARE_METHOD, &declare);
    if (!seen) {
      opened = seen.error();
      break;
    }
    if (seen.value().refused()) {
      channel = false;  // no such queue, yet
      continue;
    }
    depth.exists = true;
    depth.messages = seen.value().messages;
    depth.consumers = seen.value().consumers;
  }
  co_await visit.connection.finish();
  if (!opened) co_return opened.error();
  std::erase_if(all, [](auto& depth) { return !depth.exists; });
  co_return all;
}

}  // namespace flexi::transports::amqp
