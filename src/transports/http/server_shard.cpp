// SPDX-License-Identifier: Apache-2.0
#include "transports/http/server_shard.hpp"

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/write.hpp>
#include <ctime>

#include "transports/http/connection.hpp"

namespace flexi::transports::http {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {
constexpr unsigned kMaxRefusing = 64;  // connections over the limit that are told so; any more are just closed
}

ServerShard::ServerShard(asio::any_io_executor executor, ServerShared& shared, asio::ip::tcp::acceptor acceptor)
    : shared_(shared), connections_scope_(executor, "http connection", shared.log), own_scope_(executor, "http server", shared.log),
      acceptor_(std::move(acceptor)), ticker_(executor) {}

void ServerShard::start() {
  refresh_clock();
  own_scope_.spawn(accept());
  own_scope_.spawn(watch());
}

void ServerShard::refresh_clock() {
  now_ = Clock::now();
  if (const auto second = std::time(nullptr); second != date_second_) {
    date_second_ = second;
    date_ = http_date();
  }
}

asio::awaitable<void> ServerShard::accept() {
  asio::steady_timer pause(executor());
  while (acceptor_.is_open()) {
    error_code ec;
    auto socket = co_await acceptor_.async_accept(asio::redirect_error(asio::use_awaitable, ec));
    if (ec == asio::error::operation_aborted || !acceptor_.is_open()) break;
    if (ec) {
      // Out of file descriptors, most likely: the next accept would fail at once, too.
      shared_.log.warning("can't accept connections", {{"error", ec.message()}});
      pause.expires_after(std::chrono::milliseconds(50));
      co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, ec));
      continue;
    }
    if (shared_.connections.load(std::memory_order_relaxed) >= shared_.options.max_connections) {
      shared_.refused.add();
      if (refusing_ < kMaxRefusing) connections_scope_.spawn(refuse(std::move(socket)));
      continue;
    }
    connections_scope_.spawn_cancellable([&](asio::cancellation_signal& signal) { return serve(std::move(socket), &signal); });
  }
}

asio::awaitable<void> ServerShard::serve(asio::ip::tcp::socket socket, asio::cancellation_signal* signal) {
  if (connections_.empty()) {
    refresh_clock();  // it stands still while there is nothing to watch
    ticker_.cancel();
  }
  shared_.connections.fetch_add(1, std::memory_order_relaxed);
  shared_.open.add(1);
  Connection connection(*this, std::move(socket), *signal);
  const auto where = connections_.insert(connections_.end(), &connection);
  try {
    co_await connection.run();
  } catch (const std::exception& e) {
    shared_.log.error("connection failed", {{"error", e.what()}});
  }
  connections_.erase(where);
  shared_.open.add(-1);
  shared_.connections.fetch_sub(1, std::memory_order_relaxed);
}

asio::awaitable<void> ServerShard::refuse(asio::ip::tcp::socket socket) {
  ++refusing_;
  auto answer = refusal(503, "the server has too many connections, try again later");
  answer.header("Retry-After", "1");
  std::string out;
  append_response(out, answer, {.keep_alive = false}, date_);
  count(answer.status);
  error_code ec;
  co_await asio::async_write(socket, asio::buffer(out), asio::redirect_error(asio::use_awaitable, ec));
  socket.shutdown(asio::ip::tcp::socket::shutdown_send, ec);
  // Until the client closes, or a moment has gone: its request waits unread, and closing at once would reset the answer.
  asio::steady_timer timer(executor(), std::chrono::milliseconds(200));
  co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ec));
  --refusing_;
}

asio::awaitable<void> ServerShard::watch() {
  while (!done_) {
    // An idle process sleeps.
    ticker_.expires_after(connections_.empty() && !draining_ ? std::chrono::hours(1) : std::chrono::hours(0) + kTick);
    error_code ec;
    co_await ticker_.async_wait(asio::redirect_error(asio::use_awaitable, ec));
    refresh_clock();
    for (unsigned i = 0; i < 6; ++i)
      if (counted_[i] != 0) shared_.requests[i].add(static_cast<double>(std::exchange(counted_[i], 0)));
    // A connection may end while it is told the time.
    for (auto it = connections_.begin(); it != connections_.end();) (*it++)->tick(now_);
  }
}

void ServerShard::begin_drain(std::chrono::milliseconds grace) {
  refresh_clock();
  draining_ = true;
  linger_until_ = now_ + std::min(shared_.options.drain_linger, grace);
  stop_at_ = now_ + grace;
  error_code ignored;
  acceptor_.close(ignored);
  ticker_.cancel();
}

asio::awaitable<void> ServerShard::join() {
  co_await connections_scope_.join();
  done_ = true;
  ticker_.cancel();
  co_await own_scope_.join();
}

}  // namespace flexi::transports::http
