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
constexpr auto kAsidePause = std::chrono::milliseconds(500);  ///< before a message is put aside again that could not be
constexpr auto kAsideTime = std::chrono::seconds(10);
constexpr int kAsideTries = 20;  ///< after which it goes back into its queue, which counts how often it was delivered
}  // namespace

Consumer::Consumer(runtime::Shards& shards, std::unique_ptr<Shared> shared, core::Handler& handler, std::vector<const WorkQueue*> works, std::string name,
                   ReadJob read)
    : shared_(std::move(shared)), works_(std::move(works)), read_(read), scope_(shards.executor(0), "RabbitMQ consumer", shared_->log),
      drained_(shards.executor(0)), publisher_(shards.executor(0), *shared_, name + " aside"), session_(shards.executor(0), *shared_, name, *this) {
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
  acks_.clear();
  ++epoch_;
  auto opened = co_await connection.open_channel(kChannel, this);
  if (!opened) co_return opened.error();
  // For each consumer of the channel, not for their sum: a slow queue takes nothing from another.
  amqp_basic_qos_t qos{0, static_cast<std::uint16_t>(shared_->options.prefetch), 0};
  auto set = co_await connection.call(kChannel, AMQP_BASIC_QOS_METHOD, &qos);
  if (!set) co_return set.error();
  connection_ = &connection;
  consumers_.clear();
  auto consumed = co_await consume(connection, problems);
  if (!consumed) connection_ = nullptr;
  co_return consumed;
}

/// From every queue that can be used and is not consumed yet.
core::awaitable<Result<void>> Consumer::consume(Connection& connection, const Problems& problems) {
  for (auto* work : works_) {
    if (problems.contains(work->queue) || consumers_.contains(work->queue) || stopping_) continue;
    consumers_[work->queue] = work;
    // The tag is the queue's name: deliveries come with it, and tags are the channel's own.
    amqp_basic_consume_t m{0, bytes_of(work->queue), bytes_of(work->queue), 0, 0, 0, 0, amqp_empty_table};
    auto reply = co_await connection.call(kChannel, AMQP_BASIC_CONSUME_METHOD, &m);
    if (!reply) co_return reply.error();
    if (reply.value().refused()) co_return core::unavailable("RabbitMQ does not let the queues be consumed", reply.value().text);
  }
  co_return core::ok();
}

void Consumer::on_up() { consuming_ = !stopping_; }

void Consumer::on_down(const core::Error&, bool) {
  consuming_ = false;
  connection_ = nullptr;
  ++epoch_;  // what is in hand comes again; its end can't be told any more
  acks_.clear();
}

core::awaitable<void> Consumer::on_problems(const Problems& problems) {
  if (!connection_ || stopping_) co_return;
  auto consumed = co_await consume(*connection_, problems);
  if (!consumed && connection_) connection_->fail(consumed.error());
}

void Consumer::on_consumer_cancelled(std::string consumer) {
  if (connection_) connection_->fail(core::unavailable("RabbitMQ took a queue away", consumer));
}

void Consumer::on_channel_closed(const MethodReply& refusal) {
  if (connection_) connection_->fail(core::unavailable("RabbitMQ closed the channel", refusal.text));
}

void Consumer::on_delivery(Delivery delivery) {
  // Also while a consumer is being set up or cancelled: what comes then counts like any other.
  acks_.taken(delivery.tag);
  const auto found = consumers_.find(delivery.consumer);
  if (found == consumers_.end()) return;
  ++in_hand_;
  Taken taken{epoch_, delivery.tag, found->second, std::move(delivery.message)};
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

void Consumer::on_batch_end() {
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
    shared_->log.warning("message not handled", {{"action", action}, {"id", message.message_id}, {"kind", core::to_string(error.kind)},
                                                 {"message", error.message}, {"detail", error.detail}});
  // Its caller is still there and decides what to do about the failure; a log-in is never kept, by whichever queue it came.
  if (taken.told || taken.secret) {
    shared_->teller.tell({EventKind::discarded, action, message.message_id, core::to_string(error.kind)});
    auto told = error;
    if (stopping_ && error.kind == core::ErrorKind::cancelled) told = core::unavailable("the service is stopping"), told.sent = core::Sent::maybe;
    reply(taken, told);
    return done(taken);
  }
  if (stopping_ && may_heal(error.kind)) return leave(taken);
  scope_.spawn(put_aside(std::move(taken), error));
}

/// The message for where it goes now that an attempt has failed.
Publication Consumer::aside(const Taken& taken, const core::Error& error, bool& dead) const {
  Publication p;
  const auto& work = *taken.work;
  dead = !may_heal(error.kind) || taken.attempt >= shared_->options.max_attempts || work.retry.empty();
  if (dead) {
    p.exchange = shared_->topology.dead_exchange();
    p.routing_key = work.queue;
    p.message = for_dead_letter(work.action, taken.message, error, taken.attempt);
  } else {
    const auto step = std::min<std::size_t>(static_cast<std::size_t>(taken.attempt - 1), work.retry.size() - 1);
    p.routing_key = work.retry[step];
    p.message = for_retry(taken.message, error, taken.attempt);
  }
  p.deadline = Clock::now() + kAsideTime;
  p.counted = false;
  return p;
}

/// Confirmed first, acknowledged then: at no time is the message nowhere.
core::awaitable<void> Consumer::put_aside(Taken taken, core::Error error) {
  co_await asio::this_coro::throw_if_cancelled(false);
  const std::string_view action = taken.work->action;
  asio::steady_timer pause(scope_.executor());
  for (int tries = 0; taken.epoch == epoch_ && !hard_; ++tries) {
    bool dead = false;
    auto result = co_await publisher_.publish(aside(taken, error, dead));
    if (result) {
      const auto reason = std::string(core::to_string(error.kind)) + ": " + error.message;
      shared_->teller.tell({dead ? EventKind::dead_lettered : EventKind::retried, action, taken.message.message_id, reason});
      if (dead) shared_->log.error("message dead-lettered", {{"id", taken.message.message_id}, {"action", action}, {"queue", taken.work->queue}, {"reason", reason}, {"attempts", taken.attempt}});
      done(taken);
      co_return flush_acks();
    }
    shared_->log.warning("message can't be put aside yet", {{"id", taken.message.message_id}, {"queue", taken.work->queue}, {"reason", result.error().message}, {"detail", result.error().detail}});
    if (tries >= kAsideTries && taken.epoch == epoch_ && connection_) {
      // reject, not nack: it counts towards the delivery limit in every version of RabbitMQ.
      connection_->reject(kChannel, taken.tag, true);
      acks_.settled(taken.tag);
      co_return gone();
    }
    if (stopping_) break;
    pause.expires_after(kAsidePause);
    boost::system::error_code ignored;
    co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
  leave(taken);
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
    acks_.finished(taken.tag);
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
  for (auto& ack : acks_.collect()) connection_->ack(kChannel, ack.tag, ack.multiple);
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
  for (auto& [queue, work] : consumers_) {
    amqp_basic_cancel_t m{bytes_of(queue), 0};
    (void)co_await connection->call(kChannel, AMQP_BASIC_CANCEL_METHOD, &m);
    if (connection_ != connection) co_return;
  }
}

core::awaitable<void> Consumer::stop(core::StopOptions options) {
  auto work = [](Consumer* self, std::chrono::milliseconds grace) -> core::awaitable<void> {
    co_await asio::this_coro::throw_if_cancelled(false);
    self->stopping_ = true;
    self->consuming_ = false;
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
