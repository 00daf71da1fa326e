// SPDX-License-Identifier: Apache-2.0
#include "transports/amqp/client.hpp"

#include "transports/amqp/codec.hpp"

namespace flexi::transports::amqp {

namespace asio = boost::asio;
using core::Reply;
using core::Result;
using core::Sent;

AmqpClient::AmqpClient(asio::any_io_executor executor, std::unique_ptr<Shared> shared, std::string name)
    : shared_(std::move(shared)), replies_(executor, *shared_), publisher_(executor, *shared_, std::move(name), &replies_) {
  publisher_.start();
}

AmqpClient::~AmqpClient() = default;

core::awaitable<Result<Reply>> AmqpClient::handle(core::Request request, core::CallContext context) {
  if (stopped_) co_return core::unavailable("the service is stopping");
  if (context.expired()) co_return runtime::cancelled_error(Sent::no);
  const bool stored = request.ack == core::Ack::stored;
  if (request.action == core::actions::kAuth && !stored) co_return core::invalid_argument("ack \"accepted\" is not possible for auth: use stored");
  if (request.id.empty()) request.id = core::MessageId::generate();
  auto message = write_request(request, context, shared_->options);
  if (!message) co_return message.error();
  Publication publication;
  publication.work = shared_->topology.of_action(request.action);
  if (!publication.work) co_return core::unimplemented("no queue for action " + request.action + " is configured");
  publication.exchange = shared_->topology.logs_exchange();
  publication.routing_key = publication.work->key;
  publication.message = std::move(message).value();
  publication.deadline = context.limited_to(shared_->options.max_wait).deadline;
  try {
    auto result = stored ? co_await wait_for_stored(std::move(publication)) : co_await publisher_.publish(std::move(publication));
    if (result) {
      result.value().way = "amqp";
      if (!stored) result.value().message = "queued";
    }
    co_return result;
  } catch (const boost::system::system_error& e) {
    if (e.code() != asio::error::operation_aborted) throw;
    // The caller's coroutine throws when it is cancelled; where the request stood then is not known.
    co_return runtime::cancelled_error(Sent::maybe);
  }
}

core::awaitable<Result<Reply>> AmqpClient::wait_for_stored(Publication publication) {
  struct Place {
    explicit Place(std::atomic<std::int64_t>& all) : count(all), number(all.fetch_add(1)) {}
    ~Place() { count.fetch_sub(1); }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    std::atomic<std::int64_t>& count;
    const std::int64_t number;
  } place(waiters_);
  if (place.number >= shared_->options.max_waiters) {
    auto error = core::overloaded("too many callers wait for RabbitMQ");
    error.retry_after = std::chrono::seconds(1);
    co_return error;
  }
  const auto& work = *publication.work;
  const auto deadline = publication.deadline;
  auto listener = co_await replies_.has_listener(work, deadline);
  if (!listener) co_return deadline <= core::CallContext::Clock::now() ? runtime::cancelled_error(Sent::no) : listener.error();
  const auto correlation = replies_.next_correlation();
  publication.wants_reply = true;
  publication.message.correlation_id = correlation;
  publication.fate = std::make_shared<Fate>();
  auto announce = [this, fate = publication.fate, &correlation, &work, deadline](const Publisher::Waiter& waiter) {
    replies_.add(correlation, waiter, fate, work, deadline);
  };
  auto result = co_await publisher_.publish(std::move(publication), std::move(announce));
  replies_.remove(correlation);
  co_return result;
}

core::awaitable<void> AmqpClient::stop(core::StopOptions options) {
  co_await asio::this_coro::throw_if_cancelled(false);
  stopped_ = true;
  // Those who wait for an answer get it while it comes in time.
  const auto until = core::CallContext::Clock::now() + options.grace;
  asio::steady_timer pause(co_await asio::this_coro::executor);
  while (waiters_ > 0 && core::CallContext::Clock::now() < until) {
    pause.expires_after(std::chrono::milliseconds(5));
    co_await pause.async_wait(asio::use_awaitable);
  }
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - core::CallContext::Clock::now());
  co_await publisher_.stop(std::max(left, std::chrono::milliseconds(0)));
  co_await replies_.stop();
  // All have their answer; they still look at this object on their way out.
  while (waiters_ > 0) {
    pause.expires_after(std::chrono::milliseconds(1));
    co_await pause.async_wait(asio::use_awaitable);
  }
}

}  // namespace flexi::transports::amqp
