// SPDX-License-Identifier: Apache-2.0
#include <boost/asio/co_spawn.hpp>
#include <future>

#include "runtime/net/address.hpp"
#include "runtime/net/listen.hpp"
#include "transports/http/http.hpp"
#include "transports/http/server_shard.hpp"

namespace flexi::transports::http {

namespace asio = boost::asio;
using asio::ip::tcp;

namespace {

class HttpServer final : public core::Server {
 public:
  HttpServer(const HttpServerOptions& options, Ingress ingress, const std::string& host)
      : shards_(ingress.process.shards), shared_{options, ingress.process.log, Dispatcher(options, ingress, host), {}, {}, {}, {}} {
    shared_.readiness = &ingress.process.readiness;
    auto& metrics = ingress.process.metrics;
    static constexpr const char* kClasses[] = {"other", "1xx", "2xx", "3xx", "4xx", "5xx"};
    for (int i = 0; i < 6; ++i)
      shared_.requests[i] = metrics.counter("flexi_http_requests_total", "HTTP requests answered, by class of status", {{"status", kClasses[i]}});
    shared_.refused = metrics.counter("flexi_http_refused_connections_total", "Connections over the limit");
    shared_.open = metrics.gauge("flexi_http_connections", "Open HTTP connections");
  }

  core::Result<void> listen(tcp::endpoint endpoint) {
    FLEXI_TRY(auto acceptors, runtime::net::listen(shards_, endpoint, shared_.options.listen));
    endpoint.port(acceptors.front().local_endpoint().port());
    for (unsigned i = 0; i < shards_.size(); ++i)
      listeners_.push_back(std::make_unique<ServerShard>(shards_.executor(i), shared_, std::move(acceptors[i])));
    endpoint_ = "http://" + runtime::net::to_authority(endpoint);
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

core::Result<std::unique_ptr<core::Server>> serve(HttpServerOptions options, Ingress ingress) {
  auto endpoint = runtime::net::parse_listen(options.listen, 80);
  if (!endpoint) return core::invalid_argument("listen " + endpoint.error().message);
  auto server = std::make_unique<HttpServer>(options, std::move(ingress), endpoint.value().address().to_string());
  FLEXI_TRY(server->listen(endpoint.value()));
  return std::unique_ptr<core::Server>(std::move(server));
}

}  // namespace flexi::transports::http
