// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <list>
#include <memory>

#include "runtime/task_scope.hpp"
#include "transports/grpc/grpc.hpp"
#include "transports/grpc/link.hpp"
#include "transports/grpc/method.hpp"

namespace flexi::transports::grpc {

class ServerConnection;

/// What the shards of one server share.
struct ServerShared {
  GrpcServerOptions options;
  runtime::LogSink& log;
  MethodTable methods;
  std::unique_ptr<Tls> tls;                ///< null: plain text
  std::atomic<std::int64_t> connections{0};
  runtime::Metrics::Counter calls[17];     ///< by status code
  runtime::Metrics::Counter refused;       ///< connections over the limit
  runtime::Metrics::Gauge open;
};

/// One shard's acceptor and connections. One timer looks after all of them every 20 ms, so that a call needs none.
/// Lifetime/threads: the shard's thread only, but for the constructor
class ServerShard {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds kTick{20};

  ServerShard(boost::asio::any_io_executor executor, ServerShared& shared, boost::asio::ip::tcp::acceptor acceptor);

  void start();
  /// Closes the acceptor; connections finish what they have.
  void begin_drain(std::chrono::milliseconds grace);
  /// Returns when nothing of this shard runs.
  boost::asio::awaitable<void> join();

  const boost::asio::any_io_executor& executor() const { return connections_scope_.executor(); }
  ServerShared& shared() { return shared_; }
  Clock::time_point now() const { return now_; }  ///< as of the last tick


  void count(Code code) { ++counted_[static_cast<std::size_t>(code) % 17]; }
  /// Bytes of messages that this shard holds for all its calls.
  void hold(std::int64_t bytes) { held_ += bytes; }
  std::int64_t held() const { return held_; }
  bool full() const { return held_ > shared_.options.max_buffered_bytes; }

 private:
  boost::asio::awaitable<void> accept();
  boost::asio::awaitable<void> serve(boost::asio::ip::tcp::socket socket);
  boost::asio::awaitable<void> watch();

  ServerShared& shared_;
  runtime::TaskScope connections_scope_, own_scope_;
  boost::asio::ip::tcp::acceptor acceptor_;
  boost::asio::steady_timer ticker_;
  std::list<ServerConnection*> connections_;
  Clock::time_point now_{}, stop_at_ = Clock::time_point::max();
  std::int64_t held_ = 0;
  bool draining_ = false, done_ = false;
  std::uint64_t counted_[17] = {};
};

}  // namespace flexi::transports::grpc
