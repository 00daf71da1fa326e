// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <string>

#include "runtime/task_scope.hpp"
#include "transports/rpc/link.hpp"

namespace flexi::transports::rpc {

/// Lets the system notice a peer that vanished without a word: a tail may have nothing to say for days, so no time-out of ours does.
void notice_a_vanished_peer(boost::asio::ip::tcp::socket& socket);

/// A Link on a TCP socket: reads while the RPC system keeps up and the peer takes its answers, writes at once what one
/// turn of the loop has to say.
/// Lifetime/threads: the shard's thread; `scope` runs the writer; ends after run() and finish() have
class Wire final : private Link::Owner {
 public:
  using Clock = std::chrono::steady_clock;

  Wire(std::shared_ptr<KjLoop> loop, runtime::TaskScope& scope, boost::asio::ip::tcp::socket socket, two::Side side, LinkLimits limits);

  Link& link() { return link_; }
  const Link& link() const { return link_; }

  /// Returns when one side has ended the connection. The RPC system has then been told.
  boost::asio::awaitable<void> run();
  /// After run(), when the RpcSystem is gone: sends what is left to say, within a second, and closes.
  enum class Linger { no, yes };  ///< yes: until the peer has read it
  boost::asio::awaitable<void> finish(Linger linger);
  /// Ends run(), without a word to the peer but for what has been said already.
  void end();
  /// Returns when the peer has taken enough of its answers, or the connection has ended, or the waiter is cancelled.
  boost::asio::awaitable<void> wait_writable();
  /// Enforces the time to write and to finish.
  void tick(Clock::time_point now, std::chrono::milliseconds write_timeout);

  Clock::time_point last_read() const { return last_read_; }
  bool ended() const { return ending_; }

 private:
  void output_ready() override;
  void hungry_again() override;
  void finished() override;
  boost::asio::awaitable<void> write_loop();
  void close();

  const std::shared_ptr<KjLoop> loop_;
  runtime::TaskScope& scope_;
  boost::asio::ip::tcp::socket socket_;
  Link link_;
  std::string flying_;  ///< what the writer is at
  boost::asio::cancellation_signal stop_reading_;
  boost::asio::steady_timer read_again_, written_;
  Clock::time_point last_read_, written_at_{}, finish_by_ = Clock::time_point::max();
  bool parked_ = false, writing_ = false, ending_ = false, peer_ended_ = false, closed_ = false;
};

}  // namespace flexi::transports::rpc
