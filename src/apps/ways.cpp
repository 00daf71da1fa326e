// SPDX-License-Identifier: Apache-2.0
#include "apps/ways.hpp"

#include "services/broker/broker_options.hpp"

namespace flexi::apps {

using core::Result;
using core::Via;
namespace policies = runtime::policies;

namespace {

constexpr Service kServices[] = {Service::authentication, Service::logger, Service::mail};

bool runs_here(const RoleTraits& role, Service service) {
  switch (service) {
    case Service::authentication: return role.authentication;
    case Service::logger: return role.logger;
    case Service::mail: return role.mail;
  }
  return false;
}

/// Every service leaves log entries; the broker and the listener call all.
bool needs(const RoleTraits& role, Service service) {
  return role.broker || role.listener || (service == Service::logger && (role.authentication || role.mail));
}

}  // namespace

Result<void> Ways::add_peers(Service service, const std::vector<std::string>& endpoints) {
  for (auto& endpoint : endpoints) {
    FLEXI_TRY(auto client, transports_.connect(endpoint));
    ways_[index(service)].push_back({*AllTransports::via_of(endpoint), *client});
    remote_.push_back(std::move(client));
  }
  return core::ok();
}

Result<void> Ways::open_remote(const RoleTraits& role) {
  const auto& peers = settings_.peers;
  const std::vector<std::string>* endpoints[] = {&peers.authentication, &peers.logger, &peers.mail};
  for (auto service : kServices)
    if (needs(role, service) && !runs_here(role, service)) {
      FLEXI_TRY(add_peers(service, *endpoints[index(service)]));
    }
  return core::ok();
}

Result<void> Ways::open_local(const RoleTraits& role, core::Handler& router) {
  inproc_ = transports::inproc::make_transport(network_, {.name = "services"});
  FLEXI_TRY(inproc_server_, inproc_->serve(router));
  FLEXI_TRY(inproc_client_, inproc_->connect("inproc:services"));
  for (auto service : kServices) {
    if (!runs_here(role, service)) continue;
    ways_[index(service)].push_back({Via::inproc, *inproc_client_});
    // Where the broker is here too, a caller may ask for the network all the same.
    if (role.broker)
      for (auto via : settings_.listening()) ways_[index(service)].push_back({via, loops_.try_emplace(via, own_calls_).first->second});
  }
  return core::ok();
}

Result<void> Ways::loop_back(const std::vector<Listening>& listeners) {
  for (auto& listener : listeners) {
    const auto loop = loops_.find(listener.via);
    if (loop == loops_.end()) continue;
    FLEXI_TRY(auto client, transports_.connect_back(listener.server->endpoint()));
    loop->second.set(*client);
    remote_.push_back(std::move(client));
  }
  return core::ok();
}

core::Handler* Ways::any_to(Service service) {
  auto& ways = ways_[index(service)];
  if (ways.empty()) return nullptr;
  if (ways.front().via == Via::inproc) return &ways.front().handler.get();
  auto& any = any_[index(service)];
  if (!any) {
    std::vector<policies::Way> ordered;
    for (auto via : services::broker::vias_of(settings_.peers.order))
      for (auto& way : ways)
        if (way.via == via) ordered.push_back({std::string(core::to_string(via)), way.handler.get()});
    if (ordered.empty()) return nullptr;
    any = std::make_unique<policies::Fallback>(std::move(ordered), settings_.broker.circuit, repeatable(service));
  }
  return any.get();
}

policies::Idempotent Ways::repeatable(Service service) {
  return service == Service::mail ? policies::Idempotent::no : policies::Idempotent::yes;
}

core::awaitable<void> Ways::stop_remote(const StopTime& time) {
  for (auto& client : remote_) co_await client->stop(time.left());
}

core::awaitable<void> Ways::stop_local(const StopTime& time) {
  if (inproc_client_) co_await inproc_client_->stop(time.left());
  if (inproc_server_) co_await inproc_server_->stop(time.left());
}

}  // namespace flexi::apps
