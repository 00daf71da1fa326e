// SPDX-License-Identifier: Apache-2.0
#include "transports/grpc/server_shard.hpp"

#include <boost/asio/redirect_error.hpp>

#include "transports/grpc/server_connection.hpp"

namespace flexi::transports::grpc {

namespace asio = boost::asio;
using boost::system::error_code;

ServerShard::ServerShard(asio::any_io_executor executor, ServerShared& shared, asio::ip::tcp::acceptor acceptor)
    : shared_(shared), connections_scope_(executor, "grpc connections", shared.log), own_scope_(executor, "grpc server", shared.log),
      acceptor_(std::move(acceptor)), ticker_(executor) {}

void ServerShard::start() {
  now_ = Clock::now();
  own_scope_.spawn(accept());
  own_scope_.spawn(watch());
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
      shared_.refused.add();  // and it closes
      continue;
    }
    connections_scope_.spawn(serve(std::move(socket)));
  }
}

asio::awaitable<void> ServerShard::serve(asio::ip::tcp::socket socket) {
  if (connections_.empty()) {
    now_ = Clock::now();  // it stands still while there is nothing to watch
    ticker_.cancel();
  }
  shared_.connections.fetch_add(1, std::memory_order_relaxed);
  shared_.open.add(1);
  {
    ServerConnection connection(*this, std::move(socket));
    const auto where = connections_.insert(connections_.end(), &connection);
    try {
      co_await connection.run();
    } catch (const std::exception& e) {
      shared_.log.error("connection failed", {{"error", e.what()}});
    }
    connections_.erase(where);
  }
  shared_.open.add(-1);
  shared_.connections.fetch_sub(1, std::memory_order_relaxed);
}

asio::awaitable<void> ServerShard::watch() {
  while (!done_) {
    // An idle process sleeps.
    ticker_.expires_after(connections_.empty() && !draining_ ? std::chrono::hours(1) : std::chrono::hours(0) + kTick);
    error_code ec;
    co_await ticker_.async_wait(asio::redirect_error(asio::use_awaitable, ec));
    now_ = Clock::now();
    for (std::size_t i = 0; i < std::size(counted_); ++i)
      if (counted_[i] != 0) shared_.calls[i].add(static_cast<double>(std::exchange(counted_[i], 0)));
    // A connection may end while it is told the time.
    for (auto it = connections_.begin(); it != connections_.end();) {
      auto& connection = **it++;
      if (now_ >= stop_at_) connection.stop();
      connection.tick_all(now_);
    }
  }
}

void ServerShard::begin_drain(std::chrono::milliseconds grace) {
  now_ = Clock::now();
  draining_ = true;
  stop_at_ = now_ + grace;
  error_code ignored;
  acceptor_.close(ignored);
  for (auto it = connections_.begin(); it != connections_.end();) (*it++)->begin_drain();
  ticker_.cancel();
}

asio::awaitable<void> ServerShard::join() {
  co_await connections_scope_.join();
  done_ = true;
  ticker_.cancel();
  co_await own_scope_.join();
}

}  // namespace flexi::transports::grpc
