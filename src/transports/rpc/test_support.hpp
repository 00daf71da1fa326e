// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <functional>
#include <map>
#include <mutex>

#include "runtime/json.hpp"
#include "runtime/task_scope.hpp"
#include "transports/rpc/rpc.hpp"

namespace flexi::transports::rpc {

using namespace std::chrono_literals;

/// Says what it was asked, or does what the action's name says.
class Mirror final : public core::Handler {
 public:
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override {
    ++calls;
    {
      std::lock_guard lock(mutex);
      last = request;
      last_context = context;
    }
    if (request.action == "wait") co_return co_await wait();
    if (request.action == "big") co_return core::Reply{.message = std::string(100'000, 'x')};
    if (request.action == "logs.tail") {
      core::Reply reply{.message = "tailing"};
      reply.events = std::make_unique<Numbers>(*this);
      co_return reply;
    }
    if (request.action == "auth") {
      if (std::get<core::Credentials>(request.payload).password != "secret") co_return core::unauthenticated("invalid credentials");
      co_return core::Reply{.message = "Logged in user", .data = kUser};
    }
    if (request.action == "unknown") co_return core::unimplemented("unknown action");
    core::Reply reply{.message = "logged", .way = "mirror"};
    if (auto* entry = std::get_if<core::LogEntry>(&request.payload); entry && entry->data.size() < 100) runtime::append_json_string(reply.data, entry->data);
    if (auto* json = std::get_if<core::Json>(&request.payload)) reply.data = json->text;
    co_return reply;
  }

  static constexpr const char* kUser =
      R"({"id":7,"email":"a@b","first_name":"A","active":1,"created_at":"2026-01-01T00:00:00.000000Z","updated_at":"2026-01-02T00:00:00.000000Z"})";

  std::atomic<int> calls = 0, waiting = 0, cancelled = 0, events = 0, tails = 0;
  std::atomic<bool> released = false, endless = false;
  std::mutex mutex;
  core::Request last;
  core::CallContext last_context;

 private:
  /// Until cancelled or released.
  core::awaitable<core::Result<core::Reply>> wait() {
    co_await boost::asio::this_coro::throw_if_cancelled(false);
    boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor);
    ++waiting;
    for (;;) {
      timer.expires_after(1ms);
      boost::system::error_code ec;
      co_await timer.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ec));
      if ((co_await boost::asio::this_coro::cancellation_state).cancelled() != boost::asio::cancellation_type::none) {
        ++cancelled;
        co_return core::cancelled("cancelled");
      }
      if (released) co_return core::Reply{.message = "released"};
    }
  }

  /// {"n":1}, {"n":2}, … for ever, or three of them and then silence until it is cancelled.
  class Numbers final : public core::EventStream {
   public:
    explicit Numbers(Mirror& mirror) : mirror_(mirror) { ++mirror_.tails; }
    ~Numbers() override { --mirror_.tails; }
    core::awaitable<core::Result<std::optional<std::string>>> next(core::CallContext) override {
      co_await boost::asio::this_coro::throw_if_cancelled(false);
      if (mirror_.endless || n_ < 3) {
        ++mirror_.events;
        co_return std::optional("{\"n\":" + std::to_string(++n_) + (mirror_.endless ? ",\"filler\":\"" + std::string(1000, 'x') + "\"}" : "}"));
      }
      boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor, 60s);
      boost::system::error_code ec;
      co_await timer.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ec));
      co_return core::cancelled("cancelled");
    }

   private:
    Mirror& mirror_;
    int n_ = 0;
  };
};

inline boost::asio::awaitable<void> until(std::function<bool()> condition) {
  boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor);
  const auto give_up = std::chrono::steady_clock::now() + 20s;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > give_up) {
      ADD_FAILURE() << "waited in vain";
      co_return;
    }
    timer.expires_after(1ms);
    co_await timer.async_wait(boost::asio::use_awaitable);
  }
}

/// A server of ours with everything it needs, on a free port.
class RpcTest : public testing::Test {
 protected:
  RpcTest() { options.listen = "127.0.0.1:0"; }
  ~RpcTest() override {
    stop();
    shards.join();
  }

  void serve() {
    server = std::move(rpc::serve(options, {process, broker ? &mirror : nullptr, services ? &mirror : nullptr, {}})).value();
    port = static_cast<unsigned>(std::stoi(server->endpoint().substr(server->endpoint().rfind(':') + 1)));
  }
  void stop(std::chrono::milliseconds grace = 1s) {
    if (server) run(stop_server(server.get(), grace));
    server.reset();
  }
  void run(boost::asio::awaitable<void> work) { shards.run(std::move(work)); }
  void wait_until(std::function<bool()> condition) { run(until(std::move(condition))); }
  static boost::asio::awaitable<void> stop_server(core::Server* s, std::chrono::milliseconds grace) { co_await s->stop({.grace = grace}); }
  static boost::asio::awaitable<void> stop_client(core::Client* c) { co_await c->stop({.grace = 1s}); }
  double connections() { return process.metrics.gauge("flexi_rpc_connections", "Open RPC connections").value(); }

  runtime::Metrics metrics;
  runtime::Readiness readiness;
  runtime::Shards shards{2};
  Process process{metrics, readiness, runtime::LogSink::none(), shards, "token"};
  RpcServerOptions options;
  Mirror mirror;
  bool broker = true, services = true;
  std::unique_ptr<core::Server> server;
  unsigned port = 0;
};

}  // namespace flexi::transports::rpc
