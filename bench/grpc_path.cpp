// SPDX-License-Identifier: Apache-2.0
// load → broker → logger → store over our gRPC, each in a process of its own, and the load for grpcpp_path, too.
//   grpc_path logger <null|file>
//   grpc_path broker <grpc://logger>
//   grpc_path load <endpoint> <hit|handle|log> <in flight> <seconds> [calls a second]
// Servers say "ready <endpoint>" and end with their standard input. The load prints "RESULT <calls/s> <p50 ms> <p99 ms> <failed>"; with
// a rate it is open: each call's time counts from when it was due, whether or not the ones before it were answered.
#include <algorithm>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <thread>

#include "bench_store.hpp"
#include "flexiconnect/v1/flexiconnect.pb.h"
#include "runtime/shards.hpp"
#include "runtime/task_scope.hpp"
#include "services/broker/broker.hpp"
#include "services/logger/logger_service.hpp"
#include "transports/grpc/channel.hpp"

namespace {

using namespace flexi;
namespace asio = boost::asio;
namespace broker = services::broker;
namespace grpc = transports::grpc;
using Clock = std::chrono::steady_clock;

/// What the servers and the load stand on.
struct Process {
  explicit Process(unsigned threads) : shards(threads) {}
  runtime::LogSink log{runtime::LogLevel::error, runtime::LogFormat::json};
  runtime::Metrics metrics;
  runtime::Readiness readiness;
  runtime::Shards shards;
  grpc::Process view() { return {metrics, readiness, log, shards, {}}; }
};

asio::awaitable<void> stop_server(core::Server* server) { co_await server->stop({std::chrono::milliseconds(1000)}); }
asio::awaitable<void> stop_client(core::Client* client) { co_await client->stop({std::chrono::milliseconds(1000)}); }
asio::awaitable<void> stop_channel(grpc::Channel* channel) { co_await channel->stop({std::chrono::milliseconds(1000)}); }

void serve_until_told(Process& process, core::Handler* broker, core::Handler* services) {
  grpc::GrpcServerOptions options;
  options.listen = "127.0.0.1:0";
  auto server = grpc::serve(options, {process.view(), broker, services});
  if (!server) throw std::runtime_error(server.error().message);
  std::cout << "ready " << server.value()->endpoint() << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
  }
  process.shards.run(stop_server(server.value().get()));
}

int run_logger(const std::string& where) {
  Process process(std::thread::hardware_concurrency());
  bench::Store store(where, process.log);
  services::logger::LoggerService logger(*store.logs, {});
  serve_until_told(process, nullptr, &logger);
  process.shards.join();
  return 0;
}

int run_broker(const std::string& logger) {
  Process process(std::thread::hardware_concurrency());
  auto client = grpc::connect({}, process.view(), logger);
  if (!client) throw std::runtime_error(client.error().message);
  broker::BrokerRoute route;
  route.action = core::actions::kLog;
  route.ways.push_back({core::Via::grpc, *client.value()});
  route.stored_order = {core::Via::grpc};
  route.idempotent = runtime::policies::Idempotent::yes;
  broker::BrokerRoutes routes;
  routes.actions.push_back(std::move(route));
  broker::Broker handler(std::move(routes));
  serve_until_told(process, &handler, nullptr);
  process.shards.run(stop_client(client.value().get()));
  process.shards.join();
  return 0;
}

struct Load {
  grpc::Channel* channel = nullptr;
  std::string path, message;
  Clock::time_point begin, until;
  std::vector<float> millis{};
  long failed = 0, under_way = 0;

  void note(const grpc::ClientResult& result, Clock::time_point since) {
    if (!result.status.ok()) ++failed;
    millis.push_back(std::chrono::duration<float, std::milli>(Clock::now() - since).count());
  }
};

core::awaitable<void> call_once(Load* load, Clock::time_point due) {
  ++load->under_way;
  const auto result = co_await load->channel->unary(load->path, load->message, {}, core::CallContext::with_timeout(std::chrono::seconds(20)));
  load->note(result, due);
  --load->under_way;
}

core::awaitable<void> call_on_and_on(Load* load) {
  while (Clock::now() < load->until) co_await call_once(load, Clock::now());
}

core::awaitable<void> run_load(Load* load, int in_flight, double rate, runtime::LogSink* log) {
  runtime::TaskScope scope(co_await asio::this_coro::executor, "load", *log);
  // The connections first: they are kept, so they are no call's cost.
  co_await call_once(load, Clock::now());
  load->millis.clear();
  load->failed = 0;
  load->begin = Clock::now();
  load->until += load->begin - Clock::time_point();
  if (rate <= 0) {
    for (int i = 0; i < in_flight; ++i) scope.spawn(call_on_and_on(load));
  } else {
    asio::steady_timer timer(scope.executor());
    long sent = 0;
    for (auto now = Clock::now(); now < load->until; now = Clock::now()) {
      const auto due = static_cast<long>(std::chrono::duration<double>(now - load->begin).count() * rate);
      for (; sent < due; ++sent)
        scope.spawn(call_once(load, load->begin + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(static_cast<double>(sent) / rate))));
      timer.expires_after(std::chrono::microseconds(500));
      boost::system::error_code ignored;
      co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
  }
  co_await scope.join();
}

std::pair<std::string, std::string> call_of(const std::string& kind) {
  ::flexiconnect::v1::LogEntry entry;
  entry.set_name("event");
  entry.set_data(std::string(100, 'x'));
  if (kind == "log") return {"/flexiconnect.v1.Logger/WriteLog", entry.SerializeAsString()};
  ::flexiconnect::v1::HandleRequest request;
  if (kind == "hit") request.set_action("hit");
  else *request.mutable_log() = entry;
  request.set_ack(::flexiconnect::v1::ACK_STORED);
  return {"/flexiconnect.v1.Broker/Handle", request.SerializeAsString()};
}

int run_load(const std::string& endpoint, const std::string& kind, int in_flight, int seconds, double rate) {
  Process process(1);
  grpc::GrpcClientOptions options;
  options.max_waiting = 1'000'000;
  auto channel = grpc::Channel::make(options, process.view(), endpoint);
  if (!channel) throw std::runtime_error(channel.error().message);
  Load load;
  load.channel = channel.value().get();
  std::tie(load.path, load.message) = call_of(kind);
  load.until = Clock::time_point() + std::chrono::seconds(seconds);
  load.millis.reserve(10'000'000);
  process.shards.run(run_load(&load, in_flight, rate, &process.log));
  const auto took = std::chrono::duration<double>(Clock::now() - load.begin).count();
  process.shards.run(stop_channel(load.channel));
  channel.value().reset();
  process.shards.join();
  std::sort(load.millis.begin(), load.millis.end());
  const auto quantile = [&](double q) { return load.millis[static_cast<std::size_t>(q * static_cast<double>(load.millis.size() - 1))]; };
  std::printf("RESULT %.0f %.3f %.3f %ld\n", static_cast<double>(load.millis.size()) / took, quantile(0.5), quantile(0.99), load.failed);
  return 0;
}

}  // namespace

int main(int argc, char** argv) try {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments.size() == 2 && arguments[0] == "logger") return run_logger(arguments[1]);
  if (arguments.size() == 2 && arguments[0] == "broker") return run_broker(arguments[1]);
  if (arguments.size() >= 5 && arguments[0] == "load")
    return run_load(arguments[1], arguments[2], std::atoi(arguments[3].c_str()), std::atoi(arguments[4].c_str()), arguments.size() > 5 ? std::atof(arguments[5].c_str()) : 0);
  std::cerr << "grpc_path logger <null|file> | broker <endpoint> | load <endpoint> <hit|handle|log> <in flight> <seconds> [calls a second]\n";
  return 2;
} catch (const std::exception& e) {
  std::cerr << e.what() << "\n";
  return 1;
}
