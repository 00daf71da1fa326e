// SPDX-License-Identifier: Apache-2.0
#include "transports/amqp/replies.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/redirect_error.hpp>
#include <set>

#include "transports/amqp/codec.hpp"

namespace flexi::transports::amqp {

namespace asio = boost::asio;
using core::Result;

namespace {

constexpr auto kSeenFor = std::chrono::seconds(1);  ///< how long a listener that was seen is believed in
constexpr auto kLookEvery = std::chrono::milliseconds(200);
constexpr auto kAskAgain = std::chrono::milliseconds(50);

core::Error nobody() {
  auto error = core::unavailable("nothing consumes the queue at the moment");
  error.retry_after = std::chrono::seconds(1);
  return error;
}

core::Error maybe(core::Error error) {
  error.sent = core::Sent::maybe;
  return error;
}

}  // namespace

Replies::Replies(asio::any_io_executor executor, Shared& shared)
    : shared_(shared), scope_(executor, "RabbitMQ replies", shared.log), salt_(core::MessageId::generate().str()) {
  for (auto& work : shared.topology.works()) sights_[work.queue];
}

Replies::~Replies() = default;

std::string Replies::next_correlation() { return salt_ + "." + std::to_string(++counter_); }

Replies::Sight& Replies::sight_of(const WorkQueue& work) { return sights_.find(work.queue)->second; }

void Replies::add(const std::string& correlation, Waiter waiter, std::shared_ptr<Fate> fate, const WorkQueue& work, Clock::time_point deadline) {
  std::lock_guard lock(mutex_);
  waiting_[correlation] = {std::move(waiter), std::move(fate), &work, deadline, Clock::now()};
}

void Replies::remove(const std::string& correlation) {
  std::lock_guard lock(mutex_);
  waiting_.erase(correlation);
}

bool Replies::busy() const {
  std::lock_guard lock(mutex_);
  return !waiting_.empty();
}

core::awaitable<Result<void>> Replies::on_connected(Connection& connection) {
  auto opened = co_await connection.open_channel(kChannel, this);
  if (!opened) co_return opened.error();
  // A new name each time: an answer to the last connection's callers must not meet this one's.
  queue_ = shared_.options.prefix + "flexi.reply." + core::MessageId::generate().str();
  amqp_queue_declare_t declare{0, bytes_of(queue_), 0, 0, 1, 1, 0, amqp_empty_table};
  auto declared = co_await connection.call(kChannel, AMQP_QUEUE_DECLARE_METHOD, &declare);
  if (!declared) co_return declared.error();
  if (declared.value().refused()) co_return core::unavailable("RabbitMQ gives no reply queue", declared.value().text);
  // Exclusive and ours alone: what comes is answered at once or nobody's, so nothing is acknowledged.
  amqp_basic_consume_t consume{0, bytes_of(queue_), amqp_empty_bytes, 0, 1, 1, 0, amqp_empty_table};
  auto consumed = co_await connection.call(kChannel, AMQP_BASIC_CONSUME_METHOD, &consume);
  if (!consumed) co_return consumed.error();
  if (consumed.value().refused()) co_return core::unavailable("RabbitMQ gives no reply queue", consumed.value().text);
  connection_ = &connection;
  watch_open_ = false;
  co_return core::ok();
}

/// The reply queue went with the connection. Those whose message was confirmed can't be answered any more; the others'
/// are published again and name the next reply queue.
void Replies::on_down() {
  connection_ = nullptr;
  for (auto& [queue, sight] : sights_) sight.at = 0, sight.lonely_since = {};
  std::lock_guard lock(mutex_);
  std::erase_if(waiting_, [](auto& one) {
    if (!one.second.fate->confirmed) return false;
    one.second.waiter->complete(maybe(core::unavailable("the connection to RabbitMQ was lost before the answer came")));
    return true;
  });
}

void Replies::on_delivery(Delivery delivery) {
  Waiter waiter;
  {
    std::lock_guard lock(mutex_);
    auto found = waiting_.find(delivery.message.correlation_id);
    if (found == waiting_.end()) return;  // its caller has left
    waiter = std::move(found->second.waiter);
    waiting_.erase(found);
  }
  waiter->complete(read_reply(delivery.message));
}

void Replies::on_consumer_cancelled(std::string) {
  if (connection_) connection_->fail(core::unavailable("RabbitMQ took the reply queue away"));
}

void Replies::on_channel_closed(const MethodReply& refusal) {
  if (connection_) connection_->fail(core::unavailable("RabbitMQ closed the channel", refusal.text));
}

void Replies::on_tick() {
  const auto now = Clock::now();
  std::set<const WorkQueue*> queues;
  {
    std::lock_guard lock(mutex_);
    std::erase_if(waiting_, [&](auto& one) {
      auto& w = one.second;
      if (w.fate->left) return true;
      if (w.deadline <= now) {
        w.waiter->complete(runtime::cancelled_error(core::Sent::maybe));
        return true;
      }
      if (!w.fate->confirmed) return false;
      const auto lonely = sight_of(*w.work).lonely_since;
      if (lonely != Clock::time_point{} && now - std::max(lonely, w.since) > shared_.options.listener_patience) {
        w.waiter->complete(maybe(nobody()));
        return true;
      }
      queues.insert(w.work);
      return false;
    });
  }
  if (!connection_ || now - looked_ < kLookEvery) return;
  looked_ = now;
  for (auto* work : queues)
    if (!sight_of(*work).looking) scope_.spawn(look(work));
}

core::awaitable<void> Replies::look(const WorkQueue* work) {
  co_await asio::this_coro::throw_if_cancelled(false);
  auto& sight = sight_of(*work);
  sight.looking = true;
  auto seen = co_await ask(*work);
  sight.looking = false;
  // No message that waits: whoever had it is still at it, though he takes no more.
  if (!seen || seen->consumers > 0 || seen->messages == 0) sight.lonely_since = {};
  else if (sight.lonely_since == Clock::time_point{}) sight.lonely_since = Clock::now();
}

/// Ready messages and consumers of a queue; none where it can't be known now.
core::awaitable<std::optional<MethodReply>> Replies::ask(const WorkQueue& work) {
  if (!connection_) co_return std::nullopt;
  if (!watch_open_) {
    if (asking_) co_return std::nullopt;
    asking_ = true;
    auto* connection = connection_;
    auto opened = co_await connection->open_channel(kWatchChannel, nullptr);
    asking_ = false;
    if (!opened || connection_ != connection) co_return std::nullopt;
    watch_open_ = true;
  }
  amqp_queue_declare_t declare{0, bytes_of(work.queue), 1, 0, 0, 0, 0, amqp_empty_table};
  auto reply = co_await connection_->call(kWatchChannel, AMQP_QUEUE_DECLARE_METHOD, &declare);
  if (!reply || reply.value().refused()) {
    watch_open_ = false;
    co_return std::nullopt;
  }
  if (reply.value().consumers > 0) sight_of(work).at = Clock::now().time_since_epoch().count();
  co_return reply.value();
}

core::awaitable<Result<void>> Replies::has_listener(const WorkQueue& work, Clock::time_point deadline) {
  const auto seen = Clock::time_point(Clock::duration(sight_of(work).at.load()));
  if (Clock::now() - seen < kSeenFor) co_return core::ok();
  const auto until = std::min(deadline, Clock::now() + shared_.options.listener_patience);
  Result<void> result = core::ok();
  auto waiting = wait_for_listener(&work, until, &result);
  // A cancellation does not cross threads; the wait is short.
  co_await asio::co_spawn(scope_.executor(), std::move(waiting), asio::bind_cancellation_slot(asio::cancellation_slot(), asio::use_awaitable));
  co_return result;
}

core::awaitable<void> Replies::wait_for_listener(const WorkQueue* work, Clock::time_point until, Result<void>* result) {
  asio::steady_timer pause(scope_.executor());
  while (!stopping_) {
    const auto seen = Clock::time_point(Clock::duration(sight_of(*work).at.load()));
    if (Clock::now() - seen < kSeenFor || !connection_) co_return;
    auto now = co_await ask(*work);
    if (!connection_ || (now && now->consumers > 0)) co_return;
    if (Clock::now() >= until) {
      *result = nobody();
      co_return;
    }
    pause.expires_after(kAskAgain);
    co_await pause.async_wait(asio::use_awaitable);
  }
}

core::awaitable<void> Replies::stop() {
  auto work = [](Replies* self) -> core::awaitable<void> {
    co_await asio::this_coro::throw_if_cancelled(false);
    self->stopping_ = true;
    co_await self->scope_.join();
    std::lock_guard lock(self->mutex_);
    for (auto& [correlation, waiting] : self->waiting_) waiting.waiter->complete(maybe(core::unavailable("the service is stopping")));
    self->waiting_.clear();
  };
  co_await asio::co_spawn(scope_.executor(), work(this), asio::use_awaitable);
}

}  // namespace flexi::transports::amqp
