// SPDX-License-Identifier: Apache-2.0
#include "transports/queue/consumer.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/redirect_error.hpp>
#include <cmath>

#include "transports/queue/worker.hpp"

namespace flexi::transports::queue {

namespace asio = boost::asio;
using core::Error;
using core::ErrorKind;
using core::Reply;
using core::Result;
using runtime::sqlite::Connection;

namespace {

constexpr auto kDiskPause = std::chrono::seconds(1);  ///< before the database is asked again after it refused

bool may_heal(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::overloaded:
    case ErrorKind::unavailable:
    case ErrorKind::deadline_exceeded:
    case ErrorKind::internal:
    case ErrorKind::cancelled: return true;
    default: return false;
  }
}

double random_part() {
  thread_local std::minstd_rand generator{std::random_device{}()};
  return std::uniform_real_distribution<double>(0, 1)(generator);
}

}  // namespace

std::chrono::milliseconds back_off(const QueueOptions& o, std::int64_t failures, double random) {
  if (o.retry_delay.count() <= 0) return {};  // times an infinite growth it would be no number
  const double longest = static_cast<double>(o.max_retry_delay.count());
  const double grown = static_cast<double>(o.retry_delay.count()) * std::pow(o.retry_factor, static_cast<double>(failures - 1));
  const double jitter = 1 + o.retry_jitter * (2 * random - 1);
  return std::chrono::milliseconds(static_cast<std::int64_t>(std::min(grown, longest) * jitter));
}

class Consumer::FetchOp final : public WriteOp {
 public:
  FetchOp(Consumer& consumer, FetchRequest request) : consumer_(consumer), request_(request) {}
  Result<void> run(Connection& c, QueueTable& table) override {
    FLEXI_TRY(fetched_, table.fetch(c, request_));
    return core::ok();
  }
  asio::any_io_executor executor() const override { return consumer_.scope_.executor(); }
  void answer(const Error* failure) override { consumer_.fetched(failure ? Result<Fetched>(*failure) : Result<Fetched>(std::move(fetched_))); }

 private:
  Consumer& consumer_;
  FetchRequest request_;
  Fetched fetched_;
};

class Consumer::SettleOp final : public WriteOp {
 public:
  SettleOp(Consumer& consumer, Message message, Settlement how, Result<Reply> result)
      : consumer_(consumer), message_(std::move(message)), how_(std::move(how)), result_(std::move(result)) {}
  Result<void> run(Connection& c, QueueTable& table) override {
    // What it was is worth knowing in answer(): refused may have become something else.
    FLEXI_TRY(table.settle(c, message_, how_, consumer_.state_.now_micros()));
    return core::ok();
  }
  asio::any_io_executor executor() const override { return consumer_.scope_.executor(); }
  void answer(const Error* failure) override;
  bool brings_work() const override { return how_.kind == Settlement::Kind::retry || how_.kind == Settlement::Kind::refused; }

 private:
  std::string_view detail() const { return result_ ? std::string_view() : result_.error().detail; }
  static asio::awaitable<void> again(Consumer* consumer, Message message, Settlement how, Result<Reply> result);
  Consumer& consumer_;
  Message message_;
  Settlement how_;
  Result<Reply> result_;
};

void Consumer::SettleOp::answer(const Error* failure) {
  using Kind = Settlement::Kind;
  auto& state = consumer_.state_;
  if (failure) {
    if (result_) state.waiters.answer(message_.seq, result_);  // it is stored, whatever our book-keeping says
    if (consumer_.stopping_ || how_.kind == Kind::released) return consumer_.settled(message_.isolated);
    return consumer_.scope_.spawn(again(&consumer_, std::move(message_), std::move(how_), std::move(result_)));
  }
  const auto bytes = static_cast<std::int64_t>(message_.payload.size());
  const auto reported = how_.became.value_or(how_.kind);
  switch (reported) {
    case Kind::stored:
      state.metrics.delivered.add();
      state.forget(bytes);
      break;
    case Kind::refused: state.forget(bytes); break;
    case Kind::retry:
      state.metrics.retried.add();
      // Once a message: an outage would fill the log with the same words.
      state.log.write(message_.attempts == 0 ? runtime::LogLevel::warning : runtime::LogLevel::debug, "message is tried again later",
                      {{"id", message_.id}, {"action", message_.action}, {"reason", how_.reason}, {"detail", detail()}, {"attempts", message_.attempts + 1},
                       {"trace", message_.traceparent}});
      break;
    case Kind::dead:
      state.metrics.dead_lettered.add();
      state.dead.fetch_add(1);
      state.log.error("message dead-lettered", {{"id", message_.id}, {"action", message_.action}, {"reason", how_.reason}, {"detail", detail()},
                                               {"attempts", message_.attempts + 1}, {"trace", message_.traceparent}});
      break;
    case Kind::released: break;
  }
  if (reported == Kind::stored || how_.kind == Kind::refused || reported == Kind::dead) state.waiters.answer(message_.seq, result_);
  consumer_.settled(message_.isolated);
}

/// The message keeps its place in flight until its end is on the disk.
asio::awaitable<void> Consumer::SettleOp::again(Consumer* consumer, Message message, Settlement how, Result<Reply> result) {
  asio::steady_timer pause(consumer->scope_.executor(), kDiskPause);
  boost::system::error_code ignored;
  co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  consumer->settle(std::move(message), std::move(how), std::move(result));
}

Consumer::Consumer(QueueState& state, core::Handler& handler)
    : state_(state), scope_(state.shards.executor(0), "queue consumer", state.log), timer_(scope_.executor()),
      drained_(scope_.executor()) {
  const auto count = std::min<std::int64_t>(state.shards.size(), state.options.concurrency);
  for (std::int64_t i = 0; i < count; ++i) {
    const auto slots = state.options.concurrency / count + (i < state.options.concurrency % count ? 1 : 0);
    workers_.push_back(std::make_unique<Worker>(state, *this, handler, static_cast<unsigned>(i), slots));
  }
}

Consumer::~Consumer() = default;

void Consumer::start() {
  for (auto& worker : workers_) asio::post(worker->executor(), [w = worker.get()] { w->start(); });
  asio::post(scope_.executor(), [this] { scope_.spawn(run()); });
}

/// Recovers what a process that died had in hand, then looks for retries when they are due.
asio::awaitable<void> Consumer::run() {
  while (!stopping_) {
    if (!ready_) {
      auto recovered = co_await state_.writes.call<bool>(
          [now = state_.now_micros()](Connection& c, QueueTable& table) -> Result<bool> {
            FLEXI_TRY(table.recover(c, now));
            return true;
          },
          false);
      if (stopping_) break;
      ready_ = recovered.has_value();
    }
    // Each time anew: a time that has passed would end every further wait at once. A fetch sets a nearer one.
    timer_.expires_after(ready_ ? std::chrono::hours(24) : std::chrono::duration_cast<asio::steady_timer::duration>(kDiskPause));
    fresh_ = true;
    pump();
    boost::system::error_code woken;
    co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, woken));
    if (woken && !stopping_) {  // moved: wait for the new time without a fetch
      while (woken && !stopping_) co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, woken));
    }
  }
}

void Consumer::wake() {
  fresh_ = true;
  pump();
}

void Consumer::pump() {
  if (stopping_ || fetching_ || !ready_ || !fresh_) return;
  const auto room = state_.options.prefetch - in_flight_;
  // Small fetches cost a commit each like big ones.
  if (room <= 0 || (in_flight_ > 0 && room * 4 < state_.options.prefetch)) return;
  fetching_ = true;
  fresh_ = false;
  state_.writes.submit(std::make_unique<FetchOp>(*this, FetchRequest{cursor_, room, state_.now_micros(), isolated_in_flight_}));
}

void Consumer::fetched(Result<Fetched> result) {
  fetching_ = false;
  if (!result) {
    timer_.expires_after(kDiskPause);
    if (in_flight_ == 0) drained_.cancel();
    return;
  }
  auto& f = result.value();
  cursor_ = f.cursor;
  for (auto& m : f.expired) {
    state_.metrics.expired.add();
    state_.forget(static_cast<std::int64_t>(m.payload.size()));
    state_.waiters.answer(m.seq, runtime::cancelled_error(core::Sent::no));
  }
  for (auto& m : f.poison) {
    state_.metrics.dead_lettered.add();
    state_.dead.fetch_add(1);
    state_.log.error("message dead-lettered", {{"id", m.id}, {"action", m.action}, {"reason", "the process died under it again and again"}});
  }
  if (f.more) fresh_ = true;
  if (f.next_due) {
    const auto pause = std::chrono::microseconds(std::max<std::int64_t>(*f.next_due - state_.now_micros(), 0));
    timer_.expires_after(std::min<std::chrono::microseconds>(pause, std::chrono::hours(24)));
  }
  in_flight_ += static_cast<std::int64_t>(f.messages.size());
  for (auto& m : f.messages) isolated_in_flight_ |= m.isolated;
  distribute(std::move(f.messages));
  if (in_flight_ == 0) drained_.cancel();
  pump();
}

void Consumer::distribute(std::vector<Message> messages) {
  if (messages.empty()) return;
  std::vector<std::vector<Message>> shares(workers_.size());
  for (auto& m : messages) shares[next_worker_++ % shares.size()].push_back(std::move(m));
  for (std::size_t i = 0; i < shares.size(); ++i)
    if (!shares[i].empty()) workers_[i]->add(std::move(shares[i]));
}

Settlement Consumer::judge(const Message& m, const Error& error) {
  Settlement how;
  how.reason = std::string(core::to_string(error.kind)) + ": " + error.message;
  if (may_heal(error.kind) && m.attempts + 1 - m.untaken < state_.options.max_attempts) {
    how.kind = Settlement::Kind::retry;
    auto pause = back_off(state_.options, m.attempts + 1, random_part());
    if (error.retry_after) pause = std::max(pause, std::min(*error.retry_after, state_.options.max_retry_delay));
    how.due_at = state_.now_micros() + pause.count() * 1000;
  } else {
    how.kind = Settlement::Kind::dead;
  }
  // Its caller is still there and decides what to do about the failure.
  if (m.expires_at && state_.waiters.has(m.seq)) {
    how.if_accepted = how.kind;
    how.kind = Settlement::Kind::refused;
    how.maybe_stored = error.sent == core::Sent::maybe || error.kind == ErrorKind::cancelled || error.kind == ErrorKind::internal;
  }
  return how;
}

void Consumer::finished(Message message, Result<Reply> result) {
  Settlement how;
  if (!result) {
    if (stopping_ && may_heal(result.error().kind)) return released(std::move(message));
    how = judge(message, result.error());
  }
  settle(std::move(message), std::move(how), std::move(result));
}

void Consumer::released(Message message) {
  Settlement how;
  how.kind = Settlement::Kind::released;
  settle(std::move(message), std::move(how), core::unavailable("the service is stopping"));
}

void Consumer::settle(Message message, Settlement how, Result<Reply> result) {
  state_.writes.submit(std::make_unique<SettleOp>(*this, std::move(message), std::move(how), std::move(result)));
}

void Consumer::settled(bool isolated) {
  --in_flight_;
  if (isolated) {
    isolated_in_flight_ = false;
    fresh_ = true;
  }
  if (in_flight_ == 0) drained_.cancel();
  pump();
}

core::awaitable<Result<Reply>> Consumer::call_transient(core::Request request, core::CallContext context) {
  if (transient_.fetch_add(1) >= state_.options.max_transient) {
    transient_.fetch_sub(1);
    auto error = core::overloaded("too many log-ins wait for the queue");
    error.retry_after = std::chrono::seconds(1);
    co_return error;
  }
  if (stopping_) {
    transient_done();
    co_return core::unavailable("the service is stopping");
  }
  context = context.limited_to(state_.options.max_wait);
  asio::steady_timer timer(co_await asio::this_coro::executor, context.deadline);
  auto late = runtime::cancelled_error(core::Sent::maybe);
  auto start = [this, &timer, &request, context, late](std::shared_ptr<runtime::Completion<Reply>> completion) {
    timer.async_wait([weak = std::weak_ptr(completion), late](boost::system::error_code ec) {
      if (auto waiting = weak.lock(); waiting && !ec) waiting->resolve(late);
    });
    request.via = core::Via::amqp;
    request.ack = core::Ack::stored;
    workers_[next_worker_++ % workers_.size()]->add(TransientCall{std::move(request), context, std::move(completion), shared_from_this()});
  };
  co_return co_await runtime::wait_for_completion<Reply>(std::move(start), late);
}

void Consumer::transient_done() {
  if (transient_.fetch_sub(1) == 1 && stopping_) asio::post(scope_.executor(), [self = shared_from_this()] { self->drained_.cancel(); });
}

asio::awaitable<void> Consumer::drained(std::chrono::steady_clock::time_point until) {
  while ((in_flight_ > 0 || fetching_ || transient_ > 0) && std::chrono::steady_clock::now() < until) {
    drained_.expires_at(until);
    boost::system::error_code ignored;
    co_await drained_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
}

asio::awaitable<void> Consumer::stop(core::StopOptions options) {
  stopping_ = true;
  timer_.cancel();
  for (auto& worker : workers_) asio::post(worker->executor(), [w = worker.get()] { w->drop_queued(); });
  co_await drained(std::chrono::steady_clock::now() + options.grace);
  for (auto& worker : workers_) asio::post(worker->executor(), [w = worker.get()] { w->cancel_running(); });
  scope_.cancel();
  co_await drained(std::chrono::steady_clock::time_point::max());
  for (auto& worker : workers_) co_await asio::co_spawn(worker->executor(), worker->end(), asio::use_awaitable);
  co_await scope_.join();
  auto released = co_await state_.writes.call<bool>(
      [now = state_.now_micros()](Connection& c, QueueTable& table) -> Result<bool> {
        FLEXI_TRY(table.release_all(c, now));
        return true;
      },
      false);
  if (!released) state_.log.warning("the queue was not put in order at its stop; the next start does it", {{"detail", released.error().detail}});
  auto gone = core::unavailable("the service is stopping");
  gone.sent = core::Sent::maybe;
  state_.waiters.answer_all(gone);
}

}  // namespace flexi::transports::queue
