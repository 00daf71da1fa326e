// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <deque>
#include <list>
#include <memory>

#include "runtime/net/balancer.hpp"
#include "transports/http/options.hpp"
#include "transports/http/deadlines.hpp"

namespace flexi::transports::http {

struct PooledSocket {
  explicit PooledSocket(boost::asio::any_io_executor executor) : socket(executor) {}
  boost::asio::ip::tcp::socket socket;
  boost::asio::ip::tcp::endpoint endpoint;
  boost::beast::flat_buffer buffer;
  std::chrono::steady_clock::time_point used_at{};
};

/// The kept connections of one shard to one peer; each carries one call at a time.
/// Lifetime/threads: the shard's thread. Shared with its leases: an event stream may outlive the client that opened it
class Pool : public std::enable_shared_from_this<Pool> {
 public:
  Pool(boost::asio::any_io_executor executor, const HttpClientOptions& options, std::shared_ptr<Deadlines> deadlines);

  /// One connection for one call. What is not given back is closed, abortively: so the peer learns that nobody waits.
  class Lease {
   public:
    Lease() = default;
    Lease(std::shared_ptr<Pool> pool, std::unique_ptr<PooledSocket> socket, bool reused) : pool_(std::move(pool)), socket_(std::move(socket)), reused_(reused) {}
    Lease(Lease&&) = default;
    Lease& operator=(Lease&&) = delete;
    ~Lease() { release(Keep::no); }
    enum class Keep { no, yes };
    void release(Keep keep);
    PooledSocket& operator*() const { return *socket_; }
    Deadlines& deadlines() const { return pool_->deadlines(); }
    PooledSocket* operator->() const { return socket_.get(); }
    bool reused() const { return reused_; }

   private:
    std::shared_ptr<Pool> pool_;
    std::unique_ptr<PooledSocket> socket_;
    bool reused_ = false;
  };
  enum class Fresh { no, yes };

  /// @return unavailable where no address can be reached, overloaded where too many wait; nothing was sent
  core::awaitable<core::Result<Lease>> acquire(runtime::net::Balancer& balancer, Fresh fresh, core::CallContext context);
  /// Closes idle connections; later ones are closed as they come back.
  void close();
  Deadlines& deadlines() { return *deadlines_; }

 private:
  using Waiting = std::shared_ptr<runtime::Completion<std::unique_ptr<PooledSocket>>>;
  std::unique_ptr<PooledSocket> take_idle(const boost::asio::ip::tcp::endpoint* endpoint);
  /// @param lease holds the place, which is given up whichever way this ends
  core::awaitable<core::Result<Lease>> open(runtime::net::Balancer& balancer, boost::asio::ip::tcp::endpoint first, core::CallContext context, Lease lease);
  void give_back(std::unique_ptr<PooledSocket> socket, Lease::Keep keep);

  boost::asio::any_io_executor executor_;
  const HttpClientOptions options_;
  std::shared_ptr<Deadlines> deadlines_;
  std::list<std::unique_ptr<PooledSocket>> idle_;  ///< the last used at the back
  std::deque<Waiting> waiting_;
  std::int64_t open_ = 0;  ///< idle, leased and connecting
  bool closed_ = false;
};

}  // namespace flexi::transports::http
