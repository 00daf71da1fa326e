// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace flexi::transports::grpc {

/// One coroutine waits until another has something for it. What was said before the wait counts.
/// Cancellation: ends the wait
/// Lifetime/threads: one thread
class Wake {
 public:
  explicit Wake(boost::asio::any_io_executor executor) : timer_(std::move(executor)) {}

  void notify() {
    said_ = true;
    timer_.cancel();
  }
  boost::asio::awaitable<void> wait() {
    if (!said_) {
      timer_.expires_at(std::chrono::steady_clock::time_point::max());
      boost::system::error_code ignored;
      co_await timer_.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ignored));
    }
    said_ = false;
  }

 private:
  boost::asio::steady_timer timer_;
  bool said_ = false;
};

}  // namespace flexi::transports::grpc
