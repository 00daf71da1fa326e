// SPDX-License-Identifier: Apache-2.0
#include "transports/rpc/event_queue.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include "transports/rpc/codec.hpp"

namespace flexi::transports::rpc {

namespace asio = boost::asio;
using NextEvent = core::Result<std::optional<std::string>>;

class EventQueue::Sink final : public schema::EventSink::Server {
 public:
  explicit Sink(std::shared_ptr<EventQueue> queue) : queue_(std::move(queue)) {}
  kj::Promise<void> event(EventContext context) override {
    const auto json = context.getParams().getJson();
    return queue_->push(std::string(json.begin(), json.size()));
  }
  kj::Promise<void> done(DoneContext context) override {
    const auto params = context.getParams();
    if (params.hasFailure()) queue_->end(read_failure(params.getFailure()));
    else queue_->end(std::nullopt);
    return kj::READY_NOW;
  }

 private:
  const std::shared_ptr<EventQueue> queue_;
};

class EventQueue::Stream final : public core::EventStream {
 public:
  explicit Stream(std::shared_ptr<EventQueue> queue) : queue_(std::move(queue)) {}
  ~Stream() override {
    if (!queue_->closed()) asio::post(queue_->executor_, [queue = queue_] { queue->end(std::nullopt); });
  }
  core::awaitable<NextEvent> next(core::CallContext context) override {
    if (co_await asio::this_coro::executor == queue_->executor_) co_return co_await queue_->next(std::move(context));
    std::optional<NextEvent> event;
    auto there = next_there(queue_, std::move(context), &event);
    co_await asio::co_spawn(queue_->executor_, std::move(there), asio::bind_cancellation_slot(asio::cancellation_slot(), asio::use_awaitable));
    co_return std::move(*event);
  }

 private:
  static asio::awaitable<void> next_there(std::shared_ptr<EventQueue> queue, core::CallContext context, std::optional<NextEvent>* event) {
    event->emplace(co_await queue->next(std::move(context)));
  }
  const std::shared_ptr<EventQueue> queue_;
};

schema::EventSink::Client EventQueue::make_sink(std::shared_ptr<EventQueue> queue) { return kj::heap<Sink>(std::move(queue)); }
std::unique_ptr<core::EventStream> EventQueue::make_stream(std::shared_ptr<EventQueue> queue) { return std::make_unique<Stream>(std::move(queue)); }

kj::Promise<void> EventQueue::push(std::string event) {
  if (ended_) return kj::READY_NOW;
  events_.push_back(std::move(event));
  wake();
  if (events_.size() < limit_) return kj::READY_NOW;
  // Streaming calls come one after the other: nobody else waits.
  auto later = kj::newPromiseAndFulfiller<void>();
  room_ = kj::mv(later.fulfiller);
  return kj::mv(later.promise);
}

void EventQueue::wake() {
  if (auto waiting = std::exchange(waiting_, nullptr)) waiting->complete(core::ok());
}

void EventQueue::make_room() {
  KJ_IF_MAYBE(room, room_) (*room)->fulfill();
  room_ = nullptr;
}

void EventQueue::end(std::optional<core::Error> failure) {
  if (!std::exchange(ended_, true)) failure_ = std::move(failure);
  subscription_ = nullptr;
  make_room();
  closed_ = true;
  wake();
}

core::awaitable<NextEvent> EventQueue::next(core::CallContext context) {
  for (;;) {
    if (!events_.empty()) {
      auto event = std::move(events_.front());
      events_.pop_front();
      if (events_.size() < limit_) make_room();
      co_return std::optional(std::move(event));
    }
    if (ended_) {
      if (failure_) co_return *failure_;
      co_return std::optional<std::string>();
    }
    if (context.expired()) co_return core::deadline_exceeded("no event came in time");
    asio::steady_timer timer(executor_);
    if (context.has_deadline()) timer.expires_at(context.deadline);
    auto start = [&](std::shared_ptr<runtime::Completion<void>> waiting) {
      waiting_ = waiting;
      if (!context.has_deadline()) return;
      timer.async_wait([waiting](boost::system::error_code ec) {
        if (!ec) waiting->complete(core::ok());
      });
    };
    const auto woken = co_await runtime::wait_for_completion<void>(std::move(start), core::cancelled("nobody waits for the event"));
    waiting_ = nullptr;
    if (!woken) co_return woken.error();
  }
}

}  // namespace flexi::transports::rpc
