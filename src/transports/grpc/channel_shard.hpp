// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <list>
#include <memory>
#include <optional>
#include <vector>

#include "runtime/net/balancer.hpp"
#include "runtime/task_scope.hpp"
#include "transports/grpc/client_connection.hpp"

namespace flexi::transports::grpc {

/// What one shard has of a channel: its own connections, one to each address of the peer, and its own view of the addresses.
/// One timer looks after all of it every 20 ms, more rarely when nothing is going on.
/// Lifetime/threads: the shard's thread
class ChannelShard {
 public:
  using Clock = std::chrono::steady_clock;

  ChannelShard(boost::asio::any_io_executor executor, const ClientShared& shared, runtime::net::Authority peer,
               std::shared_ptr<runtime::net::PeerHealth> health);
  ~ChannelShard();

  const boost::asio::any_io_executor& executor() const { return scope_.executor(); }
  core::awaitable<ClientResult> unary(std::string_view path, std::string message, Metadata metadata, core::CallContext context);
  core::awaitable<core::Result<std::unique_ptr<ClientStream>>> open(std::string_view path, Metadata metadata, core::CallContext context);
  core::awaitable<void> stop(std::chrono::milliseconds grace);

 private:
  class Peer;
  struct Waiter {
    std::shared_ptr<runtime::Completion<void>> completion;
    Clock::time_point deadline;
  };
  struct Running;

  using Endpoint = runtime::net::Balancer::Endpoint;
  /// A connection with room, at once. Null where there is something to wait for.
  /// @param turn gets the address whose turn it is, where one is known: acquire() begins with it
  ClientConnection* at_hand(std::optional<Endpoint>& turn);
  core::awaitable<core::Result<ClientConnection*>> acquire(core::CallContext context, std::optional<Endpoint> turn);
  /// Tells the balancer how a call went.
  void report(const runtime::net::Balancer::Endpoint& endpoint, const Status& status, std::chrono::milliseconds allowed);
  core::Result<void> may_begin(const core::CallContext& context);
  Peer& peer_at(const runtime::net::Balancer::Endpoint& endpoint);
  void forget_old_peers();
  core::awaitable<void> watch();
  void stir();
  void tick(Clock::time_point now);

  const ClientShared& shared_;
  runtime::TaskScope scope_;
  runtime::net::Balancer balancer_;
  std::vector<std::unique_ptr<Peer>> peers_;
  boost::asio::steady_timer ticker_, calls_done_;
  Clock::time_point now_{}, busy_at_{}, resolved_at_{};
  std::size_t running_ = 0, waiting_ = 0;
  bool started_ = false, stopping_ = false, done_ = false, dozing_ = false, refreshing_ = false;
};

}  // namespace flexi::transports::grpc
