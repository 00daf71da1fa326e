// SPDX-License-Identifier: Apache-2.0
#include "transports/grpc/server.hpp"
#include "transports/grpc/surface.hpp"

namespace flexi::transports::grpc {

core::Result<std::unique_ptr<core::Server>> serve(GrpcServerOptions options, Ingress ingress) {
  MethodTable methods;
  add_methods(methods, options, ingress);
  const auto process = ingress.process;
  return serve_methods(std::move(options), process, std::move(methods));
}

namespace {

class GrpcTransport final : public core::Transport {
 public:
  GrpcTransport(GrpcServerOptions server, GrpcClientOptions client, Process process)
      : server_(std::move(server)), client_(std::move(client)), process_(std::move(process)) {}

  core::Via via() const override { return core::Via::grpc; }
  core::Result<std::unique_ptr<core::Server>> serve(core::Handler& handler) override { return grpc::serve(server_, Ingress{process_, nullptr, &handler}); }
  core::Result<std::unique_ptr<core::Client>> connect(std::string endpoint) override { return grpc::connect(client_, process_, std::move(endpoint)); }

 private:
  GrpcServerOptions server_;
  GrpcClientOptions client_;
  Process process_;
};

}  // namespace

std::unique_ptr<core::Transport> make_transport(GrpcServerOptions server, GrpcClientOptions client, Process process) {
  return std::make_unique<GrpcTransport>(std::move(server), std::move(client), std::move(process));
}

}  // namespace flexi::transports::grpc
