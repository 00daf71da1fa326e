// SPDX-License-Identifier: Apache-2.0
// What crash_test.cpp kills: publishes and consumes until it dies.
//   queue_crash_child FOLDER load FIRST   publishes m<FIRST>, m<FIRST+1>, …; an answered one is written to FOLDER/accepted,
//                                         the handler stores each id once in a table of its own
//   queue_crash_child FOLDER poison       the handler dies of message "poison"; ends when nothing is left
//   queue_crash_child FOLDER drain        consumes what is there, then ends
#include <fcntl.h>
#include <unistd.h>

#include <boost/asio/steady_timer.hpp>
#include <cstdlib>
#include <iostream>

#include "runtime/task_scope.hpp"
#include "transports/queue/embedded_queue.hpp"

namespace asio = boost::asio;
using namespace flexi;
using runtime::sqlite::Connection;

namespace {

/// An idempotent service on the same disk.
class Store final : public core::Handler {
 public:
  Store(runtime::sqlite::Database& database, bool dies) : database_(database), dies_(dies) {}
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override {
    if (dies_ && request.id.str() == "poison") ::_exit(9);
    auto insert = [id = request.id.str()](Connection& c) -> core::Result<void> {
      auto deliveries = c.use("INSERT INTO stored VALUES(?1, 1) ON CONFLICT(id) DO UPDATE SET times = times + 1");
      deliveries.bind(1, std::string_view(id));
      return deliveries.run();
    };
    auto written = co_await database_.write(runtime::sqlite::Atomicity::single_statement, insert, context);
    if (!written) co_return written.error();
    co_return core::Reply{.message = "stored"};
  }

 private:
  runtime::sqlite::Database& database_;
  bool dies_;
};

core::Request message(std::string id) {
  core::Request request;
  request.id = core::MessageId::parse(id).value();
  request.action = "log";
  request.payload = core::LogEntry{"crash", id};
  request.accepted_at = std::chrono::system_clock::now();
  return request;
}

asio::awaitable<void> publish(transports::queue::EmbeddedQueue* queue, std::atomic<int>* next, int file) {
  for (;;) {
    const auto id = "m" + std::to_string((*next)++);
    auto reply = co_await queue->publish(message(id), {});
    const auto line = id + "\n";
    if (reply && ::write(file, line.data(), line.size()) < 0) std::abort();
  }
}

asio::awaitable<void> drain(transports::queue::EmbeddedQueue* queue) {
  for (;;) {
    auto ledger = co_await queue->ledger({});
    if (ledger && ledger.value().total().in_flight == 0) co_return;
    asio::steady_timer pause(co_await asio::this_coro::executor, std::chrono::milliseconds(2));
    co_await pause.async_wait(asio::use_awaitable);
  }
}

template <class T>
T must(core::Result<T> result) {
  if (result) return std::move(result).value();
  std::cerr << result.error().message << " " << result.error().detail << "\n";
  std::exit(1);
}

}  // namespace

int main(int, char** argv) {
  const std::string folder = argv[1], mode = argv[2];
  auto& log = runtime::LogSink::none();
  runtime::Metrics metrics;
  runtime::Shards shards(2);
  auto database = must(runtime::sqlite::Database::open({.path = folder + "/crash.db"}, log, metrics));
  static constexpr runtime::sqlite::Migration kStore[] = {{1, "CREATE TABLE stored(id TEXT PRIMARY KEY, times INTEGER NOT NULL)"}};
  if (!database->migrate("crash", kStore)) return 1;
  transports::queue::QueueOptions options;
  options.delivery_limit = 4;
  auto queue = must(transports::queue::EmbeddedQueue::open({*database, shards, log, metrics}, options));
  Store store(*database, mode == "poison");
  auto server = must(queue->serve(store));
  if (mode == "load") {
    std::atomic<int> next{std::atoi(argv[3])};
    const int file = ::open((folder + "/accepted").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    std::vector<std::unique_ptr<runtime::TaskScope>> scopes;
    for (unsigned i = 0; i < 2; ++i) {
      scopes.push_back(std::make_unique<runtime::TaskScope>(shards.executor(i), "load", log));
      asio::post(shards.executor(i), [&, scope = scopes.back().get()] {
        for (int n = 0; n < 32; ++n) scope->spawn(publish(queue.get(), &next, file));
      });
    }
    for (;;) ::pause();
  }
  shards.run(drain(queue.get()));
  shards.run(server->stop({}));
  shards.run(queue->stop());
  server.reset();
  queue.reset();
  database.reset();
  shards.join();
}
