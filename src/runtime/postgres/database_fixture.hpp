// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/steady_timer.hpp>
#include <future>
#include <mutex>
#include <optional>

#include "runtime/postgres/database.hpp"
#include "runtime/shards.hpp"
#include "tests/support/postgresql.hpp"

namespace flexi::runtime::postgres {

/// A Database over the test run's PostgreSQL, in a database of its own.
class DatabaseFixture {
 public:
  ~DatabaseFixture() { close(); }

  PostgresOptions options() const {
    return {.dsn = fresh.dsn(), .reconnect_delay = std::chrono::milliseconds(20), .max_reconnect_delay = std::chrono::milliseconds(100)};
  }
  void open(PostgresOptions with, std::vector<Schema> schemas = {}) {
    auto heard = [this](const core::Error* error) {
      std::lock_guard lock(mutex_);
      health_ = error ? error->message : "";
      healths_.notify_all();
    };
    {
      std::lock_guard lock(mutex_);
      health_.reset();  // what the one before it said says nothing of this one
    }
    database_ = std::make_unique<Database>(std::move(with), shards.executor(0), LogSink::none(), metrics, heard);
    for (auto& schema : schemas) database_->add(std::move(schema));
    database_->start();
  }
  void close() {
    if (!database_) return;
    shards.run(database_->stop());
    database_.reset();
  }
  Database& database() { return *database_; }
  /// Waits until the word on its health is this one; "" is well.
  bool becomes(const std::string& word) {
    std::unique_lock lock(mutex_);
    return healths_.wait_for(lock, std::chrono::seconds(20), [&] { return health_ == word; });
  }

  template <class T>
  T wait(core::awaitable<T> work) {
    std::optional<T> result;
    shards.run([](core::awaitable<T> inner, std::optional<T>& out) -> core::awaitable<void> {
      out.emplace(co_await std::move(inner));
    }(std::move(work), result));
    return std::move(*result);
  }
  /// As an ingress does: whoever is late is cancelled. @return none: it was
  template <class T>
  std::optional<T> wait_until_late(core::awaitable<T> work, std::chrono::milliseconds timeout) {
    std::optional<T> result;
    shards.run([](core::awaitable<T> inner, std::optional<T>& out, std::chrono::milliseconds length) -> core::awaitable<void> {
      using namespace boost::asio::experimental::awaitable_operators;
      boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor, length);
      auto first = co_await (std::move(inner) || timer.async_wait(boost::asio::use_awaitable));
      if (first.index() == 0) out.emplace(std::move(std::get<0>(first)));
    }(std::move(work), result, timeout));
    return result;
  }
  template <class T>
  std::vector<std::future<T>> start_all(std::vector<core::awaitable<T>> works) {
    auto keep = [](core::awaitable<T> work, std::shared_ptr<std::promise<T>> answer) -> core::awaitable<void> {
      answer->set_value(co_await std::move(work));
    };
    std::vector<std::future<T>> futures;
    for (auto& work : works) {
      auto answer = std::make_shared<std::promise<T>>();
      futures.push_back(answer->get_future());
      boost::asio::co_spawn(shards.executor(shard_++ % shards.size()), keep(std::move(work), std::move(answer)), [](std::exception_ptr) {});
    }
    return futures;
  }

  flexi::testing::PgDatabase fresh;
  Metrics metrics;
  Shards shards{2};

 private:
  std::unique_ptr<Database> database_;
  std::mutex mutex_;
  std::condition_variable healths_;
  std::optional<std::string> health_;
  unsigned shard_ = 0;
};

}  // namespace flexi::runtime::postgres
