// SPDX-License-Identifier: Apache-2.0
#include "transports/queue/worker.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/redirect_error.hpp>

#include "core/hops.hpp"
#include "transports/json_codec.hpp"

namespace flexi::transports::queue {

namespace asio = boost::asio;
using core::Reply;
using core::Result;

namespace {
/// co_spawn copies what a coroutine returns, which a Reply can't be.
asio::awaitable<void> call_into(core::Handler* handler, core::Request request, core::CallContext context, Result<Reply>* result, bool* untaken) {
  *result = co_await handler->handle(std::move(request), std::move(context));
  if (*result) co_return;
  auto& error = result->error();
  *untaken = core::is_untaken(error);
  error.answered = true;  // the handler's word, as far as the queue's callers are concerned
}
}  // namespace

Worker::Worker(QueueState& state, Consumer& consumer, core::Handler& handler, unsigned shard, std::int64_t slots)
    : state_(state), consumer_(consumer), handler_(handler), executor_(state.shards.executor(shard)), scope_(executor_, "queue consumer", state.log) {
  for (std::int64_t i = 0; i < slots; ++i) slots_.push_back(std::make_shared<Slot>(executor_));
}

void Worker::start() {
  for (auto& slot : slots_) scope_.spawn(run(slot));
}

void Worker::add(std::vector<Message> messages) {
  asio::post(executor_, [this, messages = std::move(messages)]() mutable {
    const auto count = messages.size();
    for (auto& m : messages) messages_.push_back(std::move(m));
    wake(count);
  });
}

void Worker::add(TransientCall call) {
  // At once, in a slot of its own: a person waits, and must not wait behind messages. Consumer limits how many there are.
  asio::post(executor_, [this, call = std::move(call)]() mutable {
    if (ending_) return refuse(std::move(call));
    auto slot = std::make_shared<Slot>(executor_);
    calls_.insert(slot);
    scope_.spawn(handle(std::move(slot), std::move(call)));
  });
}

void Worker::refuse(TransientCall call) {
  call.completion->complete(core::Result<Reply>(core::unavailable("the service is stopping")));
  consumer_.transient_done();
}

void Worker::wake(std::size_t count) {
  for (; count > 0 && !idle_.empty(); --count) {
    idle_.back()->wake.cancel();
    idle_.pop_back();
  }
}

void Worker::drop_queued() {
  for (auto& m : std::exchange(messages_, {})) consumer_.released(std::move(m));
}

void Worker::cancel_running() {
  for (auto& slot : slots_)
    if (slot->running) slot->cancel.emit(asio::cancellation_type::terminal);
  // A call that is cancelled may end inside the emit and leave the set.
  for (auto& slot : std::vector(calls_.begin(), calls_.end()))
    if (slot->running) slot->cancel.emit(asio::cancellation_type::terminal);
}

asio::awaitable<void> Worker::end() {
  drop_queued();
  ending_ = true;
  wake(slots_.size());
  co_await scope_.join();
}

asio::awaitable<void> Worker::run(std::shared_ptr<Slot> slot) {
  for (;;) {
    if (!messages_.empty()) {
      auto message = std::move(messages_.front());
      messages_.pop_front();
      co_await handle(slot, std::move(message));
    } else if (ending_) {
      break;
    } else {
      idle_.push_back(slot.get());
      slot->wake.expires_at(asio::steady_timer::time_point::max());
      boost::system::error_code woken;
      co_await slot->wake.async_wait(asio::redirect_error(asio::use_awaitable, woken));
    }
  }
}

asio::awaitable<void> Worker::handle(std::shared_ptr<Slot> slot, Message message) {
  if (consumer_.stopping()) {
    consumer_.released(std::move(message));
    co_return;
  }
  core::Request request;
  auto id = core::MessageId::parse(message.id);
  auto payload = payload_from_json(message.action, message.payload);
  if (!id || !payload) {
    consumer_.finished(std::move(message), id ? payload.error() : id.error());
    co_return;
  }
  request.id = std::move(id).value();
  request.action = message.action;
  request.payload = std::move(payload).value();
  request.via = core::Via::amqp;
  request.ack = core::Ack::stored;
  request.id_from_caller = message.id_from_caller;
  request.accepted_at = core::from_unix_micros(message.accepted_at);
  auto timeout = state_.options.attempt_timeout;
  if (message.expires_at) {
    const auto left = std::chrono::milliseconds(std::max<std::int64_t>((message.expires_at - state_.now_micros()) / 1000, 1));
    timeout = std::min(timeout, left);
  }
  auto context = core::CallContext::with_timeout(timeout);
  context.trace = core::TraceContext::from_traceparent(message.traceparent);
  context.caller = message.caller;
  context.hops = core::lengthen_hops(message.hops, request.accepted_at);
  auto result = co_await attempt(slot, std::move(request), std::move(context));
  if (slot->untaken) ++message.untaken;
  consumer_.finished(std::move(message), std::move(result));
}

asio::awaitable<void> Worker::handle(std::shared_ptr<Slot> slot, TransientCall call) {
  Result<Reply> result = runtime::cancelled_error(core::Sent::no);
  if (!call.context.expired()) result = co_await attempt(slot, std::move(call.request), call.context.limited_to(state_.options.attempt_timeout));
  calls_.erase(slot);
  call.completion->complete(std::move(result));
  consumer_.transient_done();
}

asio::awaitable<Result<Reply>> Worker::attempt(std::shared_ptr<Slot> slot, core::Request request, core::CallContext context) {
  const auto call = ++slot->call;
  slot->running = true;
  slot->timed_out = slot->untaken = false;
  slot->timer.expires_at(context.deadline);
  slot->timer.async_wait([slot, call](boost::system::error_code ec) {
    if (ec || slot->call != call || !slot->running) return;
    slot->timed_out = true;
    slot->cancel.emit(asio::cancellation_type::terminal);
  });
  Result<Reply> result = core::internal("internal error");
  try {
    auto work = call_into(&handler_, std::move(request), std::move(context), &result, &slot->untaken);
    co_await asio::co_spawn(executor_, std::move(work), asio::bind_cancellation_slot(slot->cancel.slot(), asio::use_awaitable));
  } catch (const boost::system::system_error& e) {
    if (e.code() == asio::error::operation_aborted)
      result = core::cancelled("the attempt was cancelled");
    else
      result = core::internal("internal error", e.what());
  } catch (const std::exception& e) {
    result = core::internal("internal error", e.what());
  }
  slot->running = false;
  slot->timer.cancel();
  if (!result && slot->timed_out) {
    auto late = core::deadline_exceeded("the service did not answer in time", result.error().detail);
    late.sent = core::Sent::maybe;
    slot->untaken = false;
    co_return late;
  }
  co_return result;
}

}  // namespace flexi::transports::queue
