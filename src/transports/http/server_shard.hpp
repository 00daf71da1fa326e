// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <list>
#include <memory>
#include <optional>

#include "runtime/readiness.hpp"
#include "runtime/task_scope.hpp"
#include "transports/http/dispatcher.hpp"

namespace flexi::transports::http {

class Connection;

/// What the shards of one server share.
struct ServerShared {
  HttpServerOptions options;
  runtime::LogSink& log;
  Dispatcher dispatcher;
  std::atomic<std::int64_t> connections{0};
  runtime::Metrics::Counter requests[6];  ///< by the status's first digit
  runtime::Metrics::Counter refused;      ///< connections over the limit
  runtime::Metrics::Gauge open;
  const runtime::Readiness* readiness = nullptr;
};

/// One shard's acceptor and connections. One timer looks after all of them every 20 ms, so that a request needs none.
/// Lifetime/threads: the shard's thread only, but for the constructor
class ServerShard {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds kTick{20};

  ServerShard(boost::asio::any_io_executor executor, ServerShared& shared, boost::asio::ip::tcp::acceptor acceptor);

  void start();
  /// Closes the acceptor; connections get one more answer each.
  void begin_drain(std::chrono::milliseconds grace);
  /// Returns when nothing of this shard runs.
  boost::asio::awaitable<void> join();

  const boost::asio::any_io_executor& executor() const { return connections_scope_.executor(); }
  ServerShared& shared() { return shared_; }
  Clock::time_point now() const { return now_; }  ///< as of the last tick
  const std::string& date() const { return date_; }
  bool draining() const { return draining_; }
  Clock::time_point linger_until() const { return linger_until_; }
  Clock::time_point stop_at() const { return stop_at_; }
  void count(int status) { ++counted_[status / 100 % 6]; }
  /// A connection holds `now` bytes of a request where it held `before`.
  /// @return whether that is within the limit of all of them
  bool hold(std::size_t before, std::size_t now) {
    held_bytes_ = held_bytes_ - before + now;
    return held_bytes_ <= static_cast<std::size_t>(shared_.options.max_buffered_bytes);
  }

 private:
  boost::asio::awaitable<void> accept();
  boost::asio::awaitable<void> serve(boost::asio::ip::tcp::socket socket, boost::asio::cancellation_signal* signal);
  boost::asio::awaitable<void> refuse(boost::asio::ip::tcp::socket socket);
  boost::asio::awaitable<void> watch();
  void refresh_clock();

  ServerShared& shared_;
  runtime::TaskScope connections_scope_, own_scope_;
  boost::asio::ip::tcp::acceptor acceptor_;
  boost::asio::steady_timer ticker_;
  std::list<Connection*> connections_;
  Clock::time_point now_{}, linger_until_ = Clock::time_point::max(), stop_at_ = Clock::time_point::max();
  std::string date_;
  std::time_t date_second_ = 0;
  bool draining_ = false, done_ = false;
  unsigned refusing_ = 0;
  std::size_t held_bytes_ = 0;  ///< of request bodies that come, or whose requests are handled
  std::uint64_t counted_[6] = {};
};

}  // namespace flexi::transports::http
