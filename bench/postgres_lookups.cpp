// SPDX-License-Identifier: Apache-2.0
// User look-ups by e-mail through the store, `in_flight` at once over all threads. Prints look-ups per second.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "runtime/shards.hpp"
#include "runtime/task_scope.hpp"
#include "stores/postgres/user_store.hpp"

namespace {

using namespace flexi;

struct Load {
  core::UserStore& users;
  std::chrono::steady_clock::time_point until;
  int accounts;
  std::atomic<long> done = 0, failed = 0;
};

core::awaitable<void> look_up(Load& load, unsigned seed) {
  std::minstd_rand random(seed + 1);
  while (std::chrono::steady_clock::now() < load.until) {
    auto user = co_await load.users.find_by_email("User" + std::to_string(random() % load.accounts + 1) + "@example.com", {});
    ++(user ? load.done : load.failed);
  }
}

core::awaitable<void> look_up_all(Load& load, unsigned first, unsigned count) {
  runtime::TaskScope scope(co_await boost::asio::this_coro::executor, "load", runtime::LogSink::none());
  for (unsigned i = 0; i < count; ++i) scope.spawn(look_up(load, first + i));
  co_await scope.join();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: postgres_lookups DSN ACCOUNTS IN_FLIGHT SECONDS\n");
    return 2;
  }
  const auto in_flight = static_cast<unsigned>(std::atoi(argv[3]));
  runtime::LogSink log(runtime::LogLevel::warning, runtime::LogFormat::automatic);
  runtime::Metrics metrics;
  runtime::Shards shards(1);
  runtime::postgres::Database database({.dsn = argv[1]}, shards.executor(0), log, metrics);
  const auto users = stores::postgres::open_user_store(database);
  database.start();
  Load warm{*users, std::chrono::steady_clock::now() + std::chrono::seconds(1), std::atoi(argv[2])};
  shards.run(look_up_all(warm, 0, in_flight));
  const std::chrono::duration<double> length(std::atof(argv[4]));
  Load load{*users, std::chrono::steady_clock::now() + std::chrono::duration_cast<std::chrono::steady_clock::duration>(length), warm.accounts};
  const auto start = std::chrono::steady_clock::now();
  shards.run(look_up_all(load, 0, in_flight));
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  shards.run(database.stop());
  if (load.failed > 0 && load.accounts > 1) std::fprintf(stderr, "%ld look-ups failed\n", load.failed.load());
  if (load.accounts == 1) return 0;  // made the tables: nobody is there yet
  std::printf("%.0f\n", static_cast<double>(load.done) / took.count());
  return load.failed > 0;
}
