// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/stop_time.hpp"
#include "core/transport.hpp"
#include "runtime/policies/fallback.hpp"
#include "services/broker/custom_action_options.hpp"
#include "services/broker/make_broker.hpp"

namespace flexi::apps {

/// The services of the user's own: what `[actions.<name>]` leads to.
/// Lifetime/threads: any thread; outlives the broker and the listener that it is given to; stop() before it is destroyed
class CustomServices {
 public:
  using Connect = std::function<core::Result<std::unique_ptr<core::Client>>(std::string endpoint)>;
  /// @param connect makes the client of a target
  /// @return the first client that can't be made, by its action's name
  static core::Result<std::unique_ptr<CustomServices>> open(const services::broker::CustomActions& actions, const Connect& connect,
                                                            const runtime::policies::CircuitOptions& circuit);

  /// What the broker may do with each action: straight to its service, or by the queue.
  /// @param queue the queue's publisher; none: the actions that need it can't be called
  std::vector<services::broker::BrokerAction> broker_actions(const std::optional<services::broker::BrokerWay>& queue) const;
  /// Where the listener takes a message of this action; null: it is none of these, or a consumer of the user's own takes it.
  core::Handler* service_of(std::string_view action) const;
  core::awaitable<void> stop(const StopTime& time);

 private:
  struct Service;
  CustomServices() = default;

 public:
  ~CustomServices();

 private:
  std::vector<std::unique_ptr<Service>> services_;
};

}  // namespace flexi::apps
