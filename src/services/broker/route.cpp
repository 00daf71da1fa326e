// SPDX-License-Identifier: Apache-2.0
#include "services/broker/route.hpp"

#include <algorithm>
#include <stdexcept>

namespace flexi::services::broker {

using core::Ack;
using core::Via;
namespace policies = runtime::policies;

namespace {
std::size_t index_of(Via via) { return static_cast<std::size_t>(via); }
std::string quoted(Via via) { return "\"" + std::string(core::to_string(via)) + "\""; }
}  // namespace

/// Tells the message by which way it leaves: the service that stores it counts it under this way, and it stands among its hops.
class Broker::Route::Departure final : public core::Handler {
 public:
  Departure(Via via, core::Handler& way) : via_(via), hop_("broker>" + std::string(core::to_string(via))), way_(way) {}
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override {
    request.via = via_;
    context.add_hop(hop_);
    return way_.handle(std::move(request), std::move(context));
  }

 private:
  Via via_;
  std::string hop_;
  core::Handler& way_;
};

Broker::Route::~Route() = default;

Broker::Route::Route(BrokerRoute route, const BrokerRoutes& routes) : route_(std::move(route)) {
  for (auto& way : route_.ways) {
    if (way.via == Via::automatic) throw std::invalid_argument("a way of '" + route_.action + "' can't be auto");
    auto& circuit = circuits_[index_of(way.via)];
    if (circuit) throw std::invalid_argument("'" + route_.action + "' has two ways by " + quoted(way.via));
    circuit = std::make_shared<policies::Circuit>(routes.circuit);
    if (routes.board) figures_[index_of(way.via)] = &routes.board->add(route_.action, way.via, circuit, forbidden(way.via));
    ways_[index_of(way.via)] = make_chain({way.via}, way.via, routes);
  }
  accepted_ = make_chain(route_.accepted_order, Via::automatic, routes, Ack::accepted);
  stored_ = make_chain(route_.stored_order, Via::automatic, routes);
}

Broker::Route::Chain Broker::Route::make_chain(const std::vector<Via>& order, Via asked_for, const BrokerRoutes& routes, Ack ack) {
  Chain chain;
  std::vector<Via> usable;
  for (auto via : order)
    if (way(via) && !forbidden(via) && std::find(usable.begin(), usable.end(), via) == usable.end()) usable.push_back(via);
  if (usable.empty()) return chain;
  std::vector<policies::Way> ways;
  for (auto via : usable) {
    auto* straight = asked_for == Via::automatic ? way(via)->straight : nullptr;
    core::Handler* handler = straight ? straight : &way(via)->handler.get();
    // In process and in our own queue there is no network that could swallow a request.
    if (route_.attempt_timeout.count() > 0 && via != usable.back() && via != Via::inproc && via != Via::amqp) {
      policies::DeadlineOptions options{.default_timeout = route_.attempt_timeout, .max_timeout = route_.attempt_timeout};
      chain.deadlines.push_back(std::make_unique<policies::Deadline>(*handler, options));
      handler = chain.deadlines.back().get();
    }
    handler = chain.departures.emplace_back(std::make_unique<Departure>(via, *handler)).get();
    ways.push_back({std::string(core::to_string(via)), *handler, circuits_[index_of(via)], figures_[index_of(via)]});
  }
  if (asked_for == Via::automatic && ack == Ack::accepted)  // what is to be stored waits for nothing
    for (auto via : usable)
      if (auto& there = *way(via); there.straight) {
        auto& departure = chain.departures.emplace_back(std::make_unique<Departure>(via, there.waiting ? *there.waiting : there.handler.get()));
        ways.push_back({.name = std::string(core::to_string(via)), .handler = *departure, .figures = figures_[index_of(via)], .again = true});
      }
  chain.fallback = std::make_unique<policies::Fallback>(std::move(ways), routes.circuit, route_.idempotent, routes.hooks.now);
  chain.retry = std::make_unique<policies::Retry>(*chain.fallback, routes.retry, route_.idempotent, routes.hooks);
  return chain;
}

bool Broker::Route::forbidden(Via via) const { return std::find(route_.forbidden.begin(), route_.forbidden.end(), via) != route_.forbidden.end(); }

const BrokerWay* Broker::Route::way(Via via) const {
  for (auto& way : route_.ways)
    if (way.via == via) return &way;
  return nullptr;
}

std::string Broker::Route::choices() const {
  std::vector<std::string_view> names;
  for (auto& way : route_.ways)
    if (!forbidden(way.via)) names.push_back(core::to_string(way.via));
  std::sort(names.begin(), names.end());
  std::string text = "use one of auto";
  for (auto name : names) text.append(", ").append(name);
  return text;
}

core::Result<core::Handler*> Broker::Route::target(Via via, Ack ack) const {
  if (ack == Ack::accepted && route_.action == core::actions::kAuth)
    return core::invalid_argument("ack \"accepted\" is not possible for auth: use stored");
  if (via == Via::automatic) {
    auto& chain = ack == Ack::accepted ? accepted_ : stored_;
    if (!chain.retry) return core::unavailable("no transport to " + route_.action + " is configured here");
    return chain.retry.get();
  }
  if (forbidden(via)) return core::permission_denied("transport " + quoted(via) + " is forbidden for " + route_.action + " here: " + choices());
  auto& chain = ways_[index_of(via)];
  if (!chain.retry) return core::invalid_argument("transport " + quoted(via) + " is not available here: " + choices());
  return chain.retry.get();
}

}  // namespace flexi::services::broker
