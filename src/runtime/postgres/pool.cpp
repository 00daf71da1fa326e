// SPDX-License-Identifier: Apache-2.0
#include "runtime/postgres/pool.hpp"

#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "core/random.hpp"
#include "runtime/postgres/errors.hpp"
#include "runtime/postgres/migrator.hpp"

namespace flexi::runtime::postgres {

namespace asio = boost::asio;
using std::chrono::milliseconds, std::chrono::seconds;

namespace {

constexpr milliseconds kTick{100};
constexpr std::chrono::minutes kUpkeepPause{10};
constexpr std::size_t kBusy = 16;              ///< calls in flight from which another connection helps
constexpr milliseconds kGrace = seconds(2);    ///< beyond statement_timeout, for the network
constexpr milliseconds kAbandoned = seconds(1);  ///< how long a connection may be held up by calls that nobody waits for

constexpr const char* kHeldUp = "held up by a call that nobody waits for any more";

}  // namespace

Database::Impl::Impl(PostgresOptions options, asio::any_io_executor home, LogSink& log, Metrics& metrics,
                     std::function<void(const core::Error*)> on_health)
    : options_(std::move(options)), home_(home), log_(log), on_health_(std::move(on_health)),
      connections_(metrics.gauge("flexi_postgres_connections", "Connections to PostgreSQL that are open")),
      failures_(metrics.counter("flexi_postgres_connect_failures_total", "Attempts to connect to PostgreSQL that failed")),
      refusals_(metrics.counter("flexi_postgres_refused_total", "Calls refused because too many were under way")),
      scope_(home, "postgres", log), busy_(home, Clock::time_point::max()), recheck_(home, Clock::time_point::max()) {
  const auto writing = static_cast<std::size_t>(options_.connections / 2);
  const auto reading = static_cast<std::size_t>(options_.connections) - writing;
  for (std::size_t i = 0; i < reading; ++i) reads_.slots.push_back(std::make_unique<Slot>(*this, reads_, i));
  for (std::size_t i = 0; i < writing; ++i) writes_.slots.push_back(std::make_unique<Slot>(*this, writes_, i));
}

void Database::Impl::start() {
  asio::dispatch(home_, [self = shared_from_this()] {
    self->tell_health();
    self->scope_.spawn(self->keep_schemas());
    self->scope_.spawn(self->tick());
    self->scope_.spawn(self->keep_up());
    for (auto* lane : {&self->reads_, &self->writes_})
      for (auto& slot : lane->slots) self->scope_.spawn(self->keep(*slot));
  });
}

core::awaitable<void> Database::Impl::stop() {
  stopping_ = true;
  for (auto* lane : {&reads_, &writes_}) refuse_waiting(*lane, core::unavailable("the process is stopping"));
  scope_.cancel();
  co_await scope_.join();
}

// --- calls -----------------------------------------------------------------------------------------------------------------------------

core::awaitable<core::Result<std::vector<Rows>>> Database::Impl::call(std::shared_ptr<Impl> self, std::vector<Query> queries, bool write,
                                                                      core::CallContext context) {
  if (context.expired()) co_return cancelled_error(core::Sent::no);
  auto left = std::make_shared<std::atomic<bool>>(false);
  auto made = std::make_unique<Call>();
  made->queries = std::move(queries);
  made->write = write;
  made->deadline = context.deadline;
  made->left = left;
  auto start = [self, call = std::move(made)](std::shared_ptr<Completion<std::vector<Rows>>> waiter) mutable {
    call->waiter = std::move(waiter);
    auto* home = &self->home_;
    asio::dispatch(*home, [self = std::move(self), call = std::move(call)]() mutable { self->submit(std::move(call)); });
  };
  auto result = co_await wait_for_completion<std::vector<Rows>>(std::move(start), cancelled_error(write ? core::Sent::maybe : core::Sent::no));
  *left = true;
  co_return result;
}

void Database::Impl::submit(CallPtr call) {
  auto& lane = call->write ? writes_ : reads_;
  if (stopping_) return call->answer(core::unavailable("the process is stopping"));
  if (auto why = schemas_ready_ ? lane.down : schemas_failed_) return call->answer(*why);
  if (lane.under_way >= static_cast<std::size_t>(options_.queue_limit)) {
    refusals_.add();
    auto full = core::overloaded("the database is busy, try again later");
    full.retry_after = seconds(1);
    return call->answer(full);
  }
  if (reads_.under_way + writes_.under_way == 0) busy_.cancel();
  ++lane.under_way;
  lane.queue.push_back(std::move(call));
  schedule(lane);
}

void Database::Impl::schedule(Lane& lane) {
  if (lane.pump_posted) return;
  lane.pump_posted = true;
  // Behind all that arrived in this turn: they share a round trip.
  asio::post(home_, [self = shared_from_this(), &lane] {
    lane.pump_posted = false;
    self->pump(lane);
  });
}

void Database::Impl::pump(Lane& lane) {
  std::set<Session*> used;
  bool all_busy = true;
  while (!lane.queue.empty()) {
    if (!lane.queue.front()->is_wanted()) {
      lane.queue.pop_front();
      --lane.under_way;
      continue;
    }
    Session* best = nullptr;
    for (auto& slot : lane.slots)
      if (slot->session && !slot->session->is_over() && slot->session->in_flight() < static_cast<std::size_t>(options_.pipeline_depth) &&
          (!best || slot->session->in_flight() < best->in_flight()))
        best = slot->session.get();
    if (!best) break;
    auto call = std::move(lane.queue.front());
    lane.queue.pop_front();
    best->send(std::move(call));
    used.insert(best);
  }
  for (auto* session : used) session->flush();
  for (auto& slot : lane.slots) all_busy &= !slot->session || slot->session->in_flight() >= kBusy;
  if (all_busy) want_another(lane);
}

void Database::Impl::want_another(Lane& lane) {
  if (!schemas_ready_) return;
  for (auto& slot : lane.slots) {
    if (slot->wanted && !slot->session) return;  // one is on its way
    if (slot->wanted || Clock::now() < slot->not_before) continue;
    return slot->want();
  }
}

void Database::Impl::refuse_waiting(Lane& lane, const core::Error& why) {
  for (auto& call : lane.queue) call->answer(why);
  lane.under_way -= lane.queue.size();
  lane.queue.clear();
}

// --- connections -----------------------------------------------------------------------------------------------------------------------

void Database::Impl::Slot::on_ended(Call& call) {
  --lane.under_way;
  if (call.missing_object) impl.recheck_.cancel();
}

void Database::Impl::Slot::on_aborted(CallPtr call) {
  ++call->again;
  ++lane.under_way;
  lane.queue.push_front(std::move(call));
  impl.schedule(lane);
}

void Database::Impl::Slot::on_room() {
  if (!lane.queue.empty()) impl.schedule(lane);
}

void Database::Impl::Slot::want() {
  wanted = true;
  wake.cancel();
}

core::awaitable<void> Database::Impl::keep(Slot& slot) {
  auto delay = options_.reconnect_delay;
  for (;;) {
    boost::system::error_code ec;
    while (!slot.wanted) {
      co_await slot.wake.async_wait(asio::redirect_error(asio::use_awaitable, ec));
      if (stopping_) co_return;
    }
    auto opened = co_await PlainConnection::open(home_, options_);
    if (stopping_) co_return;
    if (auto* failure = std::get_if<ConnectFailure>(&opened)) {
      on_open_failed(slot, failure->error);
      if (slot.number == 0) co_await pause_before_retry(delay, failure->refused_login);
      continue;
    }
    slot.session = std::make_unique<Session>(home_, std::get<0>(opened)->release(), slot);
    on_opened(slot);
    const auto since = Clock::now();
    auto why = co_await slot.session->serve();
    on_lost(slot, why);
    if (stopping_) co_return;
    // A server that accepts and hangs up is no better than one that refuses.
    if (Clock::now() - since > seconds(1)) delay = options_.reconnect_delay;
    else if (slot.number == 0) co_await pause_before_retry(delay, false);
  }
}

void Database::Impl::on_opened(Slot& slot) {
  connections_.add(1);
  if (slot.lane.down) log_.info("connected to PostgreSQL again", {{"for", slot.lane.name}});
  slot.lane.down.reset();
  slot.lane.ever_connected = true;
  tell_health();
  schedule(slot.lane);
}

void Database::Impl::on_open_failed(Slot& slot, const core::Error& why) {
  failures_.add();
  if (slot.number != 0) {
    slot.wanted = false;
    slot.not_before = Clock::now() + options_.max_reconnect_delay;
  }
  for (auto& other : slot.lane.slots)
    if (other->session) return;
  if (!slot.lane.down) log_.warning("PostgreSQL can't be reached", {{"for", slot.lane.name}, {"error", why.message}, {"detail", why.detail}});
  slot.lane.down = why;
  refuse_waiting(slot.lane, why);
  tell_health();
}

void Database::Impl::on_lost(Slot& slot, const std::optional<core::Error>& why) {
  connections_.add(-1);
  if (slot.number != 0) slot.wanted = false;
  const auto session = std::move(slot.session);
  const bool held_up = why && why->detail.ends_with(kHeldUp);
  for (auto& call : session->take_unfinished()) {
    if (!call->is_wanted()) continue;
    if (!stopping_ && !call->failure && (call->aborted || (held_up && !call->write))) {  // nothing of it was done, or it is harmless twice
      slot.on_aborted(std::move(call));
      continue;
    }
    auto error = call->failure ? *call->failure : why ? *why : core::unavailable("the process is stopping");
    if (call->write && !call->failure) error.sent = core::Sent::maybe;
    call->answer(error);
  }
  if (why && !stopping_) log_.warning("a connection to PostgreSQL broke", {{"for", slot.lane.name}, {"detail", why->detail}});
}

core::awaitable<void> Database::Impl::pause_before_retry(milliseconds& delay, bool refused_login) {
  if (refused_login) delay = options_.max_reconnect_delay;
  std::array<std::uint8_t, 1> random;
  core::fill_random(random);
  asio::steady_timer timer(home_, delay / 2 + delay * random[0] / 512);
  delay = std::min(delay * 2, options_.max_reconnect_delay);
  boost::system::error_code ec;
  co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ec));
}

// --- schemas and health ----------------------------------------------------------------------------------------------------------------

core::awaitable<void> Database::Impl::keep_schemas() {
  auto delay = options_.reconnect_delay;
  for (;;) {
    auto opened = co_await PlainConnection::open(home_, options_);
    if (stopping_) co_return;
    std::optional<core::Error> failed;
    bool refused_login = false;
    if (auto* failure = std::get_if<ConnectFailure>(&opened)) {
      failed = failure->error;
      refused_login = failure->refused_login;
      failures_.add();
    } else if (auto migrated = co_await migrate(*std::get<0>(opened), schemas_, log_); !migrated) {
      failed = migrated.error();
    }
    if (stopping_) co_return;
    if (failed) {
      if (!schemas_failed_ || schemas_failed_->message != failed->message)
        log_.warning("PostgreSQL can't be used yet", {{"error", failed->message}, {"detail", failed->detail}});
      schemas_failed_ = failed;
      if (!schemas_ready_)
        for (auto* lane : {&reads_, &writes_}) refuse_waiting(*lane, *failed);
      tell_health();
      co_await pause_before_retry(delay, refused_login);
      if (stopping_) co_return;
      continue;
    }
    schemas_failed_.reset();
    schemas_ready_ = true;
    for (auto* lane : {&reads_, &writes_}) lane->slots.front()->want();
    tell_health();
    delay = options_.reconnect_delay;
    auto finished = co_await finish_schemas(*std::get<0>(opened), schemas_, log_);
    if (stopping_) co_return;
    opened = ConnectFailure{};  // the connection is not needed any more
    if (!finished) {
      log_.warning("indexes wait until PostgreSQL is there again", {{"detail", finished.error().detail}});
      co_await pause_before_retry(delay, false);
      if (stopping_) co_return;
      continue;
    }
    boost::system::error_code ec;
    co_await recheck_.async_wait(asio::redirect_error(asio::use_awaitable, ec));
    if (stopping_) co_return;
    auto once_in_a_while = milliseconds(1'000);
    co_await pause_before_retry(once_in_a_while, false);
    if (stopping_) co_return;
  }
}

std::optional<core::Error> Database::Impl::unusable() const {
  if (schemas_failed_) return schemas_failed_;
  for (auto* lane : {&reads_, &writes_})
    if (lane->down) return lane->down;
  if (!schemas_ready_ || !reads_.ever_connected || !writes_.ever_connected) return core::unavailable("the database is being connected");
  return std::nullopt;
}

void Database::Impl::tell_health() {
  const auto why = unusable();
  const auto word = why ? why->message : "";
  if (health_told_ == word) return;
  health_told_ = word;
  on_health_(why ? &*why : nullptr);
}

core::awaitable<void> Database::Impl::tick() {
  asio::steady_timer timer(home_);
  boost::system::error_code ec;
  while (!stopping_) {
    if (reads_.under_way + writes_.under_way == 0) {
      co_await busy_.async_wait(asio::redirect_error(asio::use_awaitable, ec));
      if (stopping_) co_return;
    }
    timer.expires_after(kTick);
    co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ec));
    if (stopping_) co_return;
    for (auto* lane : {&reads_, &writes_}) watch_over(*lane, Clock::now());
  }
}

core::awaitable<void> Database::Impl::keep_up() {
  asio::steady_timer timer(home_);
  boost::system::error_code ec;
  while (!stopping_) {
    timer.expires_after(kUpkeepPause);
    co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ec));
    for (auto& schema : schemas_)
      for (auto& query : schema.upkeep)
        for (bool more = !stopping_; more;) {
          std::vector<Query> queries{query};
          auto rows = co_await call(shared_from_this(), std::move(queries), true, core::CallContext::with_timeout(seconds(30)));
          more = rows && rows.value().front().touched() > 0 && !stopping_;
        }
  }
}

void Database::Impl::prune(Lane& lane, Clock::time_point now) {
  const auto before = lane.queue.size();
  std::erase_if(lane.queue, [&](CallPtr& call) {
    if (call->deadline <= now) call->answer(cancelled_error(core::Sent::no));
    return !call->is_wanted();
  });
  lane.under_way -= before - lane.queue.size();
}

void Database::Impl::watch_over(Lane& lane, Clock::time_point now) {
  prune(lane, now);
  for (auto& slot : lane.slots) {
    if (!slot->session) continue;
    slot->session->expire(now);
    const auto silence = slot->session->silence();
    if (silence > options_.statement_timeout + kGrace)
      slot->session->break_off(to_error("08006", "no word for " + std::to_string(std::chrono::duration_cast<milliseconds>(silence).count()) + " ms"));
    else if (silence > kAbandoned && (&lane == &reads_ ? slot->session->is_held_up() : !slot->session->is_wanted_by_anyone()))
      // A write behind another might yet be done by the old connection's process: only reads may go to a new one.
      slot->session->break_off(to_error("08006", kHeldUp));
  }
}

}  // namespace flexi::runtime::postgres
