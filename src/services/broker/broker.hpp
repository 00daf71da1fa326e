// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/idempotency_store.hpp"
#include "runtime/policies/circuit.hpp"
#include "runtime/policies/retry.hpp"
#include "services/broker/way_board.hpp"

namespace flexi::services::broker {

/// One way to an action's service.
struct BrokerWay {
  core::Via via;
  std::reference_wrapper<core::Handler> handler;
  /// What `auto` takes in this way's turn, so that it goes on to others where `handler` would let the message wait for better
  /// times. Null: there is no difference.
  core::Handler* straight = nullptr;
  /// With `straight`: where `auto` lets a message wait that is to be `accepted`, last of all, or at once where `straight` may have
  /// sent it: to the same destination under the same id. Null: `handler`.
  core::Handler* waiting = nullptr;
};

/// The owning service's rules for a payload, asked before a queue accepts what that service could only refuse.
/// @return invalid_argument that names the field
using PayloadCheck = std::function<core::Result<void>(const core::Payload& payload)>;

/// What the broker may do with one action.
struct BrokerRoute {
  std::string action;
  std::vector<BrokerWay> ways{};
  /// What `via: auto` tries in turn, by what the answer must mean. Ways that are not there are left out.
  std::vector<core::Via> accepted_order{}, stored_order{};
  core::Ack default_ack = core::Ack::stored;
  std::vector<core::Via> forbidden{};
  runtime::policies::Idempotent idempotent = runtime::policies::Idempotent::no;
  PayloadCheck check{};                          ///< none: every payload may go
  std::chrono::milliseconds attempt_timeout{0};  ///< of a way that isn't the last of its order; 0: what the caller has left
};

/// Reads and administration, handed on as they are. "logs." stands for all that begin so.
struct BrokerAdministration {
  std::string action;
  std::reference_wrapper<core::Handler> handler;
};

struct BrokerRoutes {
  std::vector<BrokerRoute> actions{};  ///< the frequent ones first
  std::vector<BrokerAdministration> administration{};
  std::size_t max_payload_bytes = 1 << 20;  ///< as JSON; a larger payload goes nowhere
  core::IdempotencyStore* idempotency = nullptr;  ///< none: keys are the destinations' business alone
  runtime::policies::RetryOptions retry{};
  runtime::policies::CircuitOptions circuit{};
  runtime::policies::RetryHooks hooks{};  ///< the clock, the pauses and the dice
  WayBoard* board = nullptr;              ///< told of each way and its calls; none: nobody looks
};

/// The one entry point: decides by which way a request goes and what its answer means, and says so in the contract's
/// words. All it knows of transports is their names.
/// Lifetime/threads: any thread; handlers and store outlive it
class Broker final : public core::Handler {
 public:
  /// Throws std::invalid_argument for an action or a way that is there twice.
  explicit Broker(BrokerRoutes routes);
  ~Broker() override;

  /// @return Reply with `way` set; invalid_argument (unknown action, a transport that isn't here, an acknowledgement that
  ///         the action can't give, a payload over the limit), permission_denied (a forbidden transport), conflict (the key stands for another
  ///         payload), unavailable (nothing could be reached), or the service's own error
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override;

 private:
  class Route;
  const Route* find(std::string_view action) const;
  core::awaitable<core::Result<core::Reply>> dispatch(const Route& route, core::Request request, core::CallContext context);
  core::awaitable<core::Result<core::Reply>> administer(core::Request request, core::CallContext context);
  std::vector<std::unique_ptr<Route>> routes_;
  std::vector<BrokerAdministration> administration_;
  core::IdempotencyStore* idempotency_;
  std::size_t max_payload_bytes_;
};

}  // namespace flexi::services::broker
