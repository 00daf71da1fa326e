// SPDX-License-Identifier: Apache-2.0
#include "transports/grpc/bulk.hpp"

#include <boost/asio/post.hpp>
#include <deque>
#include <list>

#include "runtime/completion.hpp"
#include "runtime/task_scope.hpp"
#include "transports/grpc/wake.hpp"

namespace flexi::transports::grpc {

namespace asio = boost::asio;

namespace {

constexpr std::chrono::milliseconds kTick{20};
constexpr std::size_t kMaxBytesInFlight = 4 << 20;  // of one stream; one message may be more

/// One stream: a reader that starts a task per message, a writer of acknowledgements, and a clock for the deadlines.
class Bulk {
 public:
  Bulk(asio::any_io_executor executor, const Surface& surface, ServerCall& call, Side side, ReadBulk read)
      : surface_(surface), call_(call), side_(side), read_(read), scope_(executor, "grpc bulk", surface.process.log), owner_(executor), reader_(executor),
        writer_(executor), clock_(executor) {}

  core::awaitable<Status> run() {
    // The rest of this class ends by itself, and must be joined, however this coroutine is asked to end.
    co_await asio::this_coro::throw_if_cancelled(false);
    if (call_.metadata().contains(keys::kIdempotencyKey) || call_.metadata().contains(keys::kId))
      co_return status_with_details(core::invalid_argument("an idempotency-key names one message: give each message of the stream its own id"));
    const auto executor = scope_.executor();
    std::weak_ptr<Bulk*> weak = self_;
    auto on_change = [executor, weak] {
      asio::post(executor, [weak] {
        if (auto self = weak.lock()) (*self)->owner_.notify();
      });
    };
    const auto subscription = surface_.process.readiness.subscribe(on_change);
    scope_.spawn_cancellable([this](asio::cancellation_signal& signal) {
      reader_signal_ = &signal;
      return read_all();
    });
    scope_.spawn(write_all());
    scope_.spawn(watch_deadlines());
    bool cancelled = false;
    while (!(reading_done_ && unacknowledged_ == 0) && !broken_ && !cancelled) {
      if (surface_.process.readiness.draining() && !reading_done_ && !draining_) {
        draining_ = true;
        status_ = status_with_details(core::unavailable("the server is stopping"));
        reader_signal_->emit(asio::cancellation_type::terminal);
      }
      co_await owner_.wait();
      cancelled = (co_await asio::this_coro::cancellation_state).cancelled() != asio::cancellation_type::none;
    }
    scope_.cancel();
    co_await scope_.join();
    co_return status_;
  }

 private:
  using Time = std::chrono::steady_clock::time_point;
  struct Running {
    Time deadline;
    asio::cancellation_signal* signal = nullptr;
    bool expired = false;
  };

  core::awaitable<void> read_all() {
    struct Done {
      Bulk& bulk;
      ~Done() {
        bulk.reading_done_ = true;
        bulk.owner_.notify();
      }
    } done{*this};
    for (;;) {
      while (unacknowledged_ >= surface_.max_bulk_in_flight || bytes_in_flight_ >= kMaxBytesInFlight) co_await reader_.wait();
      auto bytes = co_await call_.read();
      if (!bytes) {
        broken_ = !draining_;
        co_return;
      }
      if (!bytes.value()) co_return;
      const auto size = bytes.value()->size();
      auto message = read_(*bytes.value());
      bytes = std::optional<std::string>();
      if (!message) {
        status_ = status_with_details(message.error());
        co_return;
      }
      ++unacknowledged_;
      bytes_in_flight_ += size;
      call_.hold(static_cast<std::int64_t>(size));
      start(std::move(message.value()), size);
    }
  }

  void start(BulkMessage message, std::size_t size) {
    auto context = call_.context();
    const auto timeout = message.timeout.count() > 0 ? std::min(message.timeout, surface_.max_timeout) : surface_.default_timeout;
    context = context.limited_to(timeout);
    Asking asking;
    asking.trace = context.trace;
    auto understood = message.request ? read_request(message, context, asking) : core::Result<void>(message.request.error());
    if (!understood) return acknowledge(message.sequence, size, asking, understood.error());
    const auto entry = running_.insert(running_.end(), Running{context.deadline});
    if (running_.size() == 1) clock_.notify();
    scope_.spawn_cancellable([&](asio::cancellation_signal& signal) {
      entry->signal = &signal;
      return work(message.sequence, size, std::move(message.request.value()), std::move(context), std::move(asking), entry);
    });
  }

  core::Result<void> read_request(BulkMessage& message, core::CallContext& context, Asking& asking) {
    auto& request = message.request.value();
    asking.action = request.action;
    FLEXI_TRY(read_metadata(call_, surface_.trust, side_, message.own, request, context));
    asking.id = request.id.str();
    return core::ok();
  }

  core::awaitable<void> work(std::uint64_t sequence, std::size_t size, core::Request request, core::CallContext context, Asking asking,
                             std::list<Running>::iterator entry) {
    std::optional<core::Result<core::Reply>> result;
    try {
      result.emplace(co_await surface_.handler(side_, asking.action).handle(std::move(request), std::move(context)));
    } catch (const std::exception& e) {
      const auto* system = dynamic_cast<const boost::system::system_error*>(&e);
      if (system && system->code() == asio::error::operation_aborted) result.emplace(runtime::cancelled_error(core::Sent::maybe));
      else result.emplace(core::internal("internal error", e.what()));
    }
    if (entry->expired && !*result) {
      auto late = runtime::cancelled_error(core::Sent::maybe);
      late.way = std::move(result->error().way);
      result.emplace(std::move(late));
    }
    running_.erase(entry);
    if (*result && result->value().events) result.emplace(core::invalid_argument("the action " + asking.action + " goes on: call Actions.Follow"));
    acknowledge(sequence, size, asking, std::move(*result));
  }

  void acknowledge(std::uint64_t sequence, std::size_t size, const Asking& asking, core::Result<core::Reply> result) {
    v1::Acknowledgement message;
    message.set_sequence(sequence);
    if (result) {
      write_reply(*message.mutable_reply(), std::move(result.value()), asking.id, asking.action);
    } else {
      log_failure(surface_, asking, result.error());
      write_error(*message.mutable_error(), result.error(), asking.id);
    }
    acknowledgements_.push_back(message.SerializeAsString());
    bytes_in_flight_ -= size;
    call_.hold(-static_cast<std::int64_t>(size));
    writer_.notify();
  }

  core::awaitable<void> write_all() {
    for (;;) {
      while (acknowledgements_.empty()) co_await writer_.wait();
      auto bytes = std::move(acknowledgements_.front());
      acknowledgements_.pop_front();
      auto written = co_await call_.write(std::move(bytes));
      if (!written) {
        broken_ = true;
        owner_.notify();
        co_return;
      }
      --unacknowledged_;
      reader_.notify();
      if (reading_done_) owner_.notify();
    }
  }

  core::awaitable<void> watch_deadlines() {
    asio::steady_timer timer(scope_.executor());
    for (;;) {
      while (running_.empty()) co_await clock_.wait();
      timer.expires_after(kTick);
      boost::system::error_code ignored;
      co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
      const auto now = std::chrono::steady_clock::now();
      std::vector<std::list<Running>::iterator> due;
      for (auto it = running_.begin(); it != running_.end(); ++it)
        if (it->deadline <= now && !it->expired) due.push_back(it);
      // A task may end, and leave the list, while it is told: only itself does.
      for (auto it : due) {
        it->expired = true;
        it->signal->emit(asio::cancellation_type::terminal);
      }
    }
  }

  const Surface& surface_;
  ServerCall& call_;
  const Side side_;
  const ReadBulk read_;
  runtime::TaskScope scope_;
  Wake owner_, reader_, writer_, clock_;
  std::list<Running> running_;
  std::deque<std::string> acknowledgements_;
  std::size_t unacknowledged_ = 0;   ///< read, and its acknowledgement not yet written
  std::size_t bytes_in_flight_ = 0;  ///< of messages that are handled
  asio::cancellation_signal* reader_signal_ = nullptr;
  bool reading_done_ = false, broken_ = false, draining_ = false;
  Status status_{};
  std::shared_ptr<Bulk*> self_ = std::make_shared<Bulk*>(this);  ///< gone with it: for what comes from other threads
};

}  // namespace

core::Result<BulkMessage> read_numbered_request(std::string_view bytes) {
  thread_local v1::NumberedRequest proto;
  proto.Clear();
  FLEXI_TRY(parse(proto, bytes));
  BulkMessage message;
  message.sequence = proto.sequence();
  message.timeout = std::chrono::milliseconds(proto.timeout_ms());
  auto call = take_handle(*proto.mutable_request());
  if (call) {
    message.request = std::move(call.value().request);
    message.own = {call.value().has_via, std::move(call.value().id)};
  } else {
    message.request = call.error();
  }
  return message;
}

core::Result<BulkMessage> read_numbered_log(std::string_view bytes) {
  thread_local v1::NumberedLog proto;
  proto.Clear();
  FLEXI_TRY(parse(proto, bytes));
  BulkMessage message;
  message.sequence = proto.sequence();
  auto payload = take_payload(*proto.mutable_entry(), "entry.");
  if (payload) {
    message.request.value().action = core::actions::kLog;
    message.request.value().payload = std::move(payload.value());
  } else {
    message.request = payload.error();
  }
  if (!proto.id().empty()) message.own.id = std::move(*proto.mutable_id());
  return message;
}

core::awaitable<Status> run_bulk(const Surface& surface, ServerCall& call, Side side, ReadBulk read) {
  Bulk bulk(co_await asio::this_coro::executor, surface, call, side, read);
  co_return co_await bulk.run();
}

}  // namespace flexi::transports::grpc
