// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_future.hpp>
#include <filesystem>
#include <future>

#include "transports/queue/embedded_queue.hpp"

namespace flexi::transports::queue::testing {

namespace asio = boost::asio;
using core::Ack;
using core::Reply;
using core::Request;
using core::Result;

/// Answers each message as it is told, and remembers them in order.
class ScriptedHandler final : public core::Handler {
 public:
  using Script = std::function<Result<Reply>(const Request&, unsigned attempt)>;
  explicit ScriptedHandler(Script script = nullptr) : script_(std::move(script)) {}

  asio::awaitable<Result<Reply>> handle(Request request, core::CallContext context) override {
    bool held;
    unsigned attempt;
    {
      std::lock_guard lock(mutex_);
      seen_.push_back(request.id.str());
      attempt = ++attempts_[request.id.str()];
      last_ = request;
      last_context_ = context;
      held = hold_;
      changed_.notify_all();
    }
    if (held) {
      asio::steady_timer forever(co_await asio::this_coro::executor, asio::steady_timer::time_point::max());
      co_await forever.async_wait(asio::use_awaitable);
    }
    if (script_) co_return script_(request, attempt);
    Reply reply;
    reply.message = "done " + request.id.str();
    co_return reply;
  }
  /// From now on a call ends by cancellation only.
  void hold(bool on) {
    std::lock_guard lock(mutex_);
    hold_ = on;
  }
  bool wait_for_calls(std::size_t count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(30), [&] { return seen_.size() >= count; });
  }
  std::vector<std::string> seen() const {
    std::lock_guard lock(mutex_);
    return seen_;
  }
  core::CallContext last_context() const {
    std::lock_guard lock(mutex_);
    return last_context_;
  }
  Request last() const {
    std::lock_guard lock(mutex_);
    return last_;
  }

 private:
  Script script_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> seen_;
  std::map<std::string, unsigned> attempts_;
  Request last_;
  core::CallContext last_context_;
  bool hold_ = false;
};

inline Request log_request(const std::string& id, const std::string& data = "data", std::optional<Ack> ack = Ack::accepted) {
  Request request;
  request.id = core::MessageId::parse(id).value();
  request.action = "log";
  request.payload = core::LogEntry{"test", data};
  request.ack = ack;
  request.accepted_at = std::chrono::system_clock::now();
  return request;
}

class QueueTest : public ::testing::Test {
 protected:
  QueueTest() {
    std::string name = ::testing::TempDir() + "flexi-queue-XXXXXX";
    folder_ = ::mkdtemp(name.data());
    options_.retry_delay = std::chrono::milliseconds(1);
    options_.max_retry_delay = std::chrono::milliseconds(5);
  }
  ~QueueTest() override {
    close();
    std::filesystem::remove_all(folder_);
  }
  std::string file() const { return folder_ + "/queue.db"; }

  void open() {
    database_ = std::move(runtime::sqlite::Database::open({.path = file()}, runtime::LogSink::none(), metrics_)).value();
    EmbeddedQueue::Environment environment{*database_, shards_, runtime::LogSink::none(), metrics_, [this] { return std::chrono::system_clock::now() + shift_.load(); }};
    queue_ = std::move(EmbeddedQueue::open(environment, options_)).value();
  }
  void serve(core::Handler& handler) { server_ = std::move(queue_->serve(handler)).value(); }
  void stop_server(std::chrono::milliseconds grace = std::chrono::seconds(5)) {
    if (server_) run(server_->stop({grace}));
    server_.reset();
  }
  void close() {
    stop_server();
    if (queue_) run(queue_->stop());
    queue_.reset();
    database_.reset();
  }
  void reopen() {
    close();
    open();
  }
  template <class T>
  T run(asio::awaitable<T> work) {
    if constexpr (std::is_void_v<T>) {
      shards_.run(std::move(work));
    } else {
      std::optional<T> result;
      auto store = [](asio::awaitable<T> inner, std::optional<T>* out) -> asio::awaitable<void> { out->emplace(co_await std::move(inner)); };
      shards_.run(store(std::move(work), &result));
      return std::move(*result);
    }
  }
  Result<Reply> publish(Request request, core::CallContext context = core::CallContext::with_timeout(std::chrono::seconds(30))) {
    return run(queue_->publish(std::move(request), std::move(context)));
  }
  LedgerLine ledger() { return run(queue_->ledger({})).value().total(); }
  core::DeadLetterPage dead() { return run(queue_->list(500, "", {})).value(); }
  /// Blocks until `what` holds: asks the ledger again and again, which is a query each time.
  template <class What>
  bool eventually(What what) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (std::chrono::steady_clock::now() < until)
      if (what()) return true;
    return false;
  }
  std::int64_t rows(const std::string& table) {
    auto job = [table](runtime::sqlite::Connection& c) -> Result<std::int64_t> {
      auto row = c.use("SELECT count(*) FROM " + table);
      FLEXI_TRY(row.step());
      return row.integer(0);
    };
    return run(database_->read(job, {})).value();
  }

  std::string folder_;
  QueueOptions options_;
  std::atomic<std::chrono::seconds> shift_{std::chrono::seconds(0)};
  runtime::Metrics metrics_;
  runtime::Shards shards_{2};
  std::unique_ptr<runtime::sqlite::Database> database_;
  std::unique_ptr<EmbeddedQueue> queue_;
  std::unique_ptr<core::Server> server_;
};

}  // namespace flexi::transports::queue::testing
