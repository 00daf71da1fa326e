// SPDX-License-Identifier: Apache-2.0
#include "transports/grpc/health.hpp"

#include <algorithm>
#include <boost/asio/post.hpp>

#include "grpc/health/v1/health.pb.h"
#include "transports/grpc/wake.hpp"

namespace flexi::transports::grpc {

namespace asio = boost::asio;
using ::grpc::health::v1::HealthCheckRequest;
using ::grpc::health::v1::HealthCheckResponse;

namespace {

struct Health {
  runtime::Readiness& readiness;
  std::vector<std::string> services;

  bool knows(const std::string& service) const { return service.empty() || std::find(services.begin(), services.end(), service) != services.end(); }
  HealthCheckResponse::ServingStatus status(const std::string& service) const {
    if (!knows(service)) return HealthCheckResponse::SERVICE_UNKNOWN;
    return readiness.ready() ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING;
  }
};

std::string serialized(HealthCheckResponse::ServingStatus status) {
  HealthCheckResponse response;
  response.set_status(status);
  return response.SerializeAsString();
}

core::awaitable<UnaryAnswer> check(const Health& health, std::string bytes) {
  HealthCheckRequest request;
  UnaryAnswer answer;
  if (!request.ParseFromString(bytes)) answer.status = {Code::invalid_argument, "the message is not a HealthCheckRequest"};
  else if (!health.knows(request.service())) answer.status = {Code::not_found, "unknown service"};
  else answer.message = serialized(health.status(request.service()));
  co_return answer;
}

core::awaitable<Status> watch(const Health& health, ServerCall& call) {
  co_await asio::this_coro::throw_if_cancelled(false);
  auto bytes = co_await call.read();
  if (!bytes) co_return to_status(bytes.error());
  HealthCheckRequest request;
  if (!bytes.value() || !request.ParseFromString(*bytes.value())) co_return Status{Code::invalid_argument, "the message is not a HealthCheckRequest"};

  const auto executor = co_await asio::this_coro::executor;
  const auto wake = std::make_shared<Wake>(executor);
  auto on_change = [executor, weak = std::weak_ptr<Wake>(wake)] {
    asio::post(executor, [weak] {
      if (auto alive = weak.lock()) alive->notify();
    });
  };
  const auto subscription = health.readiness.subscribe(on_change);
  std::optional<HealthCheckResponse::ServingStatus> told;
  while ((co_await asio::this_coro::cancellation_state).cancelled() == asio::cancellation_type::none) {
    const auto now = health.status(request.service());
    if (now != told) {
      auto written = co_await call.write(serialized(now));
      if (!written) co_return to_status(written.error());
      told = now;
    }
    co_await wake->wait();
  }
  co_return Status{Code::cancelled, "cancelled"};
}

}  // namespace

void add_health(MethodTable& table, runtime::Readiness& readiness, std::vector<std::string> services) {
  auto health = std::make_shared<const Health>(Health{readiness, std::move(services)});
  table.add_unary("/grpc.health.v1.Health/Check", [health](ServerCall&, std::string bytes) { return check(*health, std::move(bytes)); });
  table.add_stream("/grpc.health.v1.Health/Watch", [health](ServerCall& call) { return watch(*health, call); }, Lasts::subscription);
}

}  // namespace flexi::transports::grpc
