// SPDX-License-Identifier: Apache-2.0
#include "runtime/policies/deadline.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <optional>

#include "runtime/completion.hpp"
#include "runtime/policies/clock.hpp"

namespace flexi::runtime::policies {

namespace asio = boost::asio;
using Answer = std::optional<core::Result<core::Reply>>;

void DeadlineOptions::describe(OptionVisitor& v) {
  v.field("default_timeout", default_timeout, "Time that a request gets when it names none; 0 is without end");
  v.field("max_timeout", max_timeout, "The most time that a request may ask for; 0 is without end");
}

Problems DeadlineOptions::validate() const {
  Problems problems;
  if (default_timeout.count() < 0) problems.push_back({"default_timeout", "must not be negative"});
  if (max_timeout.count() < 0) problems.push_back({"max_timeout", "must not be negative"});
  if (max_timeout.count() > 0 && default_timeout > max_timeout) problems.push_back({"default_timeout", "must not exceed max_timeout"});
  return problems;
}

namespace {

/// Outlives the call where the timer's handler was on its way already when the call ended.
struct Alarm {
  asio::cancellation_signal signal;
  bool over = false;
  bool rang = false;
};

/// co_spawn wants a default-constructible result, which a Result is not.
core::awaitable<void> answer_into(core::Handler& inner, core::Request request, core::CallContext context, Answer& answer) {
  answer.emplace(co_await inner.handle(std::move(request), std::move(context)));
}

}  // namespace

core::awaitable<core::Result<core::Reply>> Deadline::handle(core::Request request, core::CallContext context) {
  if (!context.has_deadline() && options_.default_timeout.count() > 0) context = context.limited_to(options_.default_timeout);
  if (options_.max_timeout.count() > 0) context = context.limited_to(options_.max_timeout);
  if (!context.has_deadline()) return inner_.handle(std::move(request), std::move(context));
  if (context.expired()) return refuse(cancelled_error(core::Sent::no));
  return enforce(std::move(request), std::move(context));
}

core::awaitable<core::Result<core::Reply>> Deadline::enforce(core::Request request, core::CallContext context) {
  auto executor = co_await asio::this_coro::executor;
  auto state = co_await asio::this_coro::cancellation_state;
  auto alarm = std::make_shared<Alarm>();
  asio::steady_timer timer(executor, context.deadline);
  timer.async_wait([alarm](boost::system::error_code error) {
    if (error || alarm->over) return;
    alarm->rang = true;
    alarm->signal.emit(asio::cancellation_type::terminal);
  });
  // The inner call listens to the alarm; the caller's own cancellation is passed on to it by hand, which is far cheaper
  // than `call || timer` (no parallel group, and the loser need not be waited for).
  auto outer = state.slot();
  if (outer.is_connected()) outer.assign([alarm](asio::cancellation_type type) { alarm->signal.emit(type); });

  Answer answer;
  auto call = answer_into(inner_, std::move(request), std::move(context), answer);
  try {
    co_await asio::co_spawn(executor, std::move(call), asio::bind_cancellation_slot(alarm->signal.slot(), asio::use_awaitable));
  } catch (const boost::system::system_error& e) {
    if (e.code() != asio::error::operation_aborted || !alarm->rang) {
      alarm->over = true;
      throw;
    }
  }
  alarm->over = true;
  timer.cancel();
  if (outer.is_connected()) outer.clear();
  // The inner call may know better whether it was sent; `cancelled` would blame the caller for our own alarm.
  if (!answer || (alarm->rang && !*answer && answer->error().kind == core::ErrorKind::cancelled)) co_return cancelled_error(core::Sent::maybe);
  co_return std::move(*answer);
}

}  // namespace flexi::runtime::policies
