// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <deque>
#include <exception>
#include <functional>
#include <optional>
#include <vector>

#include "runtime/completion.hpp"
#include "runtime/policies/clock.hpp"

// For tests only: a handler that answers as it is told, and a loop to run a test's coroutine on.
namespace flexi::runtime::policies {

class ScriptedHandler final : public core::Handler {
 public:
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override {
    requests.push_back(request);
    contexts.push_back(context);
    ++running;
    struct Leave {
      ScriptedHandler& self;
      ~Leave() { --self.running; }
    } leave{*this};
    if (on_call) on_call();
    if (hang) {
      // Somebody has to hold on to the completion, or the waiting coroutine is destroyed.
      auto never = [this](std::shared_ptr<Completion<int>> completion) { waiting_.push_back(std::move(completion)); };
      auto error = cancelled_error(core::Sent::maybe);
      auto answer = co_await wait_for_completion<int>(never, error);
      ++cancelled;
      co_return answer.error();
    }
    if (failures.empty()) {
      core::Reply reply;
      reply.message = message;
      reply.way = way;
      reply.duplicate = duplicate;
      co_return reply;
    }
    auto error = failures.front();
    if (!fails_for_ever) failures.pop_front();
    co_return error;
  }

  void fail(core::Error error, core::Sent sent = core::Sent::no) {
    error.sent = sent;
    failures.push_back(std::move(error));
  }
  void fail_for_ever(core::Error error, core::Sent sent = core::Sent::no) {
    failures.clear();
    fail(std::move(error), sent);
    fails_for_ever = true;
  }
  void heal() {
    failures.clear();
    fails_for_ever = false;
  }
  std::size_t calls() const { return requests.size(); }

  std::string message = "done";
  std::string way;
  bool duplicate = false;
  bool hang = false;
  bool fails_for_ever = false;
  std::function<void()> on_call;
  std::deque<core::Error> failures;  ///< given one by one, then all is well
  std::vector<core::Request> requests;
  std::vector<core::CallContext> contexts;
  int running = 0;
  int cancelled = 0;

 private:
  std::vector<std::shared_ptr<Completion<int>>> waiting_;
};

inline core::Request request_of(std::string action, core::Payload payload = core::Json{}) {
  core::Request request;
  request.id = core::MessageId::parse("test-id").value();
  request.action = std::move(action);
  request.payload = std::move(payload);
  return request;
}

/// Runs a test's coroutine to its end.
inline void run_test(core::awaitable<void> test) {
  boost::asio::io_context io{1};
  std::exception_ptr failure;
  boost::asio::co_spawn(io, std::move(test), [&failure](std::exception_ptr e) { failure = e; });
  io.run();
  if (failure) std::rethrow_exception(failure);
}

/// One call, alone on its own loop.
inline core::Result<core::Reply> call(core::Handler& handler, core::Request request, core::CallContext context = {}) {
  std::optional<core::Result<core::Reply>> answer;
  auto test = [](core::Handler& h, core::Request r, core::CallContext c, std::optional<core::Result<core::Reply>>& out) -> core::awaitable<void> {
    out.emplace(co_await h.handle(std::move(r), std::move(c)));
  };
  run_test(test(handler, std::move(request), std::move(context), answer));
  return std::move(*answer);
}

/// A clock that a test moves by hand.
struct ManualClock {
  TimePoint time = steady_now();
  Now now() {
    return [this] { return time; };
  }
};

}  // namespace flexi::runtime::policies
