// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <chrono>
#include <memory>
#include <vector>

#include "core/reply.hpp"
#include "runtime/completion.hpp"
#include "runtime/task_scope.hpp"
#include "runtime/net/address.hpp"

namespace flexi::runtime::net {

struct BalancerOptions {
  std::chrono::milliseconds set_aside{1'000};         ///< how long an address that failed is left out
  std::chrono::milliseconds resolve_interval{5'000};  ///< how often the peer's name is resolved again
};

/// All addresses of one peer, in turn. Names are resolved again every few seconds, in the background.
/// Lifetime/threads: the shard's thread; `scope` runs the resolving and is joined before this ends
class Balancer {
 public:
  using Clock = std::chrono::steady_clock;
  using Endpoint = boost::asio::ip::tcp::endpoint;

  Balancer(runtime::TaskScope& scope, BalancerOptions options, Authority peer);

  /// Returns when addresses are known.
  /// @return unavailable where the name has none
  core::awaitable<core::Result<void>> ready();
  /// The next address that is not set aside; where all are, the one that is due first. Only after ready().
  Endpoint next();
  void set_aside(const Endpoint& endpoint);
  void reached(const Endpoint& endpoint);
  std::size_t size() const { return addresses_.size(); }

 private:
  struct Address {
    Endpoint endpoint;
    Clock::time_point aside_until{};
  };
  core::awaitable<void> resolve();
  core::awaitable<std::vector<Endpoint>> look_up(std::string name);
  void replace(const std::vector<Endpoint>& found);

  runtime::TaskScope& scope_;
  const BalancerOptions options_;
  Authority peer_;
  std::vector<Address> addresses_;
  std::size_t turn_ = 0;
  bool literal_ = false, resolving_ = false;
  Clock::time_point resolved_at_{};
  std::vector<std::shared_ptr<runtime::Completion<void>>> waiting_;
};

/// Connects, or gives up after `limit`.
core::awaitable<boost::system::error_code> connect_within(boost::asio::ip::tcp::socket& socket, boost::asio::ip::tcp::endpoint endpoint,
                                                          std::chrono::milliseconds limit);

}  // namespace flexi::runtime::net
