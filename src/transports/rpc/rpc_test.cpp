// SPDX-License-Identifier: Apache-2.0
// Our client and our server together, beyond what conformance asks of every transport.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/use_future.hpp>
#include <map>
#include <set>
#include <thread>

#include "core/timestamp.hpp"
#include "transports/rpc/test_support.hpp"

namespace flexi::transports::rpc {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using core::CallContext;
using core::ErrorKind;
using core::Reply;
using core::Result;

core::Request log_request(std::string data = "x") {
  core::Request request;
  request.id = core::MessageId::generate();
  request.action = "log";
  request.payload = core::LogEntry{"n", std::move(data)};
  return request;
}

core::Request action_request(std::string action) {
  auto request = log_request();
  request.action = std::move(action);
  request.payload = core::Json{"{}"};
  return request;
}

class RpcBothEnds : public RpcTest {
 protected:
  ~RpcBothEnds() override { drop_client(); }
  void drop_client() {
    if (client) run(stop_client(client.get()));
    client.reset();
  }
  void connect(const std::string& endpoint) { client = std::move(rpc::connect(client_options, process, endpoint)).value(); }
  static asio::awaitable<void> call_into(core::Handler* target, core::Request request, CallContext context, std::optional<Result<Reply>>* result) {
    result->emplace(co_await target->handle(std::move(request), context));
  }
  Result<Reply> call(core::Request request, CallContext context = CallContext::with_timeout(10s)) {
    std::optional<Result<Reply>> result;
    run(call_into(client.get(), std::move(request), context, &result));
    return std::move(*result);
  }
  using Event = Result<std::optional<std::string>>;
  static asio::awaitable<void> next_into(core::EventStream* stream, CallContext context, std::optional<Event>* event) {
    event->emplace(co_await stream->next(context));
  }
  Event next(core::EventStream& stream, std::chrono::milliseconds timeout = 10s) {
    std::optional<Event> event;
    run(next_into(&stream, CallContext::with_timeout(timeout), &event));
    return std::move(*event);
  }
  static asio::awaitable<void> destroy(std::unique_ptr<core::EventStream>* stream) {
    stream->reset();
    co_return;
  }

  RpcClientOptions client_options;
  std::unique_ptr<core::Client> client;
};

TEST_F(RpcBothEnds, WhatGoesBetweenOursArrives) {
  serve();
  connect(server->endpoint());
  auto request = log_request();
  request.accepted_at = core::from_unix_micros(1'700'000'000'123'456);
  auto context = CallContext::with_timeout(5s);
  context.caller = "admin";
  context.hops = "broker@1795000000000000";
  ASSERT_TRUE(call(request, context));
  EXPECT_EQ(mirror.last_context.caller, "admin");
  EXPECT_EQ(mirror.last_context.hops, context.hops);
  EXPECT_EQ(mirror.last.accepted_at, request.accepted_at);
  EXPECT_FALSE(mirror.last.id_from_caller);
  ASSERT_TRUE(call(log_request()));
  EXPECT_EQ(mirror.last_context.caller, "");
  context.hops = std::string(CallContext::kMaxHopsBytes + 1, 'x');
  ASSERT_TRUE(call(request, context));
  EXPECT_EQ(mirror.last_context.hops, "") << "too long to be carried";
}

TEST_F(RpcBothEnds, EachActionHasItsMethod) {
  serve();
  connect(server->endpoint());
  auto request = log_request();
  request.action = "auth";
  request.payload = core::Credentials{"a@b", "secret"};
  EXPECT_EQ(call(request).value().data, Mirror::kUser);
  request.payload = core::Credentials{"a@b", "wrong"};
  EXPECT_EQ(call(request).error().kind, ErrorKind::unauthenticated);
  request.action = "mail";
  request.payload = core::Mail{"f@x", "t@x", "s", "m"};
  ASSERT_TRUE(call(request));
  EXPECT_TRUE(core::same_payload(mirror.last.payload, request.payload));
  request.payload = core::Mail{"f", "t", "s", "", "c", "b", "r", "x", R"({"a":[1]})", {{"n", "a/b", std::string("\0\xff", 2)}, {"e", "", ""}}};
  ASSERT_TRUE(call(request));
  EXPECT_TRUE(core::same_payload(mirror.last.payload, request.payload));
  request.action = "custom";
  request.payload = core::Json{R"({"a":[1,2]})"};
  EXPECT_EQ(call(request).value().data, R"({"a":[1,2]})");
  request.payload = core::Json{"not JSON"};
  EXPECT_EQ(call(request).error().kind, ErrorKind::invalid_argument);
}

TEST_F(RpcBothEnds, TheClientRefusesWhatThePeerWouldNotTake) {
  serve();
  client_options.max_request_bytes = 100;
  connect(server->endpoint());
  const auto refused = call(log_request(std::string(100, 'x')));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::invalid_argument);
  EXPECT_EQ(refused.error().sent, core::Sent::no);
  EXPECT_EQ(mirror.calls, 0);
}

TEST_F(RpcBothEnds, CallsOverTheClientsLimitAreOverloaded) {
  serve();
  client_options.max_calls = 1;
  connect(server->endpoint());
  auto work = [](core::Client* c, Mirror* m) -> asio::awaitable<void> {
    runtime::TaskScope scope(co_await asio::this_coro::executor, "calls", runtime::LogSink::none());
    std::optional<Result<Reply>> first;
    scope.spawn(call_into(c, action_request("wait"), CallContext::with_timeout(10s), &first));
    co_await until([&] { return m->waiting == 1; });
    const auto second = co_await c->handle(log_request(), CallContext::with_timeout(10s));
    EXPECT_TRUE(!second && second.error().kind == ErrorKind::overloaded && second.error().retry_after);
    m->released = true;
    co_await scope.join();
    EXPECT_TRUE(*first);
  }(client.get(), &mirror);
  run(std::move(work));
}

TEST_F(RpcBothEnds, TheClientKeepsTheDeadlineItself) {
  serve();
  connect(server->endpoint());
  const auto late = call(action_request("wait"), CallContext::with_timeout(50ms));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().kind, ErrorKind::deadline_exceeded);
  EXPECT_EQ(late.error().sent, core::Sent::maybe);
  wait_until([&] { return mirror.cancelled == 1; });
}

TEST_F(RpcBothEnds, AServerThatIsFullIsOverloadedNotGone) {
  options.max_connections = 1;
  serve();
  connect(server->endpoint());
  ASSERT_TRUE(call(log_request()));
  auto second = std::move(rpc::connect({}, process, server->endpoint())).value();
  std::optional<Result<Reply>> result;
  run(call_into(second.get(), log_request(), CallContext::with_timeout(5s), &result));
  ASSERT_FALSE(*result);
  EXPECT_EQ(result->error().kind, ErrorKind::overloaded) << result->error().detail;
  run(stop_client(second.get()));
}

/// Accepts, reads something, and closes or stays silent.
class BadPeer {
 public:
  enum class Then { close, silence };
  BadPeer(runtime::Shards& shards, Then then) : acceptor_(shards.executor(1), tcp::endpoint(asio::ip::address_v4::loopback(), 0)), then_(then) {
    done_ = asio::co_spawn(shards.executor(1), run(), asio::use_future);
  }
  ~BadPeer() { done_.get(); }
  std::string endpoint() const { return "rpc://127.0.0.1:" + std::to_string(acceptor_.local_endpoint().port()); }
  std::atomic<int> accepted = 0;

 private:
  asio::awaitable<void> run() {
    for (int i = 0; i < 2; ++i) {
      auto socket = co_await acceptor_.async_accept(asio::use_awaitable);
      ++accepted;
      char bytes[16];
      co_await socket.async_read_some(asio::buffer(bytes), asio::use_awaitable);
      if (then_ == Then::silence) held_.push_back(std::move(socket));
    }
  }
  tcp::acceptor acceptor_;
  const Then then_;
  std::vector<tcp::socket> held_;
  std::future<void> done_;
};

TEST_F(RpcBothEnds, ABrokenConnectionLeavesTheCallInDoubt) {
  BadPeer peer(shards, BadPeer::Then::close);
  connect(peer.endpoint());
  for (int i = 0; i < 2; ++i) {
    const auto broken = call(log_request());
    ASSERT_FALSE(broken);
    EXPECT_EQ(broken.error().kind, ErrorKind::unavailable);
    EXPECT_EQ(broken.error().sent, core::Sent::maybe);
  }
}

TEST_F(RpcBothEnds, APeerThatSaysNothingIsTakenForDead) {
  BadPeer peer(shards, BadPeer::Then::silence);
  connect(peer.endpoint());
  EXPECT_EQ(call(log_request(), CallContext::with_timeout(2100ms)).error().kind, ErrorKind::deadline_exceeded);
  // Another connection is tried.
  EXPECT_EQ(call(log_request(), CallContext::with_timeout(100ms)).error().kind, ErrorKind::deadline_exceeded);
  EXPECT_EQ(peer.accepted, 2);
}

TEST_F(RpcBothEnds, AnUnusedConnectionIsClosedAndMadeAgain) {
  serve();
  client_options.idle_timeout = 100ms;
  connect(server->endpoint());
  ASSERT_TRUE(call(log_request()));
  EXPECT_EQ(connections(), 1);
  wait_until([&] { return connections() == 0; });
  EXPECT_TRUE(call(log_request()));
}

TEST_F(RpcBothEnds, AnyThreadMayCall) {
  serve();
  connect(server->endpoint());
  asio::io_context io;
  std::optional<Result<Reply>> result;
  auto done = asio::co_spawn(io, call_into(client.get(), log_request(), CallContext::with_timeout(5s), &result), asio::use_future);
  std::thread([&] { io.run(); }).join();
  done.get();
  EXPECT_TRUE(*result);
}

TEST_F(RpcBothEnds, AllAddressesOfAPeerAreUsedAndOneThatStopsLosesNothing) {
  Mirror other_mirror;
  std::unique_ptr<core::Server> other;
  // One port that is free at both addresses.
  for (int i = 0; i < 100 && !other; ++i) {
    stop();
    serve();
    auto other_options = options;
    other_options.listen = "127.0.0.2:" + std::to_string(port);
    if (auto made = rpc::serve(other_options, {process, nullptr, &other_mirror, {}})) other = std::move(made.value());
  }
  ASSERT_TRUE(other);
  client_options.set_aside = 60'000ms;
  connect("rpc://127.0.0.1,127.0.0.2:" + std::to_string(port));
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(call(log_request()));
  EXPECT_EQ(mirror.calls + other_mirror.calls, 20);
  EXPECT_EQ(mirror.calls, 10);
  auto work = [](core::Client* c, core::Server* s) -> asio::awaitable<void> {
    runtime::TaskScope scope(co_await asio::this_coro::executor, "stop", runtime::LogSink::none());
    scope.spawn(stop_server(s, 5s));
    for (int i = 0; i < 200; ++i) {
      const auto reply = co_await c->handle(log_request(), CallContext::with_timeout(5s));
      EXPECT_TRUE(reply) << i;
    }
    co_await scope.join();
    for (int i = 0; i < 20; ++i) {
      const auto reply = co_await c->handle(log_request(), CallContext::with_timeout(5s));
      EXPECT_TRUE(reply) << i;
    }
  }(client.get(), server.get());
  run(std::move(work));
  server.reset();
  run(stop_server(other.get(), 1s));
}

/// The file descriptors of this process's sockets of one port: the client's ends, or the accepted ones.
enum class End { client, server };
std::map<int, unsigned> sockets_of(unsigned port, End end) {
  std::map<int, unsigned> found;  // with the client's port
  for (int fd = 3; fd < 1024; ++fd) {
    sockaddr_in here{}, there{};
    socklen_t size = sizeof here, there_size = sizeof there;
    if (::getsockname(fd, reinterpret_cast<sockaddr*>(&here), &size) != 0 || here.sin_family != AF_INET) continue;
    if (::getpeername(fd, reinterpret_cast<sockaddr*>(&there), &there_size) != 0) continue;
    if (ntohs(end == End::client ? there.sin_port : here.sin_port) == port) found[fd] = ntohs(end == End::client ? here.sin_port : there.sin_port);
  }
  return found;
}

TEST_F(RpcBothEnds, OneKeptConnectionPerShardCarriesAllCalls) {
  serve();
  connect(server->endpoint());
  std::set<unsigned> client_ports;
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(call(log_request()));
    for (auto& [fd, client_port] : sockets_of(port, End::client)) client_ports.insert(client_port);
  }
  EXPECT_GE(client_ports.size(), 1u);
  EXPECT_LE(client_ports.size(), shards.size());
}

TEST_F(RpcBothEnds, APeerThatVanishesBehindAQuietTailIsNoticedByTheSystem) {
  serve();
  connect(server->endpoint());
  auto reply = call(action_request("logs.tail"));
  ASSERT_TRUE(reply);
  for (auto end : {End::client, End::server}) {
    const auto sockets = sockets_of(port, end);
    ASSERT_FALSE(sockets.empty());
    for (auto& [fd, client_port] : sockets) {
      const auto option = [fd = fd](int level, int name) {
        int value = 0;
        socklen_t size = sizeof value;
        EXPECT_EQ(::getsockopt(fd, level, name, &value, &size), 0);
        return value;
      };
      EXPECT_EQ(option(SOL_SOCKET, SO_KEEPALIVE), 1);
      EXPECT_EQ(option(IPPROTO_TCP, TCP_KEEPIDLE) + option(IPPROTO_TCP, TCP_KEEPINTVL) * option(IPPROTO_TCP, TCP_KEEPCNT), 60);
      EXPECT_EQ(option(IPPROTO_TCP, TCP_USER_TIMEOUT), 60'000);
    }
  }
}

TEST_F(RpcBothEnds, ATailArrivesAndEndsWithItsReader) {
  serve();
  connect(server->endpoint());
  auto reply = call(action_request("logs.tail")).value();
  EXPECT_EQ(reply.message, "tailing");
  ASSERT_TRUE(reply.events);
  for (int i = 1; i <= 3; ++i) EXPECT_EQ(next(*reply.events).value(), "{\"n\":" + std::to_string(i) + "}");
  EXPECT_EQ(next(*reply.events, 20ms).error().kind, ErrorKind::deadline_exceeded);
  EXPECT_TRUE(call(log_request())) << "beside it";
  EXPECT_EQ(mirror.tails, 1);
  reply.events.reset();  // on this thread, which is none of the shards'
  wait_until([&] { return mirror.tails == 0; });
}

TEST_F(RpcBothEnds, ATailWaitsForItsReader) {
  mirror.endless = true;
  serve();
  client_options.event_buffer = 10;
  connect(server->endpoint());
  auto reply = call(action_request("logs.tail")).value();
  wait_until([&, last = -1, same = 0]() mutable {
    same = std::exchange(last, mirror.events.load()) == mirror.events ? same + 1 : 0;
    return same == 50 && last > 0;
  });
  EXPECT_LT(mirror.events, 500);
  for (int i = 1; i <= 1000; ++i) ASSERT_THAT(next(*reply.events).value().value(), testing::StartsWith("{\"n\":" + std::to_string(i) + ","));
  run(destroy(&reply.events));
  wait_until([&] { return mirror.tails == 0; });
}

TEST_F(RpcBothEnds, AStopEndsTails) {
  serve();
  connect(server->endpoint());
  auto reply = call(action_request("logs.tail")).value();
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(next(*reply.events));
  stop();
  const auto end = next(*reply.events);
  ASSERT_FALSE(end);
  EXPECT_EQ(end.error().kind, ErrorKind::unavailable);
  EXPECT_EQ(mirror.tails, 0);
}

TEST_F(RpcBothEnds, AStoppedClientEndsTails) {
  serve();
  connect(server->endpoint());
  auto reply = call(action_request("logs.tail")).value();
  drop_client();
  while (auto event = next(*reply.events)) ASSERT_TRUE(event.value());
  wait_until([&] { return mirror.tails == 0; });
}

}  // namespace
}  // namespace flexi::transports::rpc
