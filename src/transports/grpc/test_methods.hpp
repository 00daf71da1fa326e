// SPDX-License-Identifier: Apache-2.0
#pragma once
// For tests: methods that do what their name says, on one shard or more.

#include <gtest/gtest.h>

#include <atomic>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <functional>

#include "runtime/task_scope.hpp"
#include "transports/grpc/channel.hpp"
#include "transports/grpc/server.hpp"

namespace flexi::transports::grpc::test {

using namespace std::chrono_literals;
using boost::asio::use_awaitable;

struct Seen {
  std::atomic<int> started = 0, ended = 0, cancelled = 0, written = 0, read = 0;
  std::atomic<bool> released = false;
};

inline core::awaitable<void> pause() {
  boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor, 1ms);
  boost::system::error_code ignored;
  co_await timer.async_wait(boost::asio::redirect_error(use_awaitable, ignored));
}
inline core::awaitable<void> until(std::function<bool()> condition) {
  const auto give_up = std::chrono::steady_clock::now() + 20s;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > give_up) {
      ADD_FAILURE() << "waited in vain";
      co_return;
    }
    co_await pause();
  }
}
inline core::awaitable<bool> wait_for_release(Seen* seen) {
  co_await boost::asio::this_coro::throw_if_cancelled(false);
  ++seen->started;
  while (!seen->released) {
    co_await pause();
    if ((co_await boost::asio::this_coro::cancellation_state).cancelled() != boost::asio::cancellation_type::none) {
      ++seen->cancelled;
      ++seen->ended;
      co_return false;
    }
  }
  ++seen->ended;
  co_return true;
}

/// Answers the request, with its own metadata back in header and trailer.
inline core::awaitable<UnaryAnswer> echo(ServerCall* call, std::string request, Seen* seen) {
  ++seen->started;
  for (std::size_t i = 0; i < call->metadata().size(); ++i) {
    const auto entry = call->metadata()[i];
    call->initial_metadata().add("i-" + std::string(entry.key), entry.value);
    call->trailing_metadata().add("t-" + std::string(entry.key), entry.value);
  }
  co_return UnaryAnswer{{}, std::move(request)};
}
inline void add_some(Metadata& metadata, const char* key) {
  for (int i = 0; i < 50; ++i) metadata.add(key, "what nobody asked for");
}
/// Says more than can be sent any more: behind the header, and at the time when its deadline ends it.
inline core::awaitable<Status> late(ServerCall* call) {
  co_await boost::asio::this_coro::throw_if_cancelled(false);
  if (call->context().remaining() > std::chrono::seconds(5)) {
    call->initial_metadata().add("early", "in time");
    (void)co_await call->write("message");
    add_some(call->initial_metadata(), "late");
    co_return Status{};
  }
  boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor, call->context().deadline);
  boost::system::error_code ignored;
  co_await timer.async_wait(boost::asio::redirect_error(use_awaitable, ignored));
  add_some(call->trailing_metadata(), "late");
  co_return Status{Code::cancelled, "cancelled"};
}
inline core::awaitable<UnaryAnswer> fail(std::string request) { co_return UnaryAnswer{{Code::already_exists, request, "details\x01"}, "not sent"}; }
inline core::awaitable<UnaryAnswer> wait(std::string, Seen* seen) {
  co_await boost::asio::this_coro::throw_if_cancelled(false);
  const bool released = co_await wait_for_release(seen);
  co_return UnaryAnswer{released ? Status{} : Status{Code::cancelled, "cancelled"}, "released"};
}
inline core::awaitable<UnaryAnswer> peer_of(ServerCall* call) { co_return UnaryAnswer{{}, std::string(call->peer())}; }
inline core::awaitable<UnaryAnswer> throws() {
  throw std::runtime_error("secret words");
  co_return UnaryAnswer{};
}
/// As many bytes as the request says.
inline core::awaitable<UnaryAnswer> bytes(std::string request) { co_return UnaryAnswer{{}, std::string(std::stoul(request), 'b')}; }

inline core::awaitable<Status> bidi(ServerCall* call, Seen* seen) {
  co_await boost::asio::this_coro::throw_if_cancelled(false);
  ++seen->started;
  for (;;) {
    auto message = co_await call->read();
    if (!message || !message.value()) {
      ++seen->ended;
      if (!message) ++seen->cancelled;
      co_return message ? Status{} : to_status(message.error());
    }
    ++seen->read;
    auto written = co_await call->write(std::move(*message.value()));
    if (!written) {
      ++seen->ended, ++seen->cancelled;
      co_return to_status(written.error());
    }
    ++seen->written;
  }
}
/// As many messages of 1000 bytes as the request says.
inline core::awaitable<Status> many(ServerCall* call, Seen* seen) {
  co_await boost::asio::this_coro::throw_if_cancelled(false);
  ++seen->started;
  auto request = co_await call->read();
  if (!request || !request.value()) co_return Status{Code::invalid_argument, "how many?"};
  const auto count = std::stoul(*request.value());
  for (std::size_t i = 0; i < count; ++i) {
    auto written = co_await call->write(std::string(1000, 'm'));
    if (!written) {
      ++seen->ended, ++seen->cancelled;
      co_return to_status(written.error());
    }
    ++seen->written;
  }
  call->trailing_metadata().add("count", std::to_string(count));
  ++seen->ended;
  co_return Status{};
}
/// Reads nothing until it is released, then counts the bytes.
inline core::awaitable<Status> count_late(ServerCall* call, Seen* seen) {
  co_await boost::asio::this_coro::throw_if_cancelled(false);
  if (!co_await wait_for_release(seen)) co_return Status{Code::cancelled, "cancelled"};
  std::size_t total = 0;
  for (;;) {
    auto message = co_await call->read();
    if (!message) co_return to_status(message.error());
    if (!message.value()) break;
    total += message.value()->size();
    ++seen->read;
  }
  auto written = co_await call->write(std::to_string(total));
  co_return written ? Status{} : to_status(written.error());
}
/// Works with its one message until it is released.
inline core::awaitable<Status> hold(ServerCall* call, Seen* seen) {
  co_await boost::asio::this_coro::throw_if_cancelled(false);
  auto message = co_await call->read();
  if (!message || !message.value()) co_return Status{Code::invalid_argument, "what?"};
  call->hold(static_cast<std::int64_t>(message.value()->size()));
  co_await wait_for_release(seen);
  co_return Status{};
}
inline core::awaitable<Status> watch(ServerCall* call, Seen* seen) {
  co_await boost::asio::this_coro::throw_if_cancelled(false);
  call->send_initial_metadata();
  co_await wait_for_release(seen);
  co_return Status{};
}

inline MethodTable test_methods(Seen& seen) {
  MethodTable methods;
  methods.add_unary("/t/Echo", [&seen](ServerCall& call, std::string request) { return echo(&call, std::move(request), &seen); });
  methods.add_unary("/t/Fail", [](ServerCall&, std::string request) { return fail(std::move(request)); });
  methods.add_unary("/t/Wait", [&seen](ServerCall&, std::string request) { return wait(std::move(request), &seen); });
  methods.add_unary("/t/Peer", [](ServerCall& call, std::string) { return peer_of(&call); });
  methods.add_unary("/t/Throw", [](ServerCall&, std::string) { return throws(); });
  methods.add_unary("/t/Bytes", [](ServerCall&, std::string request) { return bytes(std::move(request)); });
  methods.add_stream("/t/Bidi", [&seen](ServerCall& call) { return bidi(&call, &seen); });
  methods.add_stream("/t/Late", [](ServerCall& call) { return late(&call); });
  methods.add_stream("/t/Many", [&seen](ServerCall& call) { return many(&call, &seen); });
  methods.add_stream("/t/CountLate", [&seen](ServerCall& call) { return count_late(&call, &seen); });
  methods.add_stream("/t/Hold", [&seen](ServerCall& call) { return hold(&call, &seen); });
  methods.add_stream("/t/Watch", [&seen](ServerCall& call) { return watch(&call, &seen); }, Lasts::subscription);
  return methods;
}

/// A server of those methods; a client where a test asks for one.
class GrpcTest : public testing::Test {
 protected:
  void start(GrpcServerOptions options = {}) {
    if (options.listen == GrpcServerOptions{}.listen) options.listen = "127.0.0.1:0";
    server_ = std::move(serve_methods(options, process_, test_methods(seen_))).value();
  }
  void connect(GrpcClientOptions options = {}, std::string endpoint = "") {
    options.set_aside = options.max_set_aside = 10ms;
    channel_ = std::move(Channel::make(options, process_, endpoint.empty() ? server_->endpoint() : endpoint)).value();
  }
  void run(core::awaitable<void> work) { shards_.run(std::move(work)); }
  ClientResult call(std::string_view path, std::string message, Metadata metadata = {}, core::CallContext context = core::CallContext::with_timeout(20s)) {
    ClientResult result;
    run(call_into(channel_.get(), path, std::move(message), std::move(metadata), std::move(context), &result));
    return result;
  }
  static core::awaitable<void> call_into(Channel* channel, std::string_view path, std::string message, Metadata metadata, core::CallContext context, ClientResult* result) {
    *result = co_await channel->unary(path, std::move(message), std::move(metadata), std::move(context));
  }
  static core::awaitable<void> stop_server(core::Server* server, std::chrono::milliseconds grace) { co_await server->stop({.grace = grace}); }
  static core::awaitable<void> stop_channel(Channel* channel) { co_await channel->stop({}); }
  void stop(std::chrono::milliseconds grace = 5s) {
    run(stop_server(server_.get(), grace));
    server_.reset();
  }
  void TearDown() override {
    seen_.released = true;
    if (channel_) run(stop_channel(channel_.get()));
    if (server_) stop();
    channel_.reset();
    shards_.join();
  }
  void wait_until(std::function<bool()> condition) { run(until(std::move(condition))); }

  runtime::Metrics metrics_;
  runtime::Readiness readiness_;
  runtime::Shards shards_{2};
  Process process_{metrics_, readiness_, runtime::LogSink::none(), shards_};
  Seen seen_;
  std::unique_ptr<core::Server> server_;
  std::unique_ptr<Channel> channel_;
};

}  // namespace flexi::transports::grpc::test
