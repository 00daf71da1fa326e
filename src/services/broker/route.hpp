// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "runtime/policies/deadline.hpp"
#include "runtime/policies/fallback.hpp"
#include "services/broker/broker.hpp"

namespace flexi::services::broker {

/// One action's chains of handlers, put together once: per way, and per acknowledgement for `via: auto`.
class Broker::Route {
 public:
  Route(BrokerRoute route, const BrokerRoutes& routes);
  ~Route();

  const std::string& action() const { return route_.action; }
  core::Ack default_ack() const { return route_.default_ack; }
  core::Result<void> check(const core::Payload& payload) const { return route_.check ? route_.check(payload) : core::ok(); }
  /// @return the handler that carries the request; or why there is none
  core::Result<core::Handler*> target(core::Via via, core::Ack ack) const;

 private:
  class Departure;
  /// Tries again, falls back, and for each way but the last may cut the time.
  struct Chain {
    std::vector<std::unique_ptr<Departure>> departures;
    std::vector<std::unique_ptr<runtime::policies::Deadline>> deadlines;
    std::unique_ptr<runtime::policies::Fallback> fallback;
    std::unique_ptr<runtime::policies::Retry> retry;
  };
  Chain make_chain(const std::vector<core::Via>& order, core::Via asked_for, const BrokerRoutes& routes, core::Ack ack = core::Ack::stored);
  bool forbidden(core::Via via) const;
  const BrokerWay* way(core::Via via) const;
  std::string choices() const;

  static constexpr std::size_t kVias = 6;
  BrokerRoute route_;
  std::array<std::shared_ptr<runtime::policies::Circuit>, kVias> circuits_;  ///< one per way, whoever goes it
  std::array<runtime::policies::WayFigures*, kVias> figures_{};
  std::array<Chain, kVias> ways_;
  Chain accepted_, stored_;
};

}  // namespace flexi::services::broker
