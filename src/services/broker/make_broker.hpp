// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/metrics.hpp"
#include "services/broker/broker.hpp"
#include "services/broker/broker_options.hpp"

namespace flexi::services::broker {

/// An action that this deployment has, with the ways that it has for it.
struct BrokerAction {
  std::string name;  ///< "auth", "log", "mail", or a custom one
  std::vector<BrokerWay> ways;
  PayloadCheck check{};      ///< the owning service's rules for its payload; none: every payload may go
  std::optional<RouteOptions> options{};  ///< custom actions only; none: BrokerOptions::custom
};

/// What the broker is put together from. Everything referred to outlives it.
struct BrokerParts {
  runtime::Metrics& metrics;
  std::vector<BrokerAction> actions{};
  std::vector<BrokerAdministration> administration{};
  core::IdempotencyStore* idempotency = nullptr;
  runtime::policies::RetryHooks hooks{};  ///< the clock, the pauses and the dice, for tests
  WayBoard* board = nullptr;              ///< told of each way and its calls; outlives the broker
};

/// The broker with everything around it: metrics, then the rate limit, then per action the adaptive concurrency limit
/// (a slow action never takes another's places; `hit` and administration have none), then the Broker itself, whose
/// routes retry, fall back and cut the time per way.
/// @param options have been validated
std::unique_ptr<core::Handler> make_broker(BrokerParts parts, const BrokerOptions& options);

}  // namespace flexi::services::broker
