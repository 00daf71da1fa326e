// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <list>
#include <memory>

#include "runtime/task_scope.hpp"
#include "transports/rpc/kj_loop.hpp"
#include "transports/rpc/registry.hpp"
#include "transports/rpc/rpc.hpp"

namespace flexi::transports::rpc {

class Session;

/// What the shards of one server share.
struct ServerShared {
  RpcServerOptions options;
  runtime::LogSink& log;
  std::string admin_token, process_key;
  bool token_always = false, trusts_peers = true, login_tokens = false;
  Registry registry{};
  std::atomic<std::int64_t> connections{0};
  std::atomic<std::int64_t> calls{0};  ///< that run
  runtime::Metrics::Counter answered{}, failed{}, refused{}, broken{};
  runtime::Metrics::Gauge open{};
};

/// One shard's acceptor and connections. One timer looks after all of them every 20 ms, so that a call needs none.
/// Lifetime/threads: the shard's thread only, but for the constructor
class ServerShard {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds kTick{20};

  ServerShard(boost::asio::any_io_executor executor, ServerShared& shared, boost::asio::ip::tcp::acceptor acceptor);
  ~ServerShard();

  void start();
  /// Closes the acceptor; later calls are told to go elsewhere.
  void begin_drain(std::chrono::milliseconds grace);
  /// Returns when nothing of this shard runs and no kj object is left.
  boost::asio::awaitable<void> join();

  const boost::asio::any_io_executor& executor() const { return scope_.executor(); }
  ServerShared& shared() { return shared_; }
  runtime::TaskScope& scope() { return scope_; }
  const std::shared_ptr<KjLoop>& loop() const { return loop_; }
  bool draining() const { return draining_; }
  Clock::time_point linger_until() const { return linger_until_; }
  Clock::time_point stop_at() const { return stop_at_; }
  void count(bool ok) { ++(ok ? answered_ : failed_); }

 private:
  boost::asio::awaitable<void> accept();
  boost::asio::awaitable<void> serve(boost::asio::ip::tcp::socket socket);
  boost::asio::awaitable<void> refuse(boost::asio::ip::tcp::socket socket);
  boost::asio::awaitable<void> watch();

  ServerShared& shared_;
  runtime::TaskScope scope_, own_scope_;  ///< connections and their calls; the acceptor and the timer
  boost::asio::ip::tcp::acceptor acceptor_;
  boost::asio::steady_timer ticker_;
  std::shared_ptr<KjLoop> loop_;
  std::list<Session*> sessions_;
  Clock::time_point linger_until_ = Clock::time_point::max(), stop_at_ = Clock::time_point::max();
  bool draining_ = false, done_ = false;
  unsigned refusing_ = 0;
  std::uint64_t answered_ = 0, failed_ = 0;
};

}  // namespace flexi::transports::rpc
