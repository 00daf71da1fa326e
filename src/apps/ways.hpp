// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <map>
#include <memory>
#include <vector>

#include "apps/all_transports.hpp"
#include "apps/loop_back.hpp"
#include "apps/stop_time.hpp"
#include "runtime/policies/fallback.hpp"
#include "services/broker/broker.hpp"
#include "transports/inproc/inproc.hpp"

namespace flexi::apps {

/// The three services that own the contract's actions.
enum class Service { authentication, logger, mail };

/// Every way from this process to each service: inside the process where it runs here, over the network where the
/// settings name it. Where everything is in one process, the network's ways lead back into it.
/// Lifetime/threads: made and stopped by one thread, used by any
class Ways {
 public:
  explicit Ways(const Settings& settings, AllTransports& transports) : settings_(settings), transports_(transports) {}

  /// A client of every endpoint that the settings name for services that don't run here.
  core::Result<void> open_remote(const RoleTraits& role);
  /// The services that run here, behind their router.
  core::Result<void> open_local(const RoleTraits& role, core::Handler& router);
  /// Loops back into this process's own listeners, once they listen.
  core::Result<void> loop_back(const std::vector<Listening>& listeners);

  /// In no particular order; the queue is not among them.
  const std::vector<services::broker::BrokerWay>& to(Service service) const { return ways_[index(service)]; }
  /// All of them as one handler, in the order of `preference`; null where there is no way.
  core::Handler* any_to(Service service);
  /// Those calls that are on their way back in by the network.
  const OwnCalls& own_calls() const { return own_calls_; }
  /// Whether an action that fails half-way may be tried another way.
  static runtime::policies::Idempotent repeatable(Service service);

  core::awaitable<void> stop_remote(const StopTime& time);
  core::awaitable<void> stop_local(const StopTime& time);

 private:
  static std::size_t index(Service service) { return static_cast<std::size_t>(service); }
  core::Result<void> add_peers(Service service, const std::vector<std::string>& endpoints);

  const Settings& settings_;
  AllTransports& transports_;
  transports::inproc::Network network_;
  std::unique_ptr<core::Transport> inproc_;
  std::unique_ptr<core::Server> inproc_server_;
  std::unique_ptr<core::Client> inproc_client_;
  std::vector<std::unique_ptr<core::Client>> remote_;
  OwnCalls own_calls_;
  std::map<core::Via, LoopBack> loops_;
  std::array<std::vector<services::broker::BrokerWay>, 3> ways_;
  std::array<std::unique_ptr<runtime::policies::Fallback>, 3> any_;
};

}  // namespace flexi::apps
