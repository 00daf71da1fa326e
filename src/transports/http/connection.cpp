// SPDX-License-Identifier: Apache-2.0
#include "transports/http/connection.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/write.hpp>

namespace flexi::transports::http {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {
constexpr std::size_t kReadBytes = 16 * 1024;
constexpr std::size_t kFlushBytes = 256 * 1024;        // answers that wait for one write
constexpr std::size_t kLingerBytes = 4 << 20;          // read and dropped after a refusal
constexpr std::chrono::milliseconds kLingerTime{1000};

/// Source: https://html.spec.whatwg.org/multipage/server-sent-events.html section 9.2.5
void append_event(std::string& out, std::string_view json) {
  while (true) {
    const auto end = std::min(json.find('\n'), json.size());
    out.append("data: ").append(json.substr(0, end)).append("\n");
    if (end == json.size()) break;
    json.remove_prefix(end + 1);
  }
  out += '\n';
}
}  // namespace

Connection::Connection(ServerShard& shard, asio::ip::tcp::socket socket, asio::cancellation_signal& signal)
    : shard_(shard), options_(shard.shared().options), socket_(std::move(socket)), signal_(signal), reader_(options_) {
  error_code ignored;
  socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
  socket_.non_blocking(true, ignored);
  peer_ = socket_.remote_endpoint(ignored).address();
  enter(Phase::idle, options_.header_timeout);  // a new connection must say something soon
}

asio::awaitable<void> Connection::run() {
  co_await asio::this_coro::throw_if_cancelled(false);
  using Step = RequestReader::Step;
  while (!close_) {
    const auto step = reader_.advance();
    if (step == Step::complete) {
      auto plan = shard_.shared().dispatcher.plan(reader_.head(), reader_.body(), peer_);
      const auto framing = framing_now(reader_.head());
      reader_.next();
      // What needs no handler needs no coroutine either.
      if (plan.answer && parallel_.empty()) {
        append(*plan.answer, framing);
        close_ = !framing.keep_alive;
        if (!close_ && batch_is_full() && !flush_at_once() && !co_await flush()) co_return;
      } else if (!co_await answer_request(std::move(plan), framing)) {
        co_return;
      }
      continue;
    }
    if (!parallel_.empty()) co_await run_parallel();
    if (close_) break;
    if (step == Step::need_more) {
      if (!co_await read_more()) break;
      continue;
    }
    // Earlier answers stand before it in out_.
    const auto answer = step == Step::too_large ? shard_.shared().dispatcher.too_large(reader_.head()) : refusal(reader_.status(), reader_.problem());
    append(answer, {.keep_alive = false, .http_1_0 = false, .head = step == Step::too_large && reader_.head().method == Method::head});
    if (co_await flush()) co_await linger();
    co_return;
  }
  if (!parallel_.empty()) co_await run_parallel();
  if (co_await flush() && reader_.buffered() != 0) co_await linger();
}

/// Counts what has come of a body. Nothing is handled on this connection when it is asked, so what it held before is gone.
bool Connection::hold_body() {
  const auto before = std::exchange(held_bytes_, reader_.body_bytes());
  return shard_.hold(before, held_bytes_) || held_bytes_ == 0;
}

/// @return false when no more requests come
asio::awaitable<bool> Connection::read_more() {
  if (!hold_body()) {
    append(shard_.shared().dispatcher.no_room(reader_.head()), {.keep_alive = false, .head = reader_.head().method == Method::head});
    reader_.next();
    hold_body();
    if (co_await flush()) co_await linger();
    co_return false;
  }
  if (reader_.take_continue()) out_ += "HTTP/1.1 100 Continue\r\n\r\n";
  if (!flush_at_once() && !co_await flush()) {
    out_.clear();
    co_return false;
  }
  if (reader_.idle()) {
    if (phase_ != Phase::idle) enter(Phase::idle, options_.idle_timeout);
  } else if (phase_ != Phase::reading || reading_body_ != reader_.in_body()) {
    // One limit for the whole of a header, and one for the whole of a body: what comes does not renew it.
    reading_body_ = reader_.in_body();
    enter(Phase::reading, reading_body_ ? options_.body_timeout : options_.header_timeout);
  }
  error_code ec;
  const auto got = co_await socket_.async_read_some(reader_.buffer().prepare(kReadBytes), asio::redirect_error(asio::use_awaitable, ec));
  if (!ec) {
    reader_.buffer().commit(got);
    if (phase_ == Phase::idle) {
      reading_body_ = false;
      enter(Phase::reading, options_.header_timeout);
    }
    co_return true;
  }
  if (timed_out_ && phase_ == Phase::reading) {
    append(refusal(408, reader_.in_body() ? "the body took too long" : "the header took too long"), {.keep_alive = false});
    if (co_await flush()) co_await linger();  // more of it may be on its way
  } else if (ec == asio::error::eof && !reader_.idle()) {
    append(refusal(400, "the request ended before it was complete"), {.keep_alive = false});
  }
  co_return false;
}

/// @return false where the connection is beyond use
asio::awaitable<bool> Connection::answer_request(Plan plan, Framing framing) {
  if (plan.parallel && !plan.answer && framing.keep_alive && (reader_.buffered() != 0 || !parallel_.empty()) &&
      static_cast<std::int64_t>(parallel_.size()) < options_.max_pipelined) {
    parallel_.push_back(std::make_unique<ParallelCall>(ParallelCall{std::move(plan), framing, {}}));
    co_return true;
  }
  if (!parallel_.empty()) co_await run_parallel();
  if (plan.answer) {
    append(*plan.answer, framing);
  } else {
    std::optional<core::Result<core::Reply>> result;
    enter(Phase::handling, {});
    call_ = {&signal_, plan.context.deadline};
    co_await invoke(&plan, &call_, &result);
    call_.signal = nullptr;
    if (call_.cancelled == Cancelled::gone) {
      error_code ignored;
      socket_.close(ignored);
      co_return false;
    }
    if (shard_.draining() && reader_.buffered() == 0) framing.keep_alive = false;
    const auto answer = shard_.shared().dispatcher.finish(plan, *result);
    if (result->has_value() && result->value().events) {
      append(answer, {.keep_alive = false, .http_1_0 = framing.http_1_0, .head = framing.head});
      if (co_await flush() && !framing.head) co_await stream(*result->value().events, plan.context);
      co_return false;
    }
    append(answer, framing);
  }
  close_ = !framing.keep_alive;
  if (close_) co_return true;
  if (batch_is_full()) co_return co_await flush();
  co_return true;
}

/// Counts one more answer that waits to be written.
bool Connection::batch_is_full() { return ++batched_ >= options_.max_pipelined || out_.size() >= kFlushBytes; }

Framing Connection::framing_now(const Head& head) const {
  // While draining, the last request of this connection that has come is told so.
  const bool last = shard_.draining() && reader_.buffered() == 0;
  return {.keep_alive = head.keep_alive && !last, .http_1_0 = head.http_1_0, .head = head.method == Method::head};
}

void Connection::append(const Answer& answer, Framing framing) {
  append_response(out_, answer, framing, shard_.date());
  shard_.count(answer.status);
}

asio::awaitable<void> Connection::invoke(Plan* plan, Call* call, std::optional<core::Result<core::Reply>>* result) {
  if (plan->context.expired()) {
    result->emplace(core::deadline_exceeded("the request's time was over before it was handled"));
    co_return;
  }
  try {
    result->emplace(co_await plan->handler->handle(std::move(plan->request), plan->context));
  } catch (const std::exception& e) {
    result->emplace(core::internal("internal error", e.what()));
  }
  if (call->cancelled == Cancelled::no) co_return;
  co_await asio::this_coro::reset_cancellation_state(asio::enable_terminal_cancellation());
  if (result->value()) co_return;
  auto way = std::move(result->value().error().way);
  if (call->cancelled == Cancelled::stopping) result->emplace(core::unavailable("the server is stopping"));
  else result->emplace(core::deadline_exceeded("the request was not answered in time"));
  result->value().error().sent = core::Sent::maybe;
  result->value().error().way = std::move(way);
}

asio::awaitable<void> Connection::run_one(ParallelCall* parallel, asio::cancellation_signal* signal) {
  co_await asio::this_coro::throw_if_cancelled(false);
  parallel->call.signal = signal;
  co_await invoke(&parallel->plan, &parallel->call, &parallel->result);
  parallel->call.signal = nullptr;
}

asio::awaitable<void> Connection::run_parallel() {
  enter(Phase::handling, {});
  runtime::TaskScope scope(socket_.get_executor(), "pipelined requests", shard_.shared().log);
  for (auto& parallel : parallel_) {
    parallel->call.deadline = parallel->plan.context.deadline;
    scope.spawn_cancellable([&](asio::cancellation_signal& signal) { return run_one(parallel.get(), &signal); });
  }
  co_await scope.join();
  bool gone = false;
  if (shard_.draining() && reader_.buffered() == 0) parallel_.back()->framing.keep_alive = false;
  for (auto& parallel : parallel_) {
    gone = gone || parallel->call.cancelled == Cancelled::gone;
    append(shard_.shared().dispatcher.finish(parallel->plan, *parallel->result), parallel->framing);
  }
  batched_ += static_cast<std::int64_t>(parallel_.size());
  if (gone || !parallel_.back()->framing.keep_alive) close_ = true;
  parallel_.clear();
}

/// @param context of the request; its deadline is not the stream's
asio::awaitable<void> Connection::stream(core::EventStream& events, core::CallContext context) {
  for (;;) {
    enter(Phase::streaming, {});
    context.deadline = ServerShard::Clock::now() + options_.event_keep_alive;
    call_ = {&signal_, context.deadline};
    std::optional<core::Result<std::optional<std::string>>> event;
    try {
      event.emplace(co_await events.next(context));
    } catch (const std::exception& e) {
      event.emplace(core::internal("internal error", e.what()));
    }
    call_.signal = nullptr;
    const auto cancelled = call_.cancelled;
    if (cancelled != Cancelled::no) co_await asio::this_coro::reset_cancellation_state(asio::enable_terminal_cancellation());
    if (cancelled == Cancelled::gone || cancelled == Cancelled::stopping) break;
    if (event->has_value()) {
      if (!event->value()) {
        // A comment to others. Without it the stream was cut: a source that a stopping process has closed goes on elsewhere, or later.
        if (!shard_.shared().readiness->draining()) out_ += kStreamEnd;
        break;
      }
      append_event(out_, *event->value());
    } else if (cancelled == Cancelled::deadline || event->error().kind == core::ErrorKind::deadline_exceeded) {
      out_ += ": keep-alive\n\n";
    } else {
      break;
    }
    if (!co_await flush()) co_return;
  }
  co_await flush();
}

/// Most answers fit the socket's buffer: no turn of the loop for these.
/// @return false where something is left, which flush() writes or finds out why not
bool Connection::flush_at_once() {
  batched_ = 0;
  if (out_.empty()) return true;
  error_code ec;
  const auto sent = socket_.write_some(asio::buffer(out_), ec);
  out_.erase(0, ec ? 0 : sent);
  if (!out_.empty()) return false;
  if (out_.capacity() > kFlushBytes) out_.shrink_to_fit();
  enter(Phase::closing, {});  // whatever comes next says what it is
  return true;
}

asio::awaitable<bool> Connection::flush() {
  if (flush_at_once()) co_return true;
  enter(Phase::writing, options_.write_timeout);
  error_code ec;
  co_await asio::async_write(socket_, asio::buffer(out_), asio::redirect_error(asio::use_awaitable, ec));
  out_.clear();
  if (out_.capacity() > kFlushBytes) out_.shrink_to_fit();
  enter(Phase::closing, {});
  co_return !ec;
}

/// Closing while unread bytes wait would reset the connection, and the client might never read the refusal.
/// Source: RFC 9112 section 9.6
asio::awaitable<void> Connection::linger() {
  error_code ec;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ec);
  enter(Phase::closing, kLingerTime);
  char dropped[4096];
  for (std::size_t total = 0; total < kLingerBytes && !ec;)
    total += co_await socket_.async_read_some(asio::buffer(dropped), asio::redirect_error(asio::use_awaitable, ec));
}

void Connection::cancel(Call& call, Cancelled why) {
  if (!call.signal) return;
  if (call.cancelled == Cancelled::no) call.cancelled = why;
  // At every tick again: a handler between two waits does not notice the first.
  call.signal->emit(asio::cancellation_type::terminal);
}

bool Connection::peer_reset() const {
  pollfd fd{const_cast<asio::ip::tcp::socket&>(socket_).native_handle(), 0, 0};
  return ::poll(&fd, 1, 0) == 1 && (fd.revents & (POLLERR | POLLHUP)) != 0;
}

bool Connection::peer_ended() const {
  char byte;
  return ::recv(const_cast<asio::ip::tcp::socket&>(socket_).native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

void Connection::tick(Time now) {
  error_code ignored;
  const bool stop = now >= shard_.stop_at();
  switch (phase_) {
    case Phase::idle:
      if (shard_.draining() && now >= shard_.linger_until()) socket_.cancel(ignored);
      [[fallthrough]];
    case Phase::reading:
    case Phase::closing:
      if (!stop && now < phase_end_) return;
      timed_out_ = true;
      socket_.cancel(ignored);
      return;
    case Phase::writing:
      if (stop || now >= phase_end_) socket_.close(ignored);
      return;
    case Phase::handling:
    case Phase::streaming: break;
  }
  const auto check = [&](Call& call, bool gone) {
    if (!call.signal) return;
    if (gone) cancel(call, Cancelled::gone);
    else if (stop || (phase_ == Phase::streaming && shard_.draining())) cancel(call, Cancelled::stopping);
    else if (now >= call.deadline) cancel(call, Cancelled::deadline);
  };
  // A client that only shut down its sending side still waits for its answer; a reader of events never does that.
  const bool gone = peer_reset() || (phase_ == Phase::streaming && peer_ended());
  // A cancelled call may end, and the connection with it, inside the emit: nothing is touched after it.
  if (parallel_.empty()) return check(call_, gone);
  for (auto& parallel : parallel_) check(parallel->call, gone);
}

}  // namespace flexi::transports::http
