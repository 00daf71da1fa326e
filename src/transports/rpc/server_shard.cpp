// SPDX-License-Identifier: Apache-2.0
#include "transports/rpc/server_shard.hpp"

#include <capnp/serialize.h>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/write.hpp>

#include "transports/rpc/access.hpp"
#include "transports/rpc/session.hpp"

namespace flexi::transports::rpc {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

constexpr unsigned kMaxRefusing = 64;  // connections over the limit that are told so; any more are just closed

/// What a client gets for its first word where there is no room for it. Source: capnp/rpc.capnp, Message.abort
std::string overloaded_message() {
  capnp::MallocMessageBuilder message;
  auto abort = message.initRoot<capnp::rpc::Message>().initAbort();
  abort.setType(capnp::rpc::Exception::Type::OVERLOADED);
  abort.setReason("the server has too many connections, try again later");
  const auto words = capnp::messageToFlatArray(message);
  return {reinterpret_cast<const char*>(words.begin()), words.size() * sizeof(capnp::word)};
}

}  // namespace

ServerShard::ServerShard(asio::any_io_executor executor, ServerShared& shared, asio::ip::tcp::acceptor acceptor)
    : shared_(shared), scope_(executor, "rpc connection", shared.log), own_scope_(executor, "rpc server", shared.log), acceptor_(std::move(acceptor)),
      ticker_(executor) {}

ServerShard::~ServerShard() = default;

void ServerShard::start() {
  loop_ = KjLoop::here(executor(), shared_.log);
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
      shared_.refused.add();
      if (refusing_ < kMaxRefusing) scope_.spawn(refuse(std::move(socket)));
      continue;
    }
    scope_.spawn(serve(std::move(socket)));
  }
}

asio::awaitable<void> ServerShard::serve(asio::ip::tcp::socket socket) {
  if (sessions_.empty()) ticker_.cancel();
  shared_.connections.fetch_add(1, std::memory_order_relaxed);
  shared_.open.add(1);
  error_code ec;
  const auto peer = socket.remote_endpoint(ec).address();
  auto session = std::make_shared<Session>(*this, std::move(socket), is_same_machine(peer) && !ec && !shared_.token_always, ec ? std::string() : peer.to_string());
  const auto where = sessions_.insert(sessions_.end(), session.get());
  try {
    co_await session->run();
  } catch (const kj::Exception& e) {
    shared_.log.error("connection failed", {{"error", e.getDescription().cStr()}});
  } catch (const std::exception& e) {
    shared_.log.error("connection failed", {{"error", e.what()}});
  }
  sessions_.erase(where);
  shared_.open.add(-1);
  shared_.connections.fetch_sub(1, std::memory_order_relaxed);
}

asio::awaitable<void> ServerShard::refuse(asio::ip::tcp::socket socket) {
  ++refusing_;
  error_code ec;
  co_await asio::async_write(socket, asio::buffer(overloaded_message()), asio::redirect_error(asio::use_awaitable, ec));
  socket.shutdown(asio::ip::tcp::socket::shutdown_send, ec);
  // A moment for the client to read it: its request waits unread, and closing at once would reset the connection.
  asio::steady_timer timer(executor(), std::chrono::milliseconds(200));
  co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ec));
  --refusing_;
}

asio::awaitable<void> ServerShard::watch() {
  while (!done_) {
    // An idle process sleeps.
    ticker_.expires_after(sessions_.empty() && !draining_ ? std::chrono::hours(1) : std::chrono::hours(0) + kTick);
    error_code ec;
    co_await ticker_.async_wait(asio::redirect_error(asio::use_awaitable, ec));
    if (answered_ != 0) shared_.answered.add(static_cast<double>(std::exchange(answered_, 0)));
    if (failed_ != 0) shared_.failed.add(static_cast<double>(std::exchange(failed_, 0)));
    const auto now = Clock::now();
    // A connection may end while it is told the time.
    for (auto it = sessions_.begin(); it != sessions_.end();) {
      const auto session = (*it++)->shared_from_this();
      session->tick(now);
    }
  }
}

void ServerShard::begin_drain(std::chrono::milliseconds grace) {
  const auto now = Clock::now();
  draining_ = true;
  linger_until_ = now + std::min(shared_.options.drain_linger, grace);
  stop_at_ = now + grace;
  error_code ignored;
  acceptor_.close(ignored);
  ticker_.cancel();
}

asio::awaitable<void> ServerShard::join() {
  co_await scope_.join();
  done_ = true;
  ticker_.cancel();
  co_await own_scope_.join();
  loop_.reset();
}

}  // namespace flexi::transports::rpc
