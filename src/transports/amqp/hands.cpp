// SPDX-License-Identifier: Apache-2.0
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>

#include "transports/amqp/consumer.hpp"

namespace flexi::transports::amqp {

namespace asio = boost::asio;
using core::Reply;
using core::Result;

namespace {
/// co_spawn copies what a coroutine returns, which a Reply can't be.
core::awaitable<void> call_into(core::Handler* handler, core::Request request, core::CallContext context, Result<Reply>* result) {
  *result = co_await handler->handle(std::move(request), std::move(context));
}
}  // namespace

Hands::Hands(asio::any_io_executor executor, Consumer& consumer, core::Handler& handler, ReadJob read, std::size_t slots)
    : consumer_(consumer), handler_(handler), read_(std::move(read)), slots_(slots), scope_(std::move(executor), "RabbitMQ consumer", runtime::LogSink::none()) {}

void Hands::add(std::vector<Taken> all) {
  asio::post(executor(), [this, all = std::move(all)]() mutable {
    for (auto& taken : all) {
      auto& line = lines_[taken.work];
      auto* queue = taken.work;
      line.waiting.push_back(std::move(taken));
      if (line.running >= slots_) continue;
      if (free_.empty()) free_.push_back(all_.emplace_back(std::make_shared<Slot>(executor())));
      auto slot = std::move(free_.back());
      free_.pop_back();
      ++line.running;
      scope_.spawn(work(std::move(slot), queue));
    }
  });
}

core::awaitable<void> Hands::work(std::shared_ptr<Slot> slot, const WorkQueue* queue) {
  auto& line = lines_[queue];
  while (!line.waiting.empty()) {
    auto taken = std::move(line.waiting.front());
    line.waiting.pop_front();
    co_await handle(slot, std::move(taken));
  }
  --line.running;
  free_.push_back(std::move(slot));
}

void Hands::drop_queued() {
  for (auto& [queue, line] : lines_)
    for (auto& taken : std::exchange(line.waiting, {})) consumer_.released(std::move(taken));
}

void Hands::cancel_running() {
  for (auto& slot : all_)
    if (slot->running) slot->cancel.emit(asio::cancellation_type::terminal);
}

core::awaitable<void> Hands::join() { co_await scope_.join(); }

core::awaitable<void> Hands::handle(std::shared_ptr<Slot> slot, Taken taken) {
  auto job = read_(*taken.work, taken.message);
  if (!job) {
    taken.attempt = std::max<std::int64_t>(taken.message.number(headers::kAttempt).value_or(1), 1);
    taken.told = !taken.message.reply_to.empty();
    consumer_.finished(std::move(taken), job.error());
    co_return;
  }
  taken.attempt = job.value().attempt;
  taken.untaken = std::clamp<std::int64_t>(taken.message.number(headers::kUntaken).value_or(0), 0, taken.attempt - 1);
  taken.told = job.value().told;
  taken.secret |= holds_secret(job.value().request.action);
  auto result = co_await attempt(slot, std::move(job.value().request), std::move(job.value().context));
  consumer_.finished(std::move(taken), std::move(result));
}

core::awaitable<Result<Reply>> Hands::attempt(std::shared_ptr<Slot> slot, core::Request request, core::CallContext context) {
  const auto call = ++slot->call;
  slot->running = true;
  slot->timed_out = false;
  slot->timer.expires_at(context.deadline);
  slot->timer.async_wait([slot, call](boost::system::error_code ec) {
    if (ec || slot->call != call || !slot->running) return;
    slot->timed_out = true;
    slot->cancel.emit(asio::cancellation_type::terminal);
  });
  Result<Reply> result = core::internal("internal error");
  try {
    auto work = call_into(&handler_, std::move(request), std::move(context), &result);
    co_await asio::co_spawn(executor(), std::move(work), asio::bind_cancellation_slot(slot->cancel.slot(), asio::use_awaitable));
  } catch (const boost::system::system_error& e) {
    if (e.code() == asio::error::operation_aborted) result = core::cancelled("the attempt was cancelled");
    else result = core::internal("internal error", e.what());
  } catch (const std::exception& e) {
    result = core::internal("internal error", e.what());
  }
  slot->running = false;
  slot->timer.cancel();
  if (!result && slot->timed_out) {
    auto late = core::deadline_exceeded("the service did not answer in time", result.error().detail);
    late.sent = core::Sent::maybe;
    co_return late;
  }
  co_return result;
}

}  // namespace flexi::transports::amqp
