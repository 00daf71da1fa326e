// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "core/reply.hpp"
#include "runtime/net/address_health.hpp"
#include "runtime/completion.hpp"
#include "runtime/task_scope.hpp"
#include "runtime/net/address.hpp"

namespace flexi::runtime::net {

struct BalancerOptions {
  std::chrono::milliseconds set_aside{1'000};         ///< how long an address that failed is left out at first
  std::chrono::milliseconds resolve_interval{5'000};  ///< how often the peer's name is resolved again
  std::chrono::milliseconds max_set_aside{30'000};    ///< … and at most, while it keeps failing
  std::int64_t failures = 5;                          ///< calls in a row that set an address aside; 0: only connecting does
  std::chrono::milliseconds ask_again_after{250};     ///< the least time between two look-ups, where an address can't be reached

  OutlierOptions outliers() const { return {set_aside, max_set_aside, failures}; }
};

/// All addresses of one peer, in turn. Names are resolved again every few seconds, in the background, and at once where an
/// address can't be reached: it may have been left for another. An address that can't be reached, or whose calls keep
/// failing, is set aside for a time that grows, then probed with one call; calls that fail set at most half of the
/// addresses aside.
/// Lifetime/threads: the shard's thread; `scope` runs the resolving and is joined before this ends
class Balancer {
 public:
  using Clock = std::chrono::steady_clock;
  using Endpoint = boost::asio::ip::tcp::endpoint;
  /// All addresses of a name; none: it has none, or can't be asked for.
  using LookUp = std::function<core::awaitable<std::vector<boost::asio::ip::address>>(std::string name)>;

  /// @param peer    its host may be several, with commas between
  /// @param health  shared by the shards that call this peer; none: this one finds out alone
  /// @param look_up asks for names; none: the system does
  Balancer(runtime::TaskScope& scope, BalancerOptions options, Authority peer, std::shared_ptr<PeerHealth> health = nullptr, LookUp look_up = {});

  /// Returns when addresses are known.
  /// @return unavailable where the name has none
  core::awaitable<core::Result<void>> ready();
  /// The next address that is not set aside; where all are, the one that is due first. Only after ready().
  Endpoint next();
  /// Connecting to it failed.
  void set_aside(const Endpoint& endpoint);
  /// Connecting to it went well.
  void reached(const Endpoint& endpoint);
  /// How a call over a connection to it went.
  /// @param allowed what time the call had when it began: a time-out says something only where that was enough
  void report(const Endpoint& endpoint, const core::Result<core::Reply>& result, std::chrono::milliseconds allowed);
  std::size_t size() const { return addresses_.size(); }

 private:
  struct Address {
    Endpoint endpoint;
    std::shared_ptr<AddressHealth> health;
  };
  const Address* find(const Endpoint& endpoint) const;
  void begin_resolving();
  core::awaitable<void> resolve();
  core::awaitable<std::vector<boost::asio::ip::address>> ask_system(std::string name);
  void replace(const std::vector<Endpoint>& found);

  runtime::TaskScope& scope_;
  const BalancerOptions options_;
  const std::vector<std::string> hosts_;
  const std::uint16_t port_;
  const std::shared_ptr<PeerHealth> health_;
  const LookUp look_up_;
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
