// SPDX-License-Identifier: Apache-2.0
// load → broker → logger → store over one of our transports, each in a process of its own.
//   path logger <http|grpc|rpc|amqp://…> <null|file>   (amqp: what consumes the queues)
//   path broker <logger's endpoint>                    listens by its logger's transport; for amqp by grpc
//   path load <broker's endpoint> <hit|stored|accepted> <in flight> <seconds> [calls a second]
// Servers say "ready <endpoint>" and end with their standard input. The load prints "RESULT <calls/s> <p50 ms> <p99 ms> <failed>"; with
// a rate it is open: each call's time counts from when it was due, whether or not the ones before it were answered.
#include <algorithm>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <optional>
#include <thread>

#include "bench_store.hpp"
#include "flexiconnect/v1/flexiconnect.pb.h"
#include "runtime/shards.hpp"
#include "runtime/task_scope.hpp"
#include "services/broker/broker.hpp"
#include "services/logger/logger_service.hpp"
#include "transports/amqp/amqp.hpp"
#include "transports/grpc/channel.hpp"
#include "transports/http/http.hpp"
#include "transports/rpc/rpc.hpp"

namespace {

using namespace flexi;
namespace amqp = transports::amqp;
namespace asio = boost::asio;
namespace broker = services::broker;
namespace grpc = transports::grpc;
namespace http = transports::http;
namespace rpc = transports::rpc;
using Clock = std::chrono::steady_clock;

/// What the servers and the load stand on.
struct Process {
  explicit Process(unsigned threads) : shards(threads) {}
  template <class View>
  View view() {
    return {metrics, readiness, log, shards};
  }
  runtime::LogSink log{runtime::LogLevel::error, runtime::LogFormat::json};
  runtime::Metrics metrics;
  runtime::Readiness readiness;
  runtime::Shards shards;
};

template <class T>
T must(core::Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  return std::move(result).value();
}

template <class Stoppable>
asio::awaitable<void> stop(Stoppable* what) {
  co_await what->stop({std::chrono::milliseconds(1000)});
}
asio::awaitable<void> stop_amqp(amqp::AmqpTransport* transport) { co_await transport->stop(); }

std::string scheme_of(const std::string& endpoint) { return endpoint.substr(0, endpoint.find("://")); }

core::Via via_of(const std::string& endpoint) {
  const auto scheme = scheme_of(endpoint);
  if (scheme == "http") return core::Via::http;
  if (scheme == "grpc") return core::Via::grpc;
  if (scheme == "rpc") return core::Via::rpc;
  if (scheme == "amqp") return core::Via::amqp;
  throw std::runtime_error("no transport \"" + scheme + "\"");
}

/// RabbitMQ, for those whose endpoint is one; its topology is the benchmark's own.
std::unique_ptr<amqp::AmqpTransport> rabbitmq(Process& process, const std::string& endpoint) {
  if (scheme_of(endpoint) != "amqp") return nullptr;
  amqp::AmqpOptions options;
  options.url = endpoint;
  options.prefix = "bench.";
  return must(amqp::make_transport(options, process.view<amqp::Process>()));
}

/// The handler as the services of `via`; on the broker's surface, too.
std::unique_ptr<core::Server> serve(Process& process, core::Via via, core::Handler& handler) {
  if (via == core::Via::grpc) {
    grpc::GrpcServerOptions options;
    options.listen = "127.0.0.1:0";
    return must(grpc::serve(options, {process.view<grpc::Process>(), &handler, &handler}));
  }
  if (via == core::Via::rpc) {
    rpc::RpcServerOptions options;
    options.listen = "127.0.0.1:0";
    return must(rpc::serve(options, {process.view<rpc::Process>(), &handler, &handler, {}}));
  }
  http::HttpServerOptions options;
  options.listen = "127.0.0.1:0";
  return must(http::serve(options, {process.view<http::Process>(), &handler, &handler, {}, core::Via::automatic}));
}

std::unique_ptr<core::Client> connect(Process& process, const std::string& endpoint, const http::HttpClientOptions& http_options = {}) {
  switch (via_of(endpoint)) {
    case core::Via::grpc: return must(grpc::connect({}, process.view<grpc::Process>(), endpoint));
    case core::Via::rpc: return must(rpc::connect({}, process.view<rpc::Process>(), endpoint));
    default: return must(http::connect(http_options, process.view<http::Process>(), endpoint));
  }
}

void until_told(const std::string& endpoint) {
  std::cout << "ready " << endpoint << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
  }
}

int run_logger(const std::string& where, const std::string& store_name) {
  Process process(std::thread::hardware_concurrency());
  bench::Store store(store_name, process.log);
  services::logger::LoggerService logger(*store.logs, {});
  const auto queue = rabbitmq(process, where);
  auto server = queue ? must(queue->serve(logger)) : serve(process, via_of(where), logger);
  until_told(queue ? where : server->endpoint());
  process.shards.run(stop(server.get()));
  if (queue) process.shards.run(stop_amqp(queue.get()));
  process.shards.join();
  return 0;
}

int run_broker(const std::string& logger) {
  Process process(std::thread::hardware_concurrency());
  const auto via = via_of(logger);
  const auto queue = rabbitmq(process, logger);
  auto client = queue ? must(queue->connect()) : connect(process, logger);
  broker::BrokerRoute route;
  route.action = core::actions::kLog;
  route.ways.push_back({via, *client});
  route.accepted_order = route.stored_order = {via};
  route.idempotent = runtime::policies::Idempotent::yes;
  broker::BrokerRoutes routes;
  routes.actions.push_back(std::move(route));
  broker::Broker handler(std::move(routes));
  auto server = serve(process, via == core::Via::amqp ? core::Via::grpc : via, handler);
  until_told(server->endpoint());
  process.shards.run(stop(server.get()));
  process.shards.run(stop(client.get()));
  if (queue) process.shards.run(stop_amqp(queue.get()));
  process.shards.join();
  return 0;
}

enum class Call { hit, stored, accepted };

Call call_from(const std::string& name) {
  if (name == "hit") return Call::hit;
  if (name == "stored") return Call::stored;
  if (name == "accepted") return Call::accepted;
  throw std::runtime_error("no call \"" + name + "\"");
}

/// What the load calls. Cheap, so that the cores are left to what is measured.
class Peer {
 public:
  virtual ~Peer() = default;
  /// @return why it failed; empty: it did not
  virtual core::awaitable<std::string> call() = 0;
  virtual asio::awaitable<void> close() = 0;
};

core::CallContext patience() { return core::CallContext::with_timeout(std::chrono::seconds(20)); }

/// Any of our clients, on the services' surface.
class ClientPeer final : public Peer {
 public:
  ClientPeer(Process& process, const std::string& endpoint, Call kind) : kind_(kind) {
    http::HttpClientOptions options;
    options.pipeline_logs = false;  // as a stranger's client
    options.max_waiting = 1'000'000;
    client_ = connect(process, endpoint, options);
  }
  core::awaitable<std::string> call() override {
    core::Request request;
    request.id = core::MessageId::generate();
    if (kind_ == Call::hit) {
      request.action = "hit";
      request.payload = core::Json{"{}"};
    } else {
      request.action = core::actions::kLog;
      request.payload = core::LogEntry{"event", std::string(100, 'x')};
      request.ack = kind_ == Call::accepted ? core::Ack::accepted : core::Ack::stored;
    }
    const auto reply = co_await client_->handle(std::move(request), patience());
    co_return reply ? std::string() : std::string(core::to_string(reply.error().kind)) + ": " + reply.error().message;
  }
  asio::awaitable<void> close() override { co_await client_->stop({std::chrono::milliseconds(1000)}); }

 private:
  std::unique_ptr<core::Client> client_;
  const Call kind_;
};

/// A gRPC channel and a message that is encoded once: also the load for grpcpp_path.
class ChannelPeer final : public Peer {
 public:
  ChannelPeer(Process& process, const std::string& endpoint, Call kind) {
    grpc::GrpcClientOptions options;
    options.max_waiting = 1'000'000;
    channel_ = must(grpc::Channel::make(options, process.view<grpc::Process>(), endpoint));
    ::flexiconnect::v1::HandleRequest request;
    if (kind == Call::hit) {
      request.set_action("hit");
    } else {
      request.mutable_log()->set_name("event");
      request.mutable_log()->set_data(std::string(100, 'x'));
    }
    request.set_ack(kind == Call::accepted ? ::flexiconnect::v1::ACK_ACCEPTED : ::flexiconnect::v1::ACK_STORED);
    message_ = request.SerializeAsString();
  }
  core::awaitable<std::string> call() override {
    const auto result = co_await channel_->unary(path_, message_, {}, patience());
    co_return result.status.ok() ? std::string() : "status " + std::to_string(static_cast<int>(result.status.code)) + ": " + result.status.message;
  }
  asio::awaitable<void> close() override { co_await channel_->stop({std::chrono::milliseconds(1000)}); }

 private:
  const std::string path_ = "/flexiconnect.v1.Broker/Handle";
  std::string message_;
  std::unique_ptr<grpc::Channel> channel_;
};

struct Load {
  Peer& peer;
  Clock::time_point begin{}, until{};
  std::vector<float> millis{};
  long failed = 0;
};

core::awaitable<void> call_once(Load* load, Clock::time_point due) {
  const auto why = co_await load->peer.call();
  if (!why.empty() && load->failed++ == 0) std::fprintf(stderr, "the first that failed: %s\n", why.c_str());
  load->millis.push_back(std::chrono::duration<float, std::milli>(Clock::now() - due).count());
}

core::awaitable<void> call_on_and_on(Load* load) {
  while (Clock::now() < load->until) co_await call_once(load, Clock::now());
}

/// Each call is due at its own time, whatever became of those before it.
core::awaitable<void> call_at_a_rate(Load* load, runtime::TaskScope* scope, double rate) {
  asio::steady_timer timer(scope->executor());
  long sent = 0;
  for (auto now = Clock::now(); now < load->until; now = Clock::now()) {
    const auto due = static_cast<long>(std::chrono::duration<double>(now - load->begin).count() * rate);
    for (; sent < due; ++sent) {
      const auto at = std::chrono::duration<double>(static_cast<double>(sent) / rate);
      scope->spawn(call_once(load, load->begin + std::chrono::duration_cast<Clock::duration>(at)));
    }
    timer.expires_after(std::chrono::microseconds(500));
    boost::system::error_code ignored;
    co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
}

core::awaitable<void> run_load(Load* load, int in_flight, std::chrono::seconds length, double rate, runtime::LogSink* log) {
  runtime::TaskScope scope(co_await asio::this_coro::executor, "load", *log);
  // The connections first: they are kept, so they are no call's cost.
  for (int i = 0; i < in_flight; ++i) scope.spawn(call_once(load, Clock::now()));
  co_await scope.join();
  load->millis.clear();
  load->begin = Clock::now();
  load->until = load->begin + length;
  if (rate > 0) co_await call_at_a_rate(load, &scope, rate);
  else
    for (int i = 0; i < in_flight; ++i) scope.spawn(call_on_and_on(load));
  co_await scope.join();
}

int run_load(const std::string& endpoint, Call kind, int in_flight, int seconds, double rate) {
  Process process(1);
  std::unique_ptr<Peer> peer;
  if (via_of(endpoint) == core::Via::grpc) peer = std::make_unique<ChannelPeer>(process, endpoint, kind);
  else peer = std::make_unique<ClientPeer>(process, endpoint, kind);
  Load load{*peer};
  load.millis.reserve(10'000'000);
  process.shards.run(run_load(&load, in_flight, std::chrono::seconds(seconds), rate, &process.log));
  const auto took = std::chrono::duration<double>(Clock::now() - load.begin).count();
  process.shards.run(peer->close());
  peer.reset();
  process.shards.join();
  std::sort(load.millis.begin(), load.millis.end());
  const auto quantile = [&](double q) { return load.millis[static_cast<std::size_t>(q * static_cast<double>(load.millis.size() - 1))]; };
  std::printf("RESULT %.0f %.3f %.3f %ld\n", static_cast<double>(load.millis.size()) / took, quantile(0.5), quantile(0.99), load.failed);
  return 0;
}

}  // namespace

int main(int argc, char** argv) try {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments.size() == 3 && arguments[0] == "logger") return run_logger(arguments[1], arguments[2]);
  if (arguments.size() == 2 && arguments[0] == "broker") return run_broker(arguments[1]);
  if (arguments.size() >= 5 && arguments[0] == "load")
    return run_load(arguments[1], call_from(arguments[2]), std::atoi(arguments[3].c_str()), std::atoi(arguments[4].c_str()), arguments.size() > 5 ? std::atof(arguments[5].c_str()) : 0);
  std::cerr << "path logger <http|grpc|rpc|amqp://…> <null|file> | broker <logger> | load <broker> <hit|stored|accepted> <in flight> <seconds> [calls a second]\n";
  return 2;
} catch (const std::exception& e) {
  std::cerr << e.what() << "\n";
  return 1;
}
