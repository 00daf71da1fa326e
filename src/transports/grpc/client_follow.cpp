// SPDX-License-Identifier: Apache-2.0
#include "transports/grpc/client_follow.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <deque>

#include "runtime/completion.hpp"
#include "transports/grpc/codec.hpp"
#include "transports/grpc/wake.hpp"

namespace flexi::transports::grpc {

namespace asio = boost::asio;

namespace {

constexpr std::size_t kEventsAhead = 64;  // then the stream is read no further, and its peer waits

/// One tail: its stream, and what has come and nobody took yet. The task and the EventStream share it.
struct Tail {
  Tail(asio::any_io_executor executor, std::unique_ptr<ClientStream> s) : stream(std::move(s)), came(executor), taken(executor) {}
  std::unique_ptr<ClientStream> stream;
  std::deque<std::string> events;
  std::optional<core::Error> failure;
  bool ended = false, left = false;
  asio::steady_timer came;  ///< cancelled when something has
  Wake taken;
};

core::awaitable<void> read_events(std::shared_ptr<Tail> tail) {
  co_await asio::this_coro::throw_if_cancelled(false);
  while (!tail->left && (co_await asio::this_coro::cancellation_state).cancelled() == asio::cancellation_type::none) {
    if (tail->events.size() >= kEventsAhead) {
      co_await tail->taken.wait();
      continue;
    }
    auto bytes = co_await tail->stream->read();
    if (!bytes || !bytes.value()) break;
    v1::FollowReply message;
    if (!message.ParseFromString(*bytes.value())) {
      tail->failure = core::internal("the service's answer was not understood", "it is not a flexiconnect.v1.FollowReply");
      break;
    }
    if (message.kind_case() != v1::FollowReply::kEvent) continue;
    tail->events.push_back(std::move(*message.mutable_event()));
    tail->came.cancel();
  }
  if (!tail->left && !tail->failure && (co_await asio::this_coro::cancellation_state).cancelled() == asio::cancellation_type::none) {
    const auto result = co_await tail->stream->finish();
    if (!result.status.ok()) tail->failure = error_from(result);
  }
  tail->stream.reset();
  tail->ended = true;
  tail->came.cancel();
}

class TailEvents final : public core::EventStream {
 public:
  TailEvents(std::shared_ptr<Tail> tail, asio::any_io_executor executor) : tail_(std::move(tail)), executor_(std::move(executor)) {}
  ~TailEvents() override {
    // From whatever thread: the stream is its shard's.
    asio::post(executor_, [tail = std::move(tail_)] {
      tail->left = true;
      tail->taken.notify();
      if (tail->stream) tail->stream->cancel();
    });
  }

  core::awaitable<core::Result<std::optional<std::string>>> next(core::CallContext context) override {
    std::optional<Event> event;
    auto there = next_there(tail_, std::move(context), &event);
    if (co_await asio::this_coro::executor == executor_) co_await std::move(there);
    else co_await asio::co_spawn(executor_, std::move(there), asio::bind_cancellation_slot(asio::cancellation_slot(), asio::use_awaitable));
    co_return std::move(*event);
  }

 private:
  using Event = core::Result<std::optional<std::string>>;
  static core::awaitable<void> next_there(std::shared_ptr<Tail> tail, core::CallContext context, std::optional<Event>* result) {
    while (tail->events.empty() && !tail->ended && !context.expired()) {
      tail->came.expires_at(context.deadline);
      boost::system::error_code ignored;
      co_await tail->came.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
      if ((co_await asio::this_coro::cancellation_state).cancelled() != asio::cancellation_type::none) break;
    }
    if (!tail->events.empty()) {
      result->emplace(std::optional(std::move(tail->events.front())));
      tail->events.pop_front();
      tail->taken.notify();
    } else if (!tail->ended) {
      result->emplace(core::deadline_exceeded("no event came in time"));  // or whoever waited was cancelled
    } else if (tail->failure) {
      result->emplace(*tail->failure);
    } else {
      result->emplace(std::optional<std::string>());
    }
  }

  std::shared_ptr<Tail> tail_;
  const asio::any_io_executor executor_;
};

}  // namespace

Follows::Follows(asio::any_io_executor executor, Channel& channel, runtime::LogSink& log) : channel_(channel), scope_(std::move(executor), "grpc tails", log) {}

core::awaitable<core::Result<core::Reply>> Follows::open(std::string message, Metadata metadata, core::CallContext context) {
  if (stopping_) co_return core::unavailable("the client has stopped");
  auto endless = context;
  endless.deadline = core::CallContext::Clock::time_point::max();  // the first reply's time is limited, the tail's is not
  auto opened = co_await channel_.open("/flexiconnect.v1.Actions/Follow", std::move(metadata), std::move(endless));
  if (!opened) co_return opened.error();
  auto& stream = *opened.value();
  if (auto written = co_await stream.write(std::move(message)); !written) co_return error_from(co_await stream.finish());
  stream.close_send();
  asio::steady_timer limit(scope_.executor(), context.deadline);
  // A timer that has fired may still tell of it when the wait is over.
  auto waiting = std::make_shared<ClientStream*>(&stream);
  limit.async_wait([weak = std::weak_ptr<ClientStream*>(waiting)](boost::system::error_code ec) {
    if (auto still = weak.lock(); still && !ec) (*still)->cancel();
  });
  auto bytes = co_await stream.read();
  waiting.reset();
  limit.cancel();
  if (context.expired()) co_return runtime::cancelled_error(core::Sent::maybe);
  if (!bytes || !bytes.value()) {
    const auto result = co_await stream.finish();
    if (!result.status.ok()) co_return error_from(result);
    co_return core::internal("the service's answer was not understood", "it ended without a reply");
  }
  v1::FollowReply first;
  if (!first.ParseFromString(*bytes.value()) || first.kind_case() != v1::FollowReply::kReply)
    co_return core::internal("the service's answer was not understood", "it did not begin with a reply");
  auto reply = take_reply(*first.mutable_reply());
  if (!reply) co_return reply.error();
  if (stopping_) co_return core::unavailable("the client has stopped");
  auto tail = std::make_shared<Tail>(scope_.executor(), std::move(opened.value()));
  scope_.spawn(read_events(tail));
  reply.value().events = std::make_unique<TailEvents>(tail, scope_.executor());
  co_return reply;
}

core::awaitable<void> Follows::stop() {
  co_await asio::this_coro::throw_if_cancelled(false);
  stopping_ = true;
  scope_.cancel();
  co_await scope_.join();
}

}  // namespace flexi::transports::grpc
