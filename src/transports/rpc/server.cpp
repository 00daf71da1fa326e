// SPDX-License-Identifier: Apache-2.0
#include <boost/asio/co_spawn.hpp>

#include "runtime/net/address.hpp"
#include "runtime/net/listen.hpp"
#include "transports/rpc/rpc.hpp"
#include "transports/rpc/server_shard.hpp"

namespace flexi::transports::rpc {

namespace asio = boost::asio;
using asio::ip::tcp;

namespace {

constexpr std::uint16_t kDefaultPort = 5001;

core::Result<void> fill(Registry& registry, const Ingress& ingress) {
  auto* const administration = ingress.broker ? ingress.broker : ingress.services;
  if (ingress.services) {
    FLEXI_TRY(registry.add("Logger", {ObjectType::logger, ingress.services}));
    FLEXI_TRY(registry.add("Authentication", {ObjectType::authentication, ingress.services}));
    FLEXI_TRY(registry.add("Mail", {ObjectType::mail, ingress.services}));
  }
  if (ingress.broker) {
    FLEXI_TRY(registry.add("Broker", {ObjectType::broker, ingress.broker}));
  }
  if (administration) {
    FLEXI_TRY(registry.add("Actions", {ObjectType::actions, ingress.services, administration, ingress.broker}));
  }
  for (auto& exported : ingress.exports) {
    FLEXI_TRY(registry.add(exported.name, {ObjectType::actions, &exported.handler}));
  }
  return core::ok();
}

class RpcServer final : public core::Server {
 public:
  RpcServer(const RpcServerOptions& options, const Process& process, bool trusts_peers, bool login_tokens)
      : shards_(process.shards), shared_{options, process.log, process.admin_token, process.process_key, process.token_always, trusts_peers, login_tokens} {
    auto& metrics = process.metrics;
    shared_.answered = metrics.counter("flexi_rpc_calls_total", "RPC calls answered, by outcome", {{"outcome", "ok"}});
    shared_.failed = metrics.counter("flexi_rpc_calls_total", "RPC calls answered, by outcome", {{"outcome", "error"}});
    shared_.refused = metrics.counter("flexi_rpc_refused_connections_total", "Connections over the limit");
    shared_.open = metrics.gauge("flexi_rpc_connections", "Open RPC connections");
  }

  Registry& registry() { return shared_.registry; }

  core::Result<void> listen(tcp::endpoint endpoint) {
    FLEXI_TRY(auto acceptors, runtime::net::listen(shards_, endpoint, shared_.options.listen));
    endpoint.port(acceptors.front().local_endpoint().port());
    for (unsigned i = 0; i < shards_.size(); ++i)
      listeners_.push_back(std::make_unique<ServerShard>(shards_.executor(i), shared_, std::move(acceptors[i])));
    endpoint_ = "rpc://" + runtime::net::to_authority(endpoint);
    for (auto& listener : listeners_) asio::post(listener->executor(), [shard = listener.get()] { shard->start(); });
    return core::ok();
  }

  std::string endpoint() const override { return endpoint_; }

  core::awaitable<void> stop(core::StopOptions options) override {
    co_await asio::this_coro::throw_if_cancelled(false);
    for (auto& listener : listeners_) asio::post(listener->executor(), [shard = listener.get(), grace = options.grace] { shard->begin_drain(grace); });
    for (auto& listener : listeners_) {
      auto joined = listener->join();
      co_await asio::co_spawn(listener->executor(), std::move(joined), asio::use_awaitable);
    }
  }

 private:
  runtime::Shards& shards_;
  ServerShared shared_;
  std::vector<std::unique_ptr<ServerShard>> listeners_;
  std::string endpoint_;
};

}  // namespace

core::Result<std::unique_ptr<core::Server>> serve(RpcServerOptions options, Ingress ingress) {
  auto endpoint = runtime::net::parse_listen(options.listen, kDefaultPort);
  if (!endpoint) return core::invalid_argument("listen " + endpoint.error().message);
  auto server = std::make_unique<RpcServer>(options, ingress.process, ingress.broker == nullptr, ingress.login_tokens);
  FLEXI_TRY(fill(server->registry(), ingress));
  FLEXI_TRY(server->listen(endpoint.value()));
  return std::unique_ptr<core::Server>(std::move(server));
}

}  // namespace flexi::transports::rpc
