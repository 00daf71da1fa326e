// SPDX-License-Identifier: Apache-2.0
// Calls a second between two processes of one thread each, N in flight on one connection, handler that does nothing.
//   rpc_bench [IN_FLIGHT [SECONDS [DATA_BYTES]]]
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/steady_timer.hpp>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "runtime/task_scope.hpp"
#include "transports/rpc/rpc.hpp"

namespace asio = boost::asio;
using namespace flexi;
using Clock = std::chrono::steady_clock;

namespace {

class Null final : public core::Handler {
 public:
  core::awaitable<core::Result<core::Reply>> handle(core::Request, core::CallContext) override { co_return core::Reply{.message = "logged"}; }
};

/// Serves until it is killed; says on `out` where.
[[noreturn]] void serve(int out) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  runtime::Metrics metrics;
  runtime::Readiness readiness;
  runtime::Shards shards(1);
  Null null;
  transports::rpc::RpcServerOptions options;
  options.listen = "127.0.0.1:0";
  auto server = transports::rpc::serve(options, {{metrics, readiness, runtime::LogSink::none(), shards}, nullptr, &null, {}});
  if (!server) std::abort();
  const auto endpoint = server.value()->endpoint();
  if (::write(out, endpoint.data(), endpoint.size()) < 0) std::abort();
  for (;;) ::pause();
}

struct Figures {
  std::uint64_t calls = 0, failed = 0;
  std::vector<std::uint32_t> micros{};
};

asio::awaitable<void> caller(core::Client* client, std::size_t bytes, Clock::time_point end, Figures* figures) {
  const std::string data(bytes, 'x');
  while (Clock::now() < end) {
    core::Request request;
    request.id = core::MessageId::generate();
    request.action = core::actions::kLog;
    request.payload = core::LogEntry{"event", data};
    request.accepted_at = std::chrono::system_clock::now();
    const auto begin = Clock::now();
    auto reply = co_await client->handle(std::move(request), core::CallContext::with_timeout(std::chrono::seconds(10)));
    ++(reply ? figures->calls : figures->failed);
    figures->micros.push_back(static_cast<std::uint32_t>(std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - begin).count()));
  }
}

/// CPU time of a process, which a busy machine doesn't change.
double cpu_seconds(pid_t process) {
  clockid_t clock;
  timespec time{};
  if (::clock_getcpuclockid(process, &clock) == 0) ::clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

asio::awaitable<void> run(core::Client* client, int in_flight, std::size_t bytes, Clock::time_point end, Figures* figures) {
  runtime::TaskScope scope(co_await asio::this_coro::executor, "callers", runtime::LogSink::none());
  for (int i = 0; i < in_flight; ++i) scope.spawn(caller(client, bytes, end, figures));
  co_await scope.join();
}

}  // namespace

int main(int argc, char** argv) {
  const int in_flight = argc > 1 ? std::atoi(argv[1]) : 64;
  const int seconds = argc > 2 ? std::atoi(argv[2]) : 3;
  const auto bytes = static_cast<std::size_t>(argc > 3 ? std::atoi(argv[3]) : 200);
  int pipe[2];
  if (::pipe(pipe) != 0) return 1;
  const auto child = ::fork();
  if (child == 0) serve(pipe[1]);
  char endpoint[100] = {};
  if (::read(pipe[0], endpoint, sizeof endpoint - 1) <= 0) return 1;
  {
    runtime::Metrics metrics;
    runtime::Readiness readiness;
    runtime::Shards shards(1);
    auto client = std::move(transports::rpc::connect({}, {metrics, readiness, runtime::LogSink::none(), shards}, endpoint)).value();
    for (int round = 0; round < 2; ++round) {
      Figures figures;
      const auto begin = Clock::now();
      const double client_cpu = cpu_seconds(::getpid()), server_cpu = cpu_seconds(child);
      shards.run(run(client.get(), in_flight, bytes, begin + std::chrono::seconds(round == 0 ? 1 : seconds), &figures));
      const double took = std::chrono::duration<double>(Clock::now() - begin).count();
      auto& micros = figures.micros;
      std::sort(micros.begin(), micros.end());
      // The first is the warm-up.
      if (round == 0) continue;
      const auto calls = static_cast<double>(figures.calls);
      std::printf("rpc, %d in flight, %zu bytes: %.0f calls/s, p50 %u us, p99 %u us, %llu failed; CPU a call: client %.2f us, server %.2f us\n", in_flight, bytes,
                  calls / took, micros[micros.size() / 2], micros[micros.size() * 99 / 100], static_cast<unsigned long long>(figures.failed),
                  (cpu_seconds(::getpid()) - client_cpu) / calls * 1e6, (cpu_seconds(child) - server_cpu) / calls * 1e6);
    }
    shards.run(client->stop({}));
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
}
