// SPDX-License-Identifier: Apache-2.0
#include "transports/rpc/rpc.hpp"

namespace flexi::transports::rpc {

namespace {

class RpcTransport final : public core::Transport {
 public:
  RpcTransport(RpcServerOptions server, RpcClientOptions client, Process process)
      : server_(std::move(server)), client_(std::move(client)), process_(std::move(process)) {}

  core::Via via() const override { return core::Via::rpc; }
  core::Result<std::unique_ptr<core::Server>> serve(core::Handler& handler) override { return rpc::serve(server_, Ingress{process_, nullptr, &handler, {}}); }
  core::Result<std::unique_ptr<core::Client>> connect(std::string endpoint) override { return rpc::connect(client_, process_, std::move(endpoint)); }

 private:
  RpcServerOptions server_;
  RpcClientOptions client_;
  Process process_;
};

}  // namespace

std::unique_ptr<core::Transport> make_transport(RpcServerOptions server, RpcClientOptions client, Process process) {
  return std::make_unique<RpcTransport>(std::move(server), std::move(client), std::move(process));
}

}  // namespace flexi::transports::rpc
