// SPDX-License-Identifier: Apache-2.0
#include "apps/custom_actions.hpp"

#include <optional>

namespace flexi::apps {

namespace policies = runtime::policies;
using core::Result;
using core::Via;
using services::broker::BrokerAction;
using services::broker::BrokerWay;

namespace {

/// The queue on the way to a consumer of the user's own, which answers nobody.
class OneWay final : public core::Handler {
 public:
  explicit OneWay(core::Handler& queue) : queue_(queue) {}
  core::awaitable<Result<core::Reply>> handle(core::Request request, core::CallContext context) override {
    if (request.ack == core::Ack::stored)
      return policies::refuse(core::invalid_argument("ack \"stored\" is not possible by amqp for " + request.action + ": its consumer answers nobody, use accepted"));
    return queue_.handle(std::move(request), std::move(context));
  }

 private:
  core::Handler& queue_;
};

}  // namespace

struct CustomServices::Service {
  std::string action;
  services::broker::RouteOptions route;
  std::vector<std::pair<Via, std::unique_ptr<core::Client>>> clients;
  bool own_consumer = false;                        ///< of the user's: our listener has nothing to do with it
  std::unique_ptr<policies::Fallback> one_by_one;  ///< for the listener, where there is more than one client
  mutable std::optional<OneWay> one_way, one_way_straight, one_way_waiting;
};

CustomServices::~CustomServices() = default;

Result<std::unique_ptr<CustomServices>> CustomServices::open(const services::broker::CustomActions& actions, const Connect& connect,
                                                             const policies::CircuitOptions& circuit) {
  std::unique_ptr<CustomServices> all(new CustomServices);
  for (auto& [name, options] : actions) {
    auto service = std::make_unique<Service>();
    service->action = name;
    service->route = options.route;
    for (auto& target : options.targets()) {
      if (target.via == Via::amqp) {
        service->own_consumer = true;
        continue;
      }
      auto client = connect(target.endpoint);
      if (!client) return core::invalid_argument("actions." + name + ".url: " + client.error().message, client.error().detail);
      service->clients.emplace_back(target.via, std::move(client).value());
    }
    if (service->clients.size() > 1) {
      std::vector<policies::Way> ways;
      for (auto& [via, client] : service->clients) ways.push_back({std::string(core::to_string(via)), *client});
      service->one_by_one = std::make_unique<policies::Fallback>(std::move(ways), circuit,
                                                                 options.route.may_repeat() ? policies::Idempotent::yes : policies::Idempotent::no);
    }
    all->services_.push_back(std::move(service));
  }
  return all;
}

std::vector<BrokerAction> CustomServices::broker_actions(const std::optional<BrokerWay>& queue) const {
  std::vector<BrokerAction> actions;
  for (auto& service : services_) {
    BrokerAction action{.name = service->action, .ways = {}, .options = service->route};
    for (auto& [via, client] : service->clients) action.ways.push_back({via, *client});
    if (queue && service->own_consumer) {
      auto* straight = queue->straight ? &service->one_way_straight.emplace(*queue->straight) : nullptr;
      auto* waiting = queue->waiting ? &service->one_way_waiting.emplace(*queue->waiting) : nullptr;
      action.ways.push_back({Via::amqp, service->one_way.emplace(queue->handler.get()), straight, waiting});
    } else if (queue) {
      action.ways.push_back(*queue);
    }
    actions.push_back(std::move(action));
  }
  return actions;
}

core::Handler* CustomServices::service_of(std::string_view action) const {
  for (auto& service : services_) {
    if (service->action != action || service->own_consumer || service->clients.empty()) continue;
    return service->one_by_one ? static_cast<core::Handler*>(service->one_by_one.get()) : service->clients.front().second.get();
  }
  return nullptr;
}

core::awaitable<void> CustomServices::stop(const StopTime& time) {
  for (auto& service : services_)
    for (auto& [via, client] : service->clients) co_await client->stop(time.left());
}

}  // namespace flexi::apps
