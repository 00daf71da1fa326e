// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/any_completion_handler.hpp>
#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <memory>

#include "core/call_context.hpp"
#include "core/result.hpp"

namespace flexi::runtime {

/// One answer that another thread, or another coroutine, gives to a waiting coroutine. The waiter leaves early when it
/// is cancelled; a late answer is then dropped, so whoever answers need not know.
/// Lifetime/threads: complete() from any thread, once; resolve() on executor()'s thread only
template <class T>
class Completion : public std::enable_shared_from_this<Completion<T>> {
 public:
  using Handler = boost::asio::any_completion_handler<void(core::Result<T>)>;

  /// The waiter's executor: answers to many waiters of one executor can be posted there together.
  const boost::asio::any_io_executor& executor() const { return executor_; }

  void complete(core::Result<T> result) {
    boost::asio::post(executor_, [self = this->shared_from_this(), result = std::move(result)]() mutable {
      self->resolve(std::move(result));
    });
  }
  void resolve(core::Result<T> result) {
    if (!handler_) return;  // the waiter has left
    auto handler = std::move(handler_);
    handler_ = nullptr;
    if (slot_.is_connected()) slot_.clear();
    std::move(handler)(std::move(result));
  }
  /// False once answered or left. On executor()'s thread only.
  bool waiting() const { return static_cast<bool>(handler_); }

  template <class H>
  Completion(H handler, core::Error when_cancelled)
      : executor_(boost::asio::get_associated_executor(handler)), slot_(boost::asio::get_associated_cancellation_slot(handler)),
        handler_(std::move(handler)), when_cancelled_(std::move(when_cancelled)) {}

  void watch_cancellation() {
    if (!slot_.is_connected()) return;
    slot_.assign([weak = this->weak_from_this()](boost::asio::cancellation_type) {
      // Resolving inside the emitting call would destroy the slot's handler while it runs.
      if (auto self = weak.lock()) self->complete(core::Result<T>(self->when_cancelled_));
    });
  }

 private:
  boost::asio::any_io_executor executor_;
  boost::asio::cancellation_slot slot_;
  Handler handler_;
  core::Error when_cancelled_;
};

/// Suspends until the Completion that `start` is given has been completed, or the waiting coroutine is cancelled.
/// @param start void(std::shared_ptr<Completion<T>>), run before the coroutine suspends
/// @return what it was completed with; on cancellation `when_cancelled`
template <class T, class Start>
boost::asio::awaitable<core::Result<T>> wait_for_completion(Start start, core::Error when_cancelled) {
  return boost::asio::async_initiate<const boost::asio::use_awaitable_t<>, void(core::Result<T>)>(
      [](auto handler, Start start, core::Error when_cancelled) {
        auto completion = std::make_shared<Completion<T>>(std::move(handler), std::move(when_cancelled));
        completion->watch_cancellation();
        start(completion);
      },
      boost::asio::use_awaitable, std::move(start), std::move(when_cancelled));
}

/// The error of a call that was cancelled while it waited: its deadline has passed, or its caller went away.
inline core::Error cancelled_error(core::Sent sent) {
  auto error = core::deadline_exceeded("the request was not answered in time");
  error.sent = sent;
  return error;
}

}  // namespace flexi::runtime
