// SPDX-License-Identifier: Apache-2.0
#include "transports/http/http.hpp"

namespace flexi::transports::http {

namespace {

class HttpTransport final : public core::Transport {
 public:
  HttpTransport(HttpServerOptions server, HttpClientOptions client, Process process)
      : server_(std::move(server)), client_(std::move(client)), process_(std::move(process)) {}

  core::Via via() const override { return core::Via::http; }
  core::Result<std::unique_ptr<core::Server>> serve(core::Handler& handler) override { return http::serve(server_, Ingress{process_, nullptr, &handler, {}}); }
  core::Result<std::unique_ptr<core::Client>> connect(std::string endpoint) override { return http::connect(client_, process_, std::move(endpoint)); }

 private:
  HttpServerOptions server_;
  HttpClientOptions client_;
  Process process_;
};

}  // namespace

std::unique_ptr<core::Transport> make_transport(HttpServerOptions server, HttpClientOptions client, Process process) {
  return std::make_unique<HttpTransport>(std::move(server), std::move(client), std::move(process));
}

}  // namespace flexi::transports::http
