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
  core::Handler* services = nullptr;  ///< what this process serves beside the broker; null: nothing
  core::IdempotencyStore* idempotency = nullptr;
  runtime::policies::RetryHooks hooks{};  ///< the clock, the pauses and the dice, for tests
  WayBoard* board = nullptr;              ///< told of each way and its calls; outlives the broker
};

/// The broker, and the other door of its process.
class ComposedBroker : public core::Handler {
 public:
  /// BrokerParts::services behind the broker's own metrics, limits and keys, so that who calls a service by its name
  /// neither gets round them nor has a share beside; null: none were given.
  virtual core::Handler* services() = 0;
};

/// The broker with everything around it: metrics, then the rate limit, then per action the adaptive concurrency limit
/// (a slow action never takes another's places; `hit` has none), then the Broker itself, whose routes retry, fall back
/// and cut the time per way. Reads and administration are counted only: an operator looks while requests are refused.
/// @param options have been validated
std::unique_ptr<ComposedBroker> make_broker(BrokerParts parts, const BrokerOptions& options);

}  // namespace flexi::services::broker
