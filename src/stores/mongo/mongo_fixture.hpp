// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <future>
#include <optional>
#include <stdexcept>

#include "runtime/shards.hpp"
#include "stores/mongo/log_store.hpp"
#include "stores/mongo/server.hpp"
#include "tests/support/mongo_gate.hpp"
#include "tests/support/mongodb.hpp"

namespace flexi::stores::mongo {

/// A database of one test's own, with stores on it as of several processes, each through the gate.
class MongoTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (auto why = flexi::testing::MongoDb::missing()) GTEST_SKIP() << *why;
    gate.emplace(flexi::testing::MongoDb::host(), flexi::testing::MongoDb::port());
    options.uri = flexi::testing::MongoDb::url_through(gate->port());
    options.database = flexi::testing::MongoDb::name();
    options.check_interval = std::chrono::milliseconds(20);
    options.housekeeping_interval = std::chrono::milliseconds(50);
    direct_options = options;
    direct_options.uri = flexi::testing::MongoDb::url();
    direct = Server::make(direct_options).value();
  }
  void TearDown() override {
    if (!direct) return;
    gate->heal();
    Bson drop;
    drop.small_integer("dropDatabase", 1);
    EXPECT_TRUE(direct->session().command(drop));
  }

  std::unique_ptr<MongoLogStore> open_unready() { return MongoLogStore::open(options, runtime::LogSink::none(), metrics).value(); }
  std::unique_ptr<MongoLogStore> open() {
    auto store = open_unready();
    auto ready = store->wait_until_ready(std::chrono::seconds(20));
    if (!ready) throw std::runtime_error(ready.error().message + ": " + ready.error().detail);
    return store;
  }
  template <class T>
  T wait(core::awaitable<T> work) {
    std::optional<T> result;
    shards.run([](core::awaitable<T> inner, std::optional<T>& out) -> core::awaitable<void> {
      out.emplace(co_await std::move(inner));
    }(std::move(work), result));
    return std::move(*result);
  }
  /// Begins `work` and goes on; its result by get().
  template <class T>
  std::future<T> start(core::awaitable<T> work) {
    auto promise = std::make_shared<std::promise<T>>();
    boost::asio::co_spawn(shards.executor(0), [](core::awaitable<T> inner, std::shared_ptr<std::promise<T>> out) -> core::awaitable<void> {
      out->set_value(co_await std::move(inner));
    }(std::move(work), promise), [promise](std::exception_ptr failed) {
      if (failed) promise->set_exception(failed);
    });
    return promise->get_future();
  }
  static core::LogRecord entry(core::MessageId id = core::MessageId::generate(), std::string name = "n", std::string data = "d") {
    const auto now = std::chrono::system_clock::now();
    return {.id = std::move(id), .name = std::move(name), .data = std::move(data), .created_at = now, .updated_at = now};
  }
  /// As another program writes it.
  void write(std::vector<Bson> documents) {
    auto written = direct->session().insert(options.collection, documents);
    ASSERT_TRUE(!written.failure && written.refused.empty());
  }
  std::size_t count(const std::string& collection) {
    std::size_t found = 0;
    EXPECT_TRUE(direct->session().find(collection, Bson(), {}, [&](Fields) { return ++found, Next::more; }));
    return found;
  }
  /// The first true value; fails after a while.
  template <class Condition>
  static bool eventually(Condition condition) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return true;
  }

  runtime::Metrics metrics;
  runtime::Shards shards{2};
  std::optional<flexi::testing::MongoGate> gate;
  MongoOptions options, direct_options;
  std::unique_ptr<Server> direct;
};

}  // namespace flexi::stores::mongo
