// SPDX-License-Identifier: Apache-2.0
#include "transports/grpc/server.hpp"

#include <boost/asio/co_spawn.hpp>

#include "runtime/net/address.hpp"
#include "runtime/net/listen.hpp"
#include "transports/grpc/server_shard.hpp"

namespace flexi::transports::grpc {

namespace asio = boost::asio;
using asio::ip::tcp;

namespace {

constexpr std::uint16_t kDefaultPort = 50001;
constexpr const char* kCodeNames[] = {"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
                                      "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE",
                                      "DATA_LOSS", "UNAUTHENTICATED"};

class GrpcServer final : public core::Server {
 public:
  GrpcServer(const GrpcServerOptions& options, const Process& process, MethodTable methods, std::unique_ptr<Tls> tls)
      : shards_(process.shards), shared_{options, process.log, std::move(methods), std::move(tls), {}, {}, {}, {}} {
    auto& metrics = process.metrics;
    for (std::size_t i = 0; i < std::size(kCodeNames); ++i)
      shared_.calls[i] = metrics.counter("flexi_grpc_requests_total", "gRPC calls answered, by status", {{"status", kCodeNames[i]}});
    shared_.refused = metrics.counter("flexi_grpc_refused_connections_total", "Connections over the limit");
    shared_.open = metrics.gauge("flexi_grpc_connections", "Open gRPC connections");
  }

  core::Result<void> listen(tcp::endpoint endpoint) {
    FLEXI_TRY(auto acceptors, runtime::net::listen(shards_, endpoint, shared_.options.listen));
    endpoint.port(acceptors.front().local_endpoint().port());
    for (unsigned i = 0; i < shards_.size(); ++i)
      listeners_.push_back(std::make_unique<ServerShard>(shards_.executor(i), shared_, std::move(acceptors[i])));
    endpoint_ = (shared_.tls ? "grpcs://" : "grpc://") + runtime::net::to_authority(endpoint);
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

core::Result<std::unique_ptr<core::Server>> serve_methods(GrpcServerOptions options, Process process, MethodTable methods) {
  auto endpoint = runtime::net::parse_listen(options.listen, kDefaultPort);
  if (!endpoint) return core::invalid_argument("listen " + endpoint.error().message);
  std::unique_ptr<Tls> tls;
  if (!options.certificate_file.empty()) {
    FLEXI_TRY(tls, Tls::of_server(options));
  }
  auto server = std::make_unique<GrpcServer>(options, process, std::move(methods), std::move(tls));
  FLEXI_TRY(server->listen(endpoint.value()));
  return std::unique_ptr<core::Server>(std::move(server));
}

}  // namespace flexi::transports::grpc
