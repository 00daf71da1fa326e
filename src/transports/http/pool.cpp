// SPDX-License-Identifier: Apache-2.0
#include "transports/http/pool.hpp"

#include <sys/socket.h>

namespace flexi::transports::http {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

/// A kept connection has nothing to say between two calls: an end, or a byte, means it can't be used.
bool still_silent(tcp::socket& socket) {
  char byte;
  return ::recv(socket.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

}  // namespace

Pool::Pool(asio::any_io_executor executor, const HttpClientOptions& options, std::shared_ptr<Deadlines> deadlines)
    : executor_(executor), options_(options), deadlines_(std::move(deadlines)) {}

void Pool::Lease::release(Keep keep) {
  if (!socket_) return;
  if (keep == Keep::no) {
    error_code ignored;
    socket_->socket.set_option(asio::socket_base::linger(true, 0), ignored);
    socket_->socket.close(ignored);
  }
  auto pool = std::move(pool_);
  pool->give_back(std::move(socket_), keep);
}

std::unique_ptr<PooledSocket> Pool::take_idle(const tcp::endpoint* endpoint) {
  const auto oldest = std::chrono::steady_clock::now() - options_.idle_timeout;
  for (auto it = idle_.end(); it != idle_.begin();) {
    --it;
    if (endpoint && (*it)->endpoint != *endpoint && (*it)->used_at >= oldest) continue;
    auto socket = std::move(*it);
    const bool fits = !endpoint || socket->endpoint == *endpoint;
    it = idle_.erase(it);
    if (fits && socket->used_at >= oldest && still_silent(socket->socket)) return socket;
    --open_;
  }
  return nullptr;
}

core::awaitable<core::Result<Pool::Lease>> Pool::acquire(runtime::net::Balancer& balancer, Fresh fresh, core::CallContext context) {
  auto self = shared_from_this();
  if (closed_) co_return core::unavailable("the client has stopped");
  // Asked once: an address that is set aside gives its probe to one asker.
  const auto endpoint = balancer.next();
  if (fresh == Fresh::no) {
    if (auto socket = take_idle(&endpoint)) co_return Lease(self, std::move(socket), true);
  }
  if (open_ < options_.max_connections) {
    ++open_;
    co_return co_await open(balancer, endpoint, context, Lease(self, std::make_unique<PooledSocket>(executor_), false));
  }
  if (auto socket = take_idle(nullptr)) co_return Lease(self, std::move(socket), true);
  if (static_cast<std::int64_t>(waiting_.size()) >= options_.max_waiting) {
    auto error = core::overloaded("too many requests wait for the service");
    error.retry_after = std::chrono::seconds(1);
    co_return error;
  }
  Waiting mine;
  auto start = [this, &mine](Waiting completion) { waiting_.push_back(mine = std::move(completion)); };
  Deadlines::Watch watch(*deadlines_, context.deadline, [&mine] { if (mine) mine->complete(runtime::cancelled_error(core::Sent::no)); });
  auto granted = co_await runtime::wait_for_completion<std::unique_ptr<PooledSocket>>(std::move(start), runtime::cancelled_error(core::Sent::no));
  std::erase(waiting_, mine);
  if (!granted) co_return granted.error();
  if (granted.value()) co_return Lease(self, std::move(granted.value()), true);
  // With the place of a connection that has gone.
  co_return co_await open(balancer, balancer.next(), context, Lease(self, std::make_unique<PooledSocket>(executor_), false));
}

/// One place is taken already.
core::awaitable<core::Result<Pool::Lease>> Pool::open(runtime::net::Balancer& balancer, tcp::endpoint first, core::CallContext context, Lease lease) {
  std::string why;
  for (std::size_t attempt = 0; attempt < balancer.size() && !context.expired(); ++attempt) {
    lease->endpoint = attempt == 0 ? first : balancer.next();
    const auto ec = co_await runtime::net::connect_within(lease->socket, lease->endpoint, std::min(options_.connect_timeout, context.remaining()));
    if (!ec) {
      balancer.reached(lease->endpoint);
      co_return std::move(lease);
    }
    if (ec == asio::error::operation_aborted) break;  // the caller left
    balancer.set_aside(lease->endpoint);
    why = runtime::net::to_authority(lease->endpoint) + ": " + ec.message();
  }
  if (context.expired() || why.empty()) co_return runtime::cancelled_error(core::Sent::no);
  co_return core::unavailable("the service can't be reached", why);
}

void Pool::give_back(std::unique_ptr<PooledSocket> socket, Lease::Keep keep) {
  if (keep == Lease::Keep::no || closed_) {
    --open_;
    socket.reset();
  }
  while (!waiting_.empty()) {
    auto next = std::move(waiting_.front());
    waiting_.pop_front();
    if (!next->waiting()) continue;
    if (!socket) {
      if (open_ >= options_.max_connections) return waiting_.push_front(std::move(next));
      ++open_;
    }
    // The waiter runs inside; it may come back here.
    return next->resolve(std::move(socket));
  }
  if (!socket) return;
  socket->used_at = std::chrono::steady_clock::now();
  socket->buffer.clear();
  idle_.push_back(std::move(socket));
}

void Pool::close() {
  closed_ = true;
  open_ -= static_cast<std::int64_t>(idle_.size());
  idle_.clear();
  for (auto& waiting : std::exchange(waiting_, {})) waiting->complete(core::unavailable("the client has stopped"));
}

}  // namespace flexi::transports::http
