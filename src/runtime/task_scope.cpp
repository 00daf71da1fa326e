// SPDX-License-Identifier: Apache-2.0
#include "runtime/task_scope.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace flexi::runtime {

namespace asio = boost::asio;

TaskScope::TaskScope(asio::any_io_executor executor, std::string name, LogSink& log)
    : executor_(executor), name_(std::move(name)), log_(log), idle_(executor, asio::steady_timer::time_point::max()) {}

TaskScope::~TaskScope() {
  if (tasks_.empty()) return;
  std::fprintf(stderr, "bug: task scope '%s' destroyed with %zu running tasks\n", name_.c_str(), tasks_.size());
  std::abort();
}

void TaskScope::spawn(asio::awaitable<void> task) { start(tasks_.emplace(tasks_.end()), std::move(task)); }

void TaskScope::start(std::list<asio::cancellation_signal>::iterator it, asio::awaitable<void> task) {
  auto done = [this, it](std::exception_ptr failure) {
    if (failure) {
      try {
        std::rethrow_exception(failure);
      } catch (const boost::system::system_error& e) {
        if (e.code() != asio::error::operation_aborted) log_.error("task failed", {{"scope", name_}, {"error", e.what()}});
      } catch (const std::exception& e) {
        log_.error("task failed", {{"scope", name_}, {"error", e.what()}});
      }
    }
    tasks_.erase(it);
    if (tasks_.empty()) idle_.cancel();
  };
  asio::co_spawn(executor_, std::move(task), asio::bind_cancellation_slot(it->slot(), std::move(done)));
}

void TaskScope::cancel() {
  // A task may end, and leave the list, while it is being cancelled.
  std::vector<asio::cancellation_signal*> running;
  for (auto& signal : tasks_) running.push_back(&signal);
  for (auto* signal : running)
    for (auto& still : tasks_)
      if (&still == signal) {
        signal->emit(asio::cancellation_type::terminal);
        break;
      }
}

asio::awaitable<void> TaskScope::join() {
  while (!tasks_.empty()) {
    boost::system::error_code ignored;
    co_await idle_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
}

}  // namespace flexi::runtime
