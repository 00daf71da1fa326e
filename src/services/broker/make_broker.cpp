// SPDX-License-Identifier: Apache-2.0
#include "services/broker/make_broker.hpp"

#include "runtime/policies/action_router.hpp"
#include "runtime/policies/instrumented.hpp"

namespace flexi::services::broker {

namespace policies = runtime::policies;
namespace actions = core::actions;

namespace {

const RouteOptions& options_of(const BrokerAction& action, const BrokerOptions& options) {
  if (action.name == actions::kAuth) return options.auth;
  if (action.name == actions::kLog) return options.log;
  if (action.name == actions::kMail) return options.mail;
  return action.options ? *action.options : options.custom;
}

BrokerRoutes routes_of(const BrokerParts& parts, const BrokerOptions& options) {
  BrokerRoutes routes;
  for (auto& action : parts.actions) {
    auto& chosen = options_of(action, options);
    routes.actions.push_back({.action = action.name,
                              .ways = action.ways,
                              .accepted_order = vias_of(chosen.accepted_order),
                              .stored_order = vias_of(chosen.stored_order),
                              .default_ack = core::ack_from(chosen.ack).value_or(core::Ack::stored),
                              .forbidden = vias_of(chosen.forbidden),
                              .idempotent = chosen.may_repeat() ? policies::Idempotent::yes : policies::Idempotent::no,
                              .check = action.check,
                              .attempt_timeout = options.attempt_timeout});
  }
  routes.administration = parts.administration;
  routes.max_payload_bytes = static_cast<std::size_t>(options.max_payload_bytes);
  routes.idempotency = parts.idempotency;
  routes.retry = options.retry;
  routes.circuit = options.circuit;
  routes.hooks = parts.hooks;
  routes.board = parts.board;
  return routes;
}

/// What may stand in the metrics' label.
std::vector<std::string> labels_of(const BrokerParts& parts) {
  std::vector<std::string> labels{"hit"};
  for (auto& action : parts.actions) labels.push_back(action.name);
  for (auto action : {actions::kLogsList, actions::kLogsGet, actions::kLogsKnown, actions::kLogsTail, actions::kReceiptsGet, actions::kLedgerGet, actions::kMailsList, actions::kMailsGet, actions::kMailsKnown, actions::kMailsDelete, actions::kMailsRelease,
                      actions::kUsersList, actions::kUsersGet, actions::kDlqList, actions::kDlqGet, actions::kDlqReplay, actions::kDlqDiscard,
                      actions::kSystemGet})
    labels.emplace_back(action);
  return labels;
}

/// Owns the chain from the outside in.
class ComposedBroker final : public core::Handler {
 public:
  ComposedBroker(const BrokerParts& parts, const BrokerOptions& options)
      : broker_(routes_of(parts, options)),
        limits_(make_limits(parts, options)),
        router_(limited_routes(parts), &broker_),
        rate_limit_(router_, options.rate_limit, parts.hooks.now),
        instrumented_(rate_limit_, parts.metrics, labels_of(parts), parts.hooks.now) {}

  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override {
    return instrumented_.handle(std::move(request), std::move(context));
  }

 private:
  using Limits = std::vector<std::unique_ptr<policies::ConcurrencyLimit>>;
  Limits make_limits(const BrokerParts& parts, const BrokerOptions& options) {
    Limits limits;
    for (std::size_t i = 0; i < parts.actions.size(); ++i)
      limits.push_back(std::make_unique<policies::ConcurrencyLimit>(broker_, options.concurrency, parts.hooks.now));
    return limits;
  }
  std::vector<policies::ActionRoute> limited_routes(const BrokerParts& parts) {
    std::vector<policies::ActionRoute> routes;
    for (std::size_t i = 0; i < parts.actions.size(); ++i) routes.push_back({parts.actions[i].name, *limits_[i]});
    return routes;
  }

  Broker broker_;
  Limits limits_;
  policies::ActionRouter router_;
  policies::RateLimit rate_limit_;
  policies::Instrumented instrumented_;
};

}  // namespace

std::unique_ptr<core::Handler> make_broker(BrokerParts parts, const BrokerOptions& options) {
  return std::make_unique<ComposedBroker>(parts, options);
}

}  // namespace flexi::services::broker
