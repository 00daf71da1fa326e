// SPDX-License-Identifier: Apache-2.0
#include "transports/queue/publisher.hpp"

#include "core/hops.hpp"
#include "transports/json_codec.hpp"
#include "transports/queue/digest.hpp"

namespace flexi::transports::queue {

namespace asio = boost::asio;
using core::Error;
using core::Reply;
using core::Result;
using runtime::Completion;
using runtime::sqlite::Connection;

namespace {

constexpr std::size_t kMaxActionBytes = 64;

Error overloaded(std::string message) {
  auto error = core::overloaded(std::move(message));
  error.retry_after = std::chrono::seconds(1);
  return error;
}

/// One caller of `stored`: its place among the waiters, given when its message has one.
struct Wait {
  std::atomic<std::int64_t> seq{0};
};

class PublishOp final : public WriteOp {
 public:
  PublishOp(QueueState& state, Message message, std::shared_ptr<Completion<Reply>> completion, std::shared_ptr<Wait> wait)
      : state_(state), message_(std::move(message)), completion_(std::move(completion)), wait_(std::move(wait)) {}

  Result<void> run(Connection& c, QueueTable& table) override {
    const auto digest = digest_of(message_.payload);
    FLEXI_TRY(inserted_, table.insert(c, message_, digest));
    // Before the commit, hence before the consumer can see the message.
    if (wait_ && (inserted_ == Inserted::queued || inserted_ == Inserted::pending)) {
      wait_->seq = message_.seq;
      state_.waiters.add(message_.seq, completion_);
    }
    return core::ok();
  }
  asio::any_io_executor executor() const override { return completion_->executor(); }
  bool brings_work() const override { return inserted_ == Inserted::queued; }

  void answer(const Error* failure) override {
    state_.publishing.fetch_sub(1);
    state_.publishing_bytes.fetch_sub(static_cast<std::int64_t>(message_.payload.size()));
    if (failure || inserted_ != Inserted::queued) state_.forget(static_cast<std::int64_t>(message_.payload.size()));
    if (failure) {
      if (wait_ && wait_->seq) state_.waiters.remove(wait_->seq, completion_);
      return completion_->resolve(*failure);
    }
    if (inserted_ == Inserted::conflict) return completion_->resolve(core::conflict("this id was used for another payload"));
    // Nothing comes of it before somebody acts: its sender must not think otherwise.
    if (inserted_ == Inserted::dead) return completion_->resolve(core::conflict("this message is among the dead letters: replay or discard it"));
    (inserted_ == Inserted::queued ? state_.metrics.published : state_.metrics.duplicates).add();
    if (wait_ && wait_->seq) return;  // the consumer answers
    Reply reply;
    reply.message = wait_ ? "stored" : "queued";
    reply.duplicate = inserted_ != Inserted::queued;
    completion_->resolve(std::move(reply));
  }

 private:
  QueueState& state_;
  Message message_;
  std::shared_ptr<Completion<Reply>> completion_;
  std::shared_ptr<Wait> wait_;  ///< none: `accepted`
  Inserted inserted_ = Inserted::conflict;
};

}  // namespace

/// Counts the message as held before it is, so that the limit holds for publishes under way too.
Result<void> Publisher::reserve(std::int64_t bytes) {
  const auto leave = [&] {
    state_.publishing.fetch_sub(1);
    state_.publishing_bytes.fetch_sub(bytes);
  };
  const bool busy = state_.publishing.fetch_add(1) >= state_.options.max_waiting_writes;
  if (state_.publishing_bytes.fetch_add(bytes) + bytes > state_.options.max_waiting_bytes || busy) {
    leave();
    return overloaded("the queue is busy, try again later");
  }
  const bool full = state_.held.fetch_add(1) >= state_.options.max_messages;
  if (state_.held_bytes.fetch_add(bytes) + bytes > state_.options.max_bytes || full) {
    leave();
    state_.forget(bytes);
    state_.metrics.refused.add();
    return overloaded("the queue is full");
  }
  return core::ok();
}

core::awaitable<Result<Reply>> Publisher::publish(core::Request request, core::CallContext context, bool consumed) {
  if (context.expired()) co_return runtime::cancelled_error(core::Sent::no);
  if (request.action.empty() || request.action.size() > kMaxActionBytes)
    co_return core::invalid_argument("action must be 1 to " + std::to_string(kMaxActionBytes) + " characters");
  if (core::is_administrative(request.action)) co_return core::invalid_argument("action " + request.action + " can't be queued: it reads or administers");
  if (std::holds_alternative<core::Credentials>(request.payload)) co_return core::invalid_argument("credentials are never queued");
  const bool stored = request.ack == core::Ack::stored;
  if (stored && !consumed) {
    auto error = core::unavailable("nothing consumes the queue at the moment");
    error.retry_after = std::chrono::seconds(1);
    co_return error;
  }
  if (request.id.empty()) request.id = core::MessageId::generate();

  if (auto text = check_utf8(request.payload); !text) co_return text.error();
  Message message;
  message.id = request.id.str();
  message.action = request.action;
  message.payload = payload_to_json(request.payload);
  const auto now = state_.now_micros();
  message.accepted_at = request.accepted_at == core::Timestamp{} ? now : core::to_unix_micros(request.accepted_at);
  message.traceparent = context.trace.to_traceparent();
  message.hops = core::shorten_hops(context.hops, core::from_unix_micros(message.accepted_at));
  message.caller = context.caller;
  message.id_from_caller = request.id_from_caller;
  const auto patience = std::min(context.remaining(), state_.options.max_wait);
  if (stored) message.expires_at = now + patience.count() * 1000;

  if (stored && state_.waiting.fetch_add(1) >= state_.options.max_waiters) {
    state_.waiting.fetch_sub(1);
    co_return overloaded("too many callers wait for the queue");
  }
  if (auto room = reserve(static_cast<std::int64_t>(message.payload.size())); !room) {
    if (stored) state_.waiting.fetch_sub(1);
    co_return room.error();
  }
  auto late = runtime::cancelled_error(core::Sent::maybe);
  auto wait = stored ? std::make_shared<Wait>() : nullptr;
  asio::steady_timer timer(co_await asio::this_coro::executor);
  std::shared_ptr<Completion<Reply>> mine;
  auto start = [this, &message, &timer, &mine, wait, patience, late](std::shared_ptr<Completion<Reply>> completion) {
    if (wait) {
      mine = completion;
      timer.expires_after(patience);
      timer.async_wait([weak = std::weak_ptr(completion), late](boost::system::error_code ec) {
        if (auto waiting = weak.lock(); waiting && !ec) waiting->resolve(late);
      });
    }
    state_.writes.submit(std::make_unique<PublishOp>(state_, std::move(message), std::move(completion), wait));
  };
  auto result = co_await runtime::wait_for_completion<Reply>(std::move(start), late);
  if (wait) {
    state_.waiting.fetch_sub(1);
    if (wait->seq) state_.waiters.remove(wait->seq, mine);
  }
  co_return result;
}

}  // namespace flexi::transports::queue
