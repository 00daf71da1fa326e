// SPDX-License-Identifier: Apache-2.0
#include "transports/spool/drain.hpp"

#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/this_coro.hpp>

#include "core/timestamp.hpp"
#include "transports/json_codec.hpp"

namespace flexi::transports::spool {

namespace asio = boost::asio;
using core::Error;
using core::ErrorKind;
using core::Reply;
using core::Result;
using runtime::sqlite::Atomicity;
using runtime::sqlite::Connection;

namespace {

constexpr auto kDiskPause = std::chrono::milliseconds(1000);

Result<core::Request> request_of(const Spooled& m) {
  core::Request request;
  FLEXI_TRY(request.id, core::MessageId::parse(m.id));
  FLEXI_TRY(request.payload, payload_from_json(m.action, m.payload));
  request.action = m.action;
  request.via = core::Via::amqp;
  request.ack = core::Ack::accepted;
  request.id_from_caller = m.id_from_caller;
  request.accepted_at = core::from_unix_micros(m.accepted_at);
  return request;
}

}  // namespace

/// A batch on its way. Shared with those who carry it: they may outlive whoever waits.
struct Drain::Flight {
  explicit Flight(const asio::any_io_executor& executor, std::size_t size) : ended(executor, asio::steady_timer::time_point::max()), results(size), left(size) {}
  asio::steady_timer ended;  ///< cancelled when nothing is left
  std::vector<std::optional<Result<void>>> results;
  std::size_t left;

  void finish(std::size_t index, Result<void> result) {
    results[index].emplace(std::move(result));
    if (--left == 0) ended.cancel();
  }
  static core::awaitable<void> carry(std::shared_ptr<Flight> flight, std::size_t index, core::Handler* publisher, core::Request request, core::CallContext context) {
    Result<void> carried = core::internal("internal error");
    try {
      auto result = co_await publisher->handle(std::move(request), std::move(context));
      carried = result ? Result<void>(core::ok()) : Result<void>(result.error());
    } catch (const std::exception& e) {  // also what a cancelled wait throws
      carried.error().detail = e.what();
    }
    flight->finish(index, std::move(carried));
  }
};

Drain::Drain(asio::any_io_executor executor, Store& store, const SpoolOptions& options, core::Handler& publisher, runtime::LogSink& log,
             runtime::Metrics& metrics, std::function<core::Timestamp()> now)
    : store_(store), options_(options), publisher_(publisher), log_(log), now_(std::move(now)), scope_(std::move(executor), "spool drain", log),
      drained_(metrics.counter("flexi_spool_drained_total", "Messages of the spool that the queue has confirmed")),
      dead_lettered_(metrics.counter("flexi_spool_dead_lettered_total", "Messages of the spool that the queue refused for good")) {}

void Drain::wake(Lane& lane) {
  lane.woken = true;
  if (lane.draining || stopping_) return;
  lane.draining = true;
  scope_.spawn(run(&lane));
}

void Drain::wake_later(const HeldByAction& came) {
  for (auto& [action, held] : came) asio::post(scope_.executor(), [this, lane = &store_.lane(action)] { wake(*lane); });
}

core::awaitable<void> Drain::run(Lane* lane) {
  std::int64_t failures = 0;
  while (!stopping_) {
    lane->woken = false;
    const auto limit = failures ? 1 : options_.batch;
    auto batch = co_await store_.database()->read([action = lane->action, limit](Connection& c) { return table::head(c, action, limit); }, {});
    if (!batch) {
      log_.error("the spool can't be read", {{"action", lane->action}, {"error", batch.error().message}, {"detail", batch.error().detail}});
      co_await pause(kDiskPause);
      continue;
    }
    if (batch.value().empty()) {
      if (lane->woken) continue;
      break;
    }
    auto outcome = co_await publish(batch.value(), failures);
    if (outcome.done > 0) co_await settle(*lane, batch.value(), outcome, failures);
    if (!outcome.failure) {
      failures = 0;
      continue;
    }
    failures = outcome.done > 0 ? 1 : failures + 1;
    if (failures == 1) log_.warning("the spool waits for the queue", {{"action", lane->action}, {"messages", lane->held.load()}, {"reason", outcome.failure->message}});
    co_await pause(back_off(failures, *outcome.failure));
  }
  lane->draining = false;
}

core::awaitable<Drain::Outcome> Drain::publish(const std::vector<Spooled>& batch, std::int64_t failures) {
  auto flight = std::make_shared<Flight>(scope_.executor(), batch.size());
  for (std::size_t i = 0; i < batch.size(); ++i) {
    const auto& m = batch[i];
    auto request = request_of(m);
    if (!request) {
      flight->finish(i, request.error());
      continue;
    }
    auto context = core::CallContext::with_timeout(options_.attempt_timeout);
    context.trace = core::TraceContext::from_traceparent(m.traceparent);
    context.caller = m.caller, context.hops = m.hops;
    scope_.spawn(Flight::carry(flight, i, &publisher_, std::move(request).value(), std::move(context)));
  }
  boost::system::error_code ignored;
  while (flight->left > 0) {
    co_await flight->ended.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    if ((co_await asio::this_coro::cancellation_state).cancelled() != asio::cancellation_type::none) break;
  }
  Outcome outcome;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    auto& result = flight->results[i];
    if (!result) {
      outcome.failure = core::cancelled("the service is stopping");
      break;
    }
    if (!*result) {
      if (!is_refusal(result->error(), failures)) {
        outcome.failure = result->error();
        break;
      }
      outcome.refused.push_back({batch[i].seq, batch[i].bytes(), batch[i].id, result->error()});
    }
    outcome.done = i + 1;
  }
  co_return outcome;
}

/// An outage is none; what the queue will say again tomorrow is. A bug in between has a few tries.
bool Drain::is_refusal(const Error& error, std::int64_t failures) const {
  if (stopping_) return false;
  if (error.kind == ErrorKind::internal) return failures + 1 >= options_.max_attempts;
  return !core::is_transient(error.kind) && error.kind != ErrorKind::cancelled;
}

/// Until it is on the disk: what is confirmed and not removed would be sent again.
core::awaitable<void> Drain::settle(Lane& lane, const std::vector<Spooled>& batch, const Outcome& outcome, std::int64_t failures) {
  std::int64_t bytes = 0;
  for (std::size_t i = 0; i < outcome.done; ++i) bytes += batch[i].bytes();
  for (auto& refused : outcome.refused) bytes -= refused.bytes;  // they stay, as dead letters
  // A job may run though the stopping service does not wait for it any more: it has all it needs itself.
  auto job = [action = lane.action, refused = outcome.refused, first = batch.front().seq, last = batch[outcome.done - 1].seq, attempts = failures + 1,
              now = core::to_unix_micros(now_())](Connection& c) -> Result<void> {
    for (auto& r : refused) {
      FLEXI_TRY(table::bury(c, r.seq, std::string(core::to_string(r.error.kind)) + ": " + r.error.message, attempts, now));
    }
    return table::remove(c, action, first, last);
  };
  for (;;) {
    auto removed = co_await store_.database()->write(Atomicity::many_statements, job, {});
    if (removed) break;
    if (stopping_) co_return;
    log_.error("the spool can't be written", {{"action", lane.action}, {"error", removed.error().message}, {"detail", removed.error().detail}});
    co_await pause(kDiskPause);
    if (stopping_) co_return;
  }
  const auto letters = static_cast<std::int64_t>(outcome.refused.size());
  drained_.add(static_cast<double>(outcome.done) - static_cast<double>(letters));
  dead_lettered_.add(static_cast<double>(letters));
  for (auto& r : outcome.refused)
    log_.error("the queue refused a spooled message for good", {{"id", r.id}, {"action", lane.action}, {"reason", r.error.message}, {"detail", r.error.detail}});
  store_.died(letters);
  store_.forget(lane, static_cast<std::int64_t>(outcome.done), bytes);
}

std::chrono::milliseconds Drain::back_off(std::int64_t failures, const Error& error) {
  const auto doubled = options_.retry_delay * (std::int64_t{1} << std::min<std::int64_t>(failures - 1, 16));
  auto delay = std::min(doubled, options_.max_retry_delay);
  if (error.retry_after) delay = std::max(delay, std::min(*error.retry_after, options_.max_retry_delay));
  return std::chrono::milliseconds(static_cast<std::int64_t>(static_cast<double>(delay.count()) * std::uniform_real_distribution<double>(0.8, 1.2)(random_)));
}

core::awaitable<void> Drain::pause(std::chrono::milliseconds how_long) {
  if (stopping_) co_return;
  struct Listed {
    Listed(std::set<asio::steady_timer*>& all, asio::steady_timer& mine) : all_(all), timer(mine) { all_.insert(&timer); }
    ~Listed() { all_.erase(&timer); }
    std::set<asio::steady_timer*>& all_;
    asio::steady_timer& timer;
  };
  asio::steady_timer timer(scope_.executor(), how_long);
  const Listed listed(pauses_, timer);
  boost::system::error_code ignored;
  co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
}

core::awaitable<void> Drain::stop(core::StopOptions options) {
  stopping_ = true;
  for (auto* timer : pauses_) timer->cancel();
  asio::steady_timer grace(scope_.executor());
  const auto until = std::chrono::steady_clock::now() + options.grace;
  while (scope_.running() > 0 && std::chrono::steady_clock::now() < until) {
    grace.expires_after(std::chrono::milliseconds(5));
    boost::system::error_code ignored;
    co_await grace.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
  scope_.cancel();
  co_await scope_.join();
}

}  // namespace flexi::transports::spool
