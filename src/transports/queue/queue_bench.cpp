// SPDX-License-Identifier: Apache-2.0
// Messages a second through the embedded queue: published by 64 callers alone, consumed alone, both at once.
//   queue_bench [FOLDER]
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_future.hpp>
#include <cstdio>
#include <filesystem>
#include <future>

#include "transports/queue/embedded_queue.hpp"

namespace asio = boost::asio;
using namespace flexi;
using Clock = std::chrono::steady_clock;

namespace {

constexpr int kCallers = 64, kEach = 1000;

class Null final : public core::Handler {
 public:
  core::awaitable<core::Result<core::Reply>> handle(core::Request, core::CallContext) override { co_return core::Reply{.message = "logged"}; }
};

asio::awaitable<void> publish(transports::queue::EmbeddedQueue* queue) {
  for (int i = 0; i < kEach; ++i) {
    core::Request request;
    request.id = core::MessageId::generate();
    request.action = "log";
    request.payload = core::LogEntry{"event", std::string(200, 'x')};
    request.accepted_at = std::chrono::system_clock::now();
    auto done = co_await queue->publish(std::move(request), {});
    if (!done) std::printf("refused: %s\n", done.error().message.c_str());
  }
}

void publish_all(runtime::Shards& shards, transports::queue::EmbeddedQueue& queue) {
  std::vector<std::future<void>> callers;
  for (unsigned i = 0; i < kCallers; ++i) callers.push_back(asio::co_spawn(shards.executor(i % shards.size()), publish(&queue), asio::use_future));
  for (auto& caller : callers) caller.get();
}

asio::awaitable<void> drained(transports::queue::EmbeddedQueue* queue) {
  for (;;) {
    auto ledger = co_await queue->ledger({});
    if (ledger && ledger.value().total().in_flight == 0) co_return;
    asio::steady_timer pause(co_await asio::this_coro::executor, std::chrono::milliseconds(5));
    co_await pause.async_wait(asio::use_awaitable);
  }
}

void report(const char* what, Clock::time_point begin) {
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  std::printf("%-28s %8.0f messages/s\n", what, kCallers * kEach / seconds);
}

}  // namespace

int main(int argc, char** argv) {
  std::string folder = std::string(argc > 1 ? argv[1] : ".") + "/queue-bench-XXXXXX";
  if (!::mkdtemp(folder.data())) return 1;
  {
    runtime::Metrics metrics;
    runtime::Shards shards(2);
    auto database = std::move(runtime::sqlite::Database::open({.path = folder + "/bench.db"}, runtime::LogSink::none(), metrics)).value();
    auto queue = std::move(transports::queue::EmbeddedQueue::open({*database, shards, runtime::LogSink::none(), metrics}, {})).value();
    Null handler;
    auto begin = Clock::now();
    publish_all(shards, *queue);
    report("published, 64 callers", begin);
    begin = Clock::now();
    auto server = std::move(queue->serve(handler)).value();
    shards.run(drained(queue.get()));
    report("consumed, null handler", begin);
    begin = Clock::now();
    publish_all(shards, *queue);
    report("published while consumed", begin);
    shards.run(drained(queue.get()));
    report("published and consumed", begin);
    shards.run(server->stop({}));
    shards.run(queue->stop());
    server.reset();
    queue.reset();
    database.reset();
  }
  std::filesystem::remove_all(folder);
}
