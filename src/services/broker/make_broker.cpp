// SPDX-License-Identifier: Apache-2.0
#include "services/broker/make_broker.hpp"

#include "runtime/policies/action_router.hpp"
#include "runtime/policies/instrumented.hpp"
#include "services/broker/payload_digest.hpp"

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
                      actions::kUsersList, actions::kUsersGet, actions::kUsersCreate, actions::kUsersUpdate, actions::kUsersDelete,
                      actions::kUsersResetPassword, actions::kMeGet, actions::kDlqList, actions::kDlqGet, actions::kDlqReplay, actions::kDlqDiscard,
                      actions::kSystemGet})
    labels.emplace_back(action);
  return labels;
}

/// A policy's place before one more handler: what it counts is counted together.
template <class Policy>
class Before final : public core::Handler {
 public:
  Before(Policy& policy, core::Handler& inner) : policy_(policy), inner_(inner) {}
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override {
    return policy_.pass(inner_, std::move(request), std::move(context));
  }

 private:
  Policy& policy_;
  core::Handler& inner_;
};

/// Reads and administration go straight on, all else through the limits.
class RequestsOnly final : public core::Handler {
 public:
  RequestsOnly(core::Handler& limited, core::Handler& open) : limited_(limited), open_(open) {}
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override {
    auto& next = core::is_administrative(request.action) ? open_ : limited_;
    return next.handle(std::move(request), std::move(context));
  }

 private:
  core::Handler& limited_;
  core::Handler& open_;
};

using Limits = std::vector<std::unique_ptr<policies::ConcurrencyLimit>>;

/// The services' door: the same policies, then the caller's key, then the service itself.
class Beside final : public core::Handler {
 public:
  Beside(const BrokerParts& parts, policies::Instrumented& instrumented, policies::RateLimit& rate_limit, Limits& limits)
      : services_(*parts.services),
        idempotency_(parts.idempotency),
        keys_(*this),
        limits_(make_limits(limits, keys_)),
        router_(routes_of(parts, limits_), &keys_),
        rate_limit_(rate_limit, router_),
        requests_(rate_limit_, services_),
        counted_(instrumented, requests_) {}

  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override {
    return counted_.handle(std::move(request), std::move(context));
  }

 private:
  /// Behind the limits: who is refused must not use up a key.
  class Keys final : public core::Handler {
   public:
    explicit Keys(Beside& owner) : owner_(owner) {}
    core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override {
      const bool has_key = request.id_from_caller && owner_.idempotency_ && request.action != actions::kAuth;
      if (!has_key) return owner_.services_.handle(std::move(request), std::move(context));
      return remember(std::move(request), std::move(context));
    }

   private:
    core::awaitable<core::Result<core::Reply>> remember(core::Request request, core::CallContext context) {
      auto seen = co_await owner_.idempotency_->remember(request.action, request.id, digest_of(request), context);
      if (!seen) co_return seen.error();
      co_return co_await owner_.services_.handle(std::move(request), std::move(context));
    }
    Beside& owner_;
  };
  using Limited = std::vector<std::unique_ptr<Before<policies::ConcurrencyLimit>>>;
  static Limited make_limits(Limits& limits, core::Handler& inner) {
    Limited limited;
    for (auto& limit : limits) limited.push_back(std::make_unique<Before<policies::ConcurrencyLimit>>(*limit, inner));
    return limited;
  }
  static std::vector<policies::ActionRoute> routes_of(const BrokerParts& parts, Limited& limits) {
    std::vector<policies::ActionRoute> routes;
    for (std::size_t i = 0; i < parts.actions.size(); ++i) routes.push_back({parts.actions[i].name, *limits[i]});
    return routes;
  }

  core::Handler& services_;
  core::IdempotencyStore* idempotency_;
  Keys keys_;
  Limited limits_;
  policies::ActionRouter router_;
  Before<policies::RateLimit> rate_limit_;
  RequestsOnly requests_;
  Before<policies::Instrumented> counted_;
};

/// Owns the chain from the outside in.
class Composed final : public ComposedBroker {
 public:
  Composed(const BrokerParts& parts, const BrokerOptions& options)
      : broker_(routes_of(parts, options)),
        limits_(make_limits(parts, options)),
        router_(limited_routes(parts), &broker_),
        rate_limit_(router_, options.rate_limit, parts.hooks.now),
        requests_(rate_limit_, broker_),
        instrumented_(requests_, parts.metrics, labels_of(parts), parts.hooks.now) {
    if (parts.services) services_.emplace(parts, instrumented_, rate_limit_, limits_);
  }

  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override {
    return instrumented_.handle(std::move(request), std::move(context));
  }
  core::Handler* services() override { return services_ ? &*services_ : nullptr; }

 private:
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
  RequestsOnly requests_;
  policies::Instrumented instrumented_;
  std::optional<Beside> services_;
};

}  // namespace

std::unique_ptr<ComposedBroker> make_broker(BrokerParts parts, const BrokerOptions& options) { return std::make_unique<Composed>(parts, options); }

}  // namespace flexi::services::broker
