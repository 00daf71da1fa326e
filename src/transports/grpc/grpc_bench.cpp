// SPDX-License-Identifier: Apache-2.0
// Calls per second of the wire alone: one server thread, one client thread, so many calls in flight.
//   grpc_bench [in flight] [seconds] [bytes]        both in one process
//   grpc_bench serve <port> | grpc_bench call <endpoint> [in flight] [seconds] [bytes]
#include <algorithm>
#include <boost/asio/steady_timer.hpp>
#include <cstdio>
#include <cstdlib>

#include "runtime/task_scope.hpp"
#include "transports/grpc/channel.hpp"
#include "transports/grpc/server.hpp"

namespace {

using namespace flexi;
namespace grpc = transports::grpc;
using Clock = std::chrono::steady_clock;

core::awaitable<grpc::UnaryAnswer> echo(std::string request) { co_return grpc::UnaryAnswer{{}, std::move(request)}; }

struct Run {
  grpc::Channel* channel;
  Clock::time_point until;
  std::string message;
  std::vector<float> micros{};
  long failed = 0;
};

core::awaitable<void> caller(Run* run) {
  auto begin = Clock::now();
  while (begin < run->until) {
    auto context = core::CallContext::with_timeout(std::chrono::seconds(10));
    auto result = co_await run->channel->unary("/bench.Echo/Echo", run->message, {}, std::move(context));
    if (!result.status.ok()) ++run->failed;
    const auto end = Clock::now();
    run->micros.push_back(std::chrono::duration<float, std::micro>(end - begin).count());
    begin = end;
  }
}

core::awaitable<void> call_all(Run* run, int in_flight) {
  runtime::TaskScope scope(co_await boost::asio::this_coro::executor, "bench", runtime::LogSink::none());
  for (int i = 0; i < in_flight; ++i) scope.spawn(caller(run));
  co_await scope.join();
  co_await run->channel->stop({});
}

void measure(const grpc::Process& process, const std::string& endpoint, int in_flight, double seconds, std::size_t bytes) {
  auto channel = std::move(grpc::Channel::make({}, process, endpoint)).value();
  const auto begin = Clock::now();
  Run run{channel.get(), begin + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds)), std::string(bytes, 'x')};
  run.micros.reserve(1 << 22);
  process.shards.run(call_all(&run, in_flight));
  const auto took = std::chrono::duration<double>(Clock::now() - begin).count();
  std::sort(run.micros.begin(), run.micros.end());
  const auto at = [&](double q) { return static_cast<double>(run.micros[static_cast<std::size_t>(q * static_cast<double>(run.micros.size() - 1))]); };
  std::printf("%d in flight, %zu bytes: %.0f calls/s, p50 %.0f us, p99 %.0f us, %ld failed\n", in_flight, bytes, static_cast<double>(run.micros.size()) / took, at(0.5),
              at(0.99), run.failed);
}

std::unique_ptr<core::Server> serve(const grpc::Process& process, const std::string& listen) {
  grpc::MethodTable methods;
  methods.add_unary("/bench.Echo/Echo", [](grpc::ServerCall&, std::string request) { return echo(std::move(request)); });
  grpc::GrpcServerOptions options;
  options.listen = listen;
  return std::move(grpc::serve_methods(options, process, std::move(methods))).value();
}

core::awaitable<void> wait_for_ever() {
  boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor, Clock::time_point::max());
  co_await timer.async_wait(boost::asio::use_awaitable);
}
core::awaitable<void> stop(core::Server* server) { co_await server->stop({}); }

}  // namespace

int main(int argc, char** argv) {
  runtime::Metrics metrics;
  runtime::Readiness readiness;
  runtime::LogSink log(runtime::LogLevel::warning, runtime::LogFormat::human);
  const std::string mode = argc > 1 ? argv[1] : "";
  const int first = mode == "call" ? 3 : 1;
  const auto number = [&](int i, double otherwise) { return argc > first + i ? std::atof(argv[first + i]) : otherwise; };
  runtime::Shards here(1);
  const grpc::Process process{metrics, readiness, log, here};
  if (mode == "serve" && argc > 2) {
    auto server = serve(process, std::string("127.0.0.1:") + argv[2]);
    here.run(wait_for_ever());
  } else if (mode == "call" && argc > 2) {
    measure(process, argv[2], static_cast<int>(number(0, 64)), number(1, 3), static_cast<std::size_t>(number(2, 64)));
  } else {
    runtime::Shards there(1);
    auto server = serve({metrics, readiness, log, there}, "127.0.0.1:0");
    measure(process, server->endpoint(), static_cast<int>(number(0, 64)), number(1, 3), static_cast<std::size_t>(number(2, 64)));
    there.run(stop(server.get()));
    server.reset();
    there.join();
  }
  here.join();
}
