// SPDX-License-Identifier: Apache-2.0
#include "transports/amqp/consumer.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/redirect_error.hpp>

namespace flexi::transports::amqp {

namespace asio = boost::asio;
using core::Reply;
using core::Result;
using Clock = core::CallContext::Clock;

namespace {
constexpr int kAsideGrowth = 10;  ///< the longest pause before a message is put aside again is so many times the first
constexpr auto kAsideTime = std::chrono::seconds(10);
constexpr double kLeastOfDelay = 0.8;  ///< the jitter: a retry queue's messages are tried again after so much of its delay at the earliest

std::string reason_of(const core::Error& error) { return std::string(core::to_string(error.kind)) + ": " + error.message; }
}  // namespace

Consumer::Consumer(runtime::Shards& shards, std::unique_ptr<Shared> shared, core::Handler& handler, std::vector<const WorkQueue*> works, std::string name,
                   ReadJob read)
    : shared_(std::move(shared)), read_(read), scope_(shards.executor(0), "RabbitMQ consumer", shared_->log),
      drained_(shards.executor(0)), publisher_(shards.executor(0), *shared_, name + " aside"), session_(shards.executor(0), *shared_, name, *this) {
  for (auto* work : works) lanes_.push_back(std::make_unique<Lane>(*this, *work, lanes_.size()));
  const auto concurrency = static_cast<std::size_t>(shared_->options.concurrency);
  const auto count = std::min<std::size_t>(shards.size(), concurrency);
  for (std::size_t i = 0; i < count; ++i) {
    const auto slots = concurrency / count + (i < concurrency % count ? 1 : 0);
    hands_.push_back(std::make_unique<Hands>(shards.executor(static_cast<unsigned>(i)), *this, handler, read, slots));
  }
  batches_.resize(count);
}

Consumer::~Consumer() = default;

void Consumer::start() {
  publisher_.start();
  session_.start();
}

core::awaitable<Result<void>> Consumer::on_connected(Connection& connection, const Problems& problems) {
  ++epoch_;
  refused_.clear();
  connection_ = &connection;
  auto consumed = co_await consume(connection, problems);
  if (!consumed) connection_ = nullptr;
  co_return consumed;
}

/// From every queue that can be used and is not consumed yet.
core::awaitable<Result<void>> Consumer::consume(Connection& connection, const Problems& problems) {
  for (auto& lane : lanes_) {
    if (problems.contains(lane->work.queue)) refused_.erase(lane->work.queue);  // that says it already
    if (problems.contains(lane->work.queue) || lane->state != Lane::State::off || stopping_) continue;
    FLEXI_CO_TRY(co_await consume(connection, *lane));
  }
  co_return core::ok();
}

core::awaitable<Result<void>> Consumer::consume(Connection& connection, Lane& lane) {
  auto& queue = lane.work.queue;
  lane.acks.clear();
  lane.state = Lane::State::asking;
  FLEXI_CO_TRY(co_await connection.open_channel(lane.channel, &lane));
  amqp_basic_qos_t qos{0, static_cast<std::uint16_t>(shared_->options.prefetch), 0};
  auto set = co_await connection.call(lane.channel, AMQP_BASIC_QOS_METHOD, &qos);
  if (!set) co_return set.error();
  amqp_basic_consume_t m{0, bytes_of(queue), bytes_of(queue), 0, 0, 0, 0, amqp_empty_table};
  auto reply = co_await connection.call(lane.channel, AMQP_BASIC_CONSUME_METHOD, &m);
  if (!reply) co_return reply.error();
  lane.state = reply.value().refused() ? Lane::State::off : Lane::State::on;
  if (reply.value().refused()) refused_[queue] = "queue " + queue + " can't be consumed: " + reply.value().text + ". It is tried again now and then; the others are consumed";
  else refused_.erase(queue);
  co_return core::ok();
}

void Consumer::on_up() { consuming_ = !stopping_; }

void Consumer::on_down(const core::Error&, bool) {
  consuming_ = false;
  connection_ = nullptr;
  ++epoch_;  // what is in hand comes again; its end can't be told any more
  refused_.clear();
  for (auto& lane : lanes_) lane->state = Lane::State::off, lane->acks.clear();
}

core::awaitable<void> Consumer::on_problems(const Problems& problems) {
  if (!connection_ || stopping_) co_return;
  auto consumed = co_await consume(*connection_, problems);
  if (!consumed && connection_) connection_->fail(consumed.error());
}

void Consumer::lost(const char* what, const std::string& why) {
  if (connection_) connection_->fail(core::unavailable(what, why));
}

void Consumer::Lane::on_channel_closed(const MethodReply& refusal) {
  if (state == State::on) consumer_.lost("RabbitMQ closed the channel", refusal.text);
}

void Consumer::take(Lane& lane, Delivery delivery) {
  // Also while a consumer is being set up or cancelled: what comes then counts like any other.
  lane.acks.taken(delivery.tag);
  ++in_hand_;
  Taken taken{epoch_, delivery.tag, &lane.work, lane.index, std::move(delivery.message)};
  taken.secret = taken.work->transient;
  auto& message = taken.message;
  const std::string_view action = taken.work->action;
  shared_->teller.tell({EventKind::consumed, action, message.message_id});
  if (delivery.redelivered) shared_->teller.tell({EventKind::redelivered, action, message.message_id});
  if (hard_) return leave(taken);  // before that it is worked off: RabbitMQ gives it to nobody else while it is ours
  if (is_expired(message, now_micros())) {
    shared_->teller.tell({EventKind::expired, action, message.message_id});
    return done(taken);
  }
  // A log-in that nobody waits for is nothing.
  if (taken.work->transient && message.reply_to.empty()) {
    shared_->teller.tell({EventKind::discarded, action, message.message_id, "nobody waits for the answer"});
    return done(taken);
  }
  batches_[next_hands_++ % batches_.size()].push_back(std::move(taken));
}

void Consumer::hand_out() {
  for (std::size_t i = 0; i < batches_.size(); ++i)
    if (!batches_[i].empty()) hands_[i]->add(std::exchange(batches_[i], {}));
}

/// One post for all that end until it runs.
void Consumer::finished(Taken taken, Result<Reply> result) {
  bool first = false;
  {
    std::lock_guard lock(results_mutex_);
    first = results_.empty();
    results_.emplace_back(std::move(taken), std::move(result));
  }
  if (!first) return;
  asio::post(scope_.executor(), [this] {
    std::vector<std::pair<Taken, Result<Reply>>> all;
    {
      std::lock_guard lock(results_mutex_);
      all.swap(results_);
    }
    for (auto& [one, outcome] : all) settle(std::move(one), std::move(outcome));
    flush_acks();
  });
}

void Consumer::released(Taken taken) {
  asio::post(scope_.executor(), [this, taken = std::move(taken)]() mutable { leave(taken); });
}

void Consumer::settle(Taken taken, Result<Reply> result) {
  auto& message = taken.message;
  const std::string_view action = taken.work->action;
  if (result) {
    shared_->teller.tell({result.value().duplicate ? EventKind::duplicate : EventKind::stored, action, message.message_id});
    if (taken.told) reply(taken, result);
    return done(taken);
  }
  const auto& error = result.error();
  if (!error.detail.empty() || error.kind == core::ErrorKind::internal)
    // Once a message: an outage would fill the log with the same words.
    shared_->log.write(taken.attempt <= 1 ? runtime::LogLevel::warning : runtime::LogLevel::debug, "message not handled",
                       {{"action", action}, {"id", message.message_id}, {"kind", core::to_string(error.kind)}, {"message", error.message}, {"detail", error.detail}});
  // Its caller is still there and decides what to do about the failure; a log-in is never kept, by whichever queue it came.
  if (taken.told || taken.secret) {
    shared_->teller.tell({EventKind::discarded, action, message.message_id, core::to_string(error.kind)});
    auto told = error;
    if (stopping_ && error.kind == core::ErrorKind::cancelled) told = core::unavailable("the service is stopping"), told.sent = core::Sent::maybe;
    reply(taken, told);
    return done(taken);
  }
  if (stopping_ && may_heal(error.kind)) return leave(taken);
  // Only its beginning was kept: RabbitMQ itself moves the whole.
  if (message.truncated()) return bury(taken, reason_of(error));
  scope_.spawn(put_aside(std::move(taken), error));
}

/// The message for where it goes now that an attempt has failed.
Publication Consumer::aside(const Taken& taken, const core::Error& error, bool& dead) {
  Publication p;
  const auto& work = *taken.work;
  const auto& o = shared_->options;
  const auto untaken = taken.untaken + (core::is_untaken(error) ? 1 : 0);
  dead = !may_heal(error.kind) || (!core::is_untaken(error) && taken.attempt - untaken >= o.max_attempts) || work.retry.empty();
  p.deadline = Clock::now() + kAsideTime;
  p.counted = false;
  if (dead) {
    p.exchange = shared_->topology.dead_exchange();
    p.routing_key = work.queue;
    p.message = for_dead_letter(work.action, taken.message, error, taken.attempt);
    return p;
  }
  auto step = std::min<std::int64_t>(taken.attempt, o.retry_steps) - 1;
  const auto wanted = error.retry_after.value_or(std::chrono::milliseconds(0));
  while (step + 1 < o.retry_steps && o.delay_of_step(step) < wanted) ++step;
  p.routing_key = work.retry[static_cast<std::size_t>(step)];
  p.message = for_retry(taken.message, error, taken.attempt);
  p.message.set(headers::kUntaken, untaken);
  // RabbitMQ expires only what is at the queue's head. Who came earlier is due within the same delay, so nobody waits for longer than it.
  const auto delay = o.delay_of_step(step).count();
  const auto least = std::min(delay, std::max<std::int64_t>({static_cast<std::int64_t>(static_cast<double>(delay) * kLeastOfDelay), wanted.count(), 1}));
  p.message.expiration = std::to_string(std::uniform_int_distribution<std::int64_t>(least, delay)(random_));
  return p;
}

/// Confirmed first, acknowledged then: at no time is the message nowhere. Until then it stays unacknowledged, and `prefetch`
/// bounds how many do: given back it would only be delivered and handled again, and be buried by its queue's delivery limit.
core::awaitable<void> Consumer::put_aside(Taken taken, core::Error error) {
  co_await asio::this_coro::throw_if_cancelled(false);
  const auto first = shared_->options.aside_pause;
  for (auto wait = first; taken.epoch == epoch_ && !hard_; wait = std::min(2 * wait, kAsideGrowth * first)) {
    bool dead = false;
    auto result = co_await publisher_.publish(aside(taken, error, dead));
    say_trouble(taken, result ? nullptr : &result.error());
    if (result) {
      if (dead) say_dead(taken, reason_of(error));
      else shared_->teller.tell({EventKind::retried, taken.work->action, taken.message.message_id, reason_of(error)});
      done(taken);
      co_return flush_acks();
    }
    // This one can never be published with what it would say.
    if (result.error().kind == core::ErrorKind::invalid_argument) co_return bury(taken, reason_of(error));
    if (stopping_) break;
    co_await pause(wait);
  }
  leave(taken);
}

/// RabbitMQ moves it into the dead letters, as it is.
void Consumer::bury(const Taken& taken, const std::string& reason) {
  if (taken.epoch == epoch_ && connection_) {
    connection_->reject(lanes_[taken.lane]->channel, taken.tag, false);
    lanes_[taken.lane]->acks.settled(taken.tag);
    say_dead(taken, reason);
    flush_acks();
  }
  gone();
}

void Consumer::say_dead(const Taken& taken, const std::string& reason) {
  shared_->teller.tell({EventKind::dead_lettered, taken.work->action, taken.message.message_id, reason});
  shared_->log.error("message dead-lettered", {{"id", taken.message.message_id}, {"action", taken.work->action}, {"queue", taken.work->queue}, {"reason", reason}, {"attempts", taken.attempt}});
}

/// A line when it begins, changes or ends: an alarm concerns all that is in hand, again and again.
void Consumer::say_trouble(const Taken& taken, const core::Error* failure) {
  auto& trouble = lanes_[taken.lane]->trouble;
  if (trouble == (failure ? failure->message : std::string())) return;
  trouble = failure ? failure->message : std::string();
  if (failure) shared_->log.warning("failed messages can't be put aside yet", {{"queue", taken.work->queue}, {"reason", trouble}, {"detail", failure->detail}});
  else shared_->log.info("failed messages can be put aside again", {{"queue", taken.work->queue}});
}

core::awaitable<void> Consumer::pause(std::chrono::milliseconds time) {
  asio::steady_timer timer(scope_.executor(), time);
  pauses_.insert(&timer);
  boost::system::error_code ignored;
  co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  pauses_.erase(&timer);
}

void Consumer::reply(const Taken& taken, const Result<Reply>& result) {
  // An answer never becomes a request: not to ourselves, and not to another queue of ours.
  if (taken.message.reply_to.empty() || shared_->topology.is_ours(taken.message.reply_to)) return;
  Publication p;
  p.routing_key = taken.message.reply_to;
  p.message = write_reply(result);
  p.message.correlation_id = taken.message.correlation_id;
  p.message.message_id = taken.message.message_id;
  p.counted = false;
  p.mandatory = false;  // who does not wait any more needs no answer
  p.deadline = Clock::now() + kAsideTime;
  publisher_.post(std::move(p));
}

void Consumer::done(const Taken& taken) {
  if (taken.epoch == epoch_) {
    shared_->teller.tell({EventKind::acked, taken.work->action, taken.message.message_id});
    lanes_[taken.lane]->acks.finished(taken.tag);
    if (!std::exchange(flushing_, true)) asio::post(scope_.executor(), [this] { flush_acks(); });
  }
  gone();
}

/// It stays unacknowledged: RabbitMQ gives it to somebody else when this connection ends.
void Consumer::leave(const Taken&) { gone(); }

void Consumer::gone() {
  if (--in_hand_ == 0) drained_.cancel();
}

void Consumer::flush_acks() {
  flushing_ = false;
  if (!connection_) return;
  for (auto& lane : lanes_)
    for (auto& ack : lane->acks.collect()) connection_->ack(lane->channel, ack.tag, ack.multiple);
}

core::awaitable<void> Consumer::drained(Clock::time_point until) {
  while (in_hand_ > 0 && Clock::now() < until) {
    drained_.expires_at(until);
    boost::system::error_code ignored;
    co_await drained_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
}

core::awaitable<void> Consumer::cancel_consumers() {
  if (!connection_) co_return;
  auto* connection = connection_;
  for (auto& lane : lanes_) {
    if (lane->state != Lane::State::on) continue;
    amqp_basic_cancel_t m{bytes_of(lane->work.queue), 0};
    (void)co_await connection->call(lane->channel, AMQP_BASIC_CANCEL_METHOD, &m);
    if (connection_ != connection) co_return;
  }
}

core::awaitable<void> Consumer::stop(core::StopOptions options) {
  auto work = [](Consumer* self, std::chrono::milliseconds grace) -> core::awaitable<void> {
    co_await asio::this_coro::throw_if_cancelled(false);
    self->stopping_ = true;
    self->consuming_ = false;
    for (auto* timer : self->pauses_) timer->cancel();
    const auto until = Clock::now() + grace;
    co_await self->cancel_consumers();
    // Soft: what was taken is worked off. Hard: what has not begun stays in its queue, what runs is cancelled.
    co_await self->drained(until);
    self->hard_ = true;
    for (auto& hands : self->hands_) asio::post(hands->executor(), [h = hands.get()] { h->drop_queued(), h->cancel_running(); });
    co_await self->drained(Clock::time_point::max());
    for (auto& hands : self->hands_) co_await asio::co_spawn(hands->executor(), hands->join(), asio::use_awaitable);
    co_await self->scope_.join();
    self->flush_acks();
    co_await self->publisher_.stop(std::chrono::milliseconds(500));
    co_await self->session_.stop();
  };
  co_await asio::co_spawn(scope_.executor(), work(this, options.grace), asio::use_awaitable);
}

}  // namespace flexi::transports::amqp
