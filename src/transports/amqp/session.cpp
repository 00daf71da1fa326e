// SPDX-License-Identifier: Apache-2.0
#include "transports/amqp/session.hpp"

#include <boost/asio/redirect_error.hpp>
#include <cmath>

namespace flexi::transports::amqp {

namespace asio = boost::asio;
using core::Result;
using Clock = core::CallContext::Clock;

namespace {
constexpr auto kLong = std::chrono::milliseconds(std::chrono::hours(24));
constexpr auto kDeclarePause = std::chrono::seconds(1);
}

void Health::report(const std::string& part, std::string why, const std::string& detail) {
  std::lock_guard lock(mutex_);
  auto [found, fresh] = parts_.try_emplace(part, "?");
  if (found->second != why) {
    if (!why.empty()) log_.warning("RabbitMQ can't be used", {{"part", part}, {"reason", why}, {"detail", detail}});
    else if (!fresh) log_.info("RabbitMQ can be used again", {{"part", part}});
    found->second = std::move(why);
  }
  tell();
}

void Health::forget(const std::string& part) {
  std::lock_guard lock(mutex_);
  parts_.erase(part);
  if (!parts_.empty()) tell();
}

void Health::tell() {
  for (auto& [part, why] : parts_)
    if (!why.empty()) return readiness_.set_unready("rabbitmq", why);
  readiness_.set_ready("rabbitmq");
}

Session::Session(asio::any_io_executor executor, Shared& shared, std::string name, SessionUser& user)
    : shared_(shared), name_(std::move(name)), user_(user), scope_(executor, "RabbitMQ session", shared.log), timer_(executor) {
  shared_.health.report(name_, "RabbitMQ is being connected to");
}

void Session::start() {
  asio::post(scope_.executor(), [this] { scope_.spawn(run()); });
}

core::awaitable<void> Session::run() {
  co_await asio::this_coro::throw_if_cancelled(false);
  unsigned failures = 0;
  bool was_up_before = false;
  while (!stopping_) {
    Connection connection(scope_.executor(), shared_.endpoint, shared_.options, shared_.log, "flexiconnect " + name_);
    current_ = &connection;
    const auto known = fatal_.size();
    auto opened = co_await set_up(connection);
    if (!opened && fatal_.size() > known && !stopping_) {
      // Each time a declaration less: this ends.
      current_ = nullptr;
      co_await connection.finish();
      continue;
    }
    if (opened && !stopping_) {
      failures = 0;
      if (std::exchange(was_up_before, true)) shared_.teller.tell({EventKind::reconnected});
      user_.on_up();
      co_await keep(connection);
      const auto why = connection.why_over().value_or(core::unavailable("the service is stopping"));
      if (!stopping_) shared_.health.report(name_, why.message, why.detail);
      user_.on_down(why, true);
    } else {
      ++failures;
      const auto why = opened ? core::unavailable("the service is stopping") : opened.error();
      // Said before anybody is answered: who asks why finds it.
      if (!stopping_) shared_.health.report(name_, why.message, why.detail);
      user_.on_down(why, false);
    }
    current_ = nullptr;
    co_await connection.finish();
    if (!stopping_) co_await pause(failures);
  }
}

core::awaitable<Result<void>> Session::set_up(Connection& connection) {
  auto opened = co_await connection.open();
  if (!opened) co_return opened.error();
  auto declared = co_await shared_.topology.declare(connection, kTopologyChannel, fatal_);
  if (!declared) co_return declared.error();
  problems_ = std::move(declared).value();
  declared_at_ = Clock::now();
  again_ = false;
  auto ready = co_await user_.on_connected(connection, problems_);
  if (!ready) co_return ready.error();
  report();
  co_return core::ok();
}

/// Until the connection is over; looks again, now and then, at what stood in the way.
core::awaitable<void> Session::keep(Connection& connection) {
  while (!connection.over() && !stopping_) {
    const auto soonest = std::chrono::ceil<std::chrono::milliseconds>(declared_at_ + kDeclarePause - Clock::now());
    const bool trouble = !problems_.empty() || !user_.own_problems().empty();
    co_await connection.wait_over(again_ ? std::max(soonest, std::chrono::milliseconds(0)) : trouble ? shared_.options.recheck : kLong);
    if (connection.over() || stopping_ || !(again_ || trouble)) continue;
    if (again_ && Clock::now() < declared_at_ + kDeclarePause) continue;
    again_ = false;
    if (!fatal_.empty()) co_await try_fatal();
    if (connection.over() || stopping_) continue;
    declared_at_ = Clock::now();
    auto declared = co_await shared_.topology.declare(connection, kTopologyChannel, fatal_);
    if (!declared || (declared.value() == problems_ && user_.own_problems().empty())) continue;
    problems_ = std::move(declared).value();
    co_await user_.on_problems(problems_);
    report();
  }
}

/// What costs connections may do so to one that nobody uses.
core::awaitable<void> Session::try_fatal() {
  for (auto& [name, problem] : Problems(fatal_)) {
    auto others = fatal_;
    others.erase(name);
    Connection probe(scope_.executor(), shared_.endpoint, shared_.options, shared_.log, "flexiconnect " + name_ + " declares");
    probe_ = &probe;
    auto opened = co_await probe.open();
    if (opened && !stopping_ && co_await shared_.topology.declare(probe, kTopologyChannel, others)) fatal_.erase(name);
    probe_ = nullptr;
    co_await probe.finish();
    if (stopping_) co_return;
  }
}

void Session::declare_again() {
  if (!std::exchange(again_, true) && current_) current_->wake_owner();
}

void Session::report() {
  auto problems = user_.own_problems();
  problems.insert(problems_.begin(), problems_.end());
  std::string all;
  for (auto& [name, problem] : problems) all.append(all.empty() ? "" : " | ").append(problem);
  shared_.health.report(name_, all);
}

core::awaitable<void> Session::pause(unsigned failures) {
  const auto& o = shared_.options;
  const double grown = static_cast<double>(o.reconnect_delay.count()) * std::pow(2.0, std::min(failures, 30u));
  const double jitter = std::uniform_real_distribution<double>(0.5, 1.0)(random_);
  const auto longest = static_cast<double>(o.max_reconnect_delay.count());
  timer_.expires_after(std::chrono::milliseconds(static_cast<std::int64_t>(std::min(grown, longest) * jitter)));
  boost::system::error_code ignored;
  co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
}

core::awaitable<void> Session::stop() {
  stopping_ = true;
  timer_.cancel();
  if (probe_) probe_->fail(core::unavailable("the service is stopping"));
  if (current_) {
    current_->leave();
    // Still connecting: nobody to say good-bye to.
    if (!current_->over() && current_->version().empty()) current_->fail(core::unavailable("the service is stopping"));
  }
  co_await scope_.join();
  shared_.health.forget(name_);
}

}  // namespace flexi::transports::amqp
