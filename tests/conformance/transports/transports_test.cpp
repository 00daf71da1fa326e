// SPDX-License-Identifier: Apache-2.0
// What every transport promises (STYLE.md, "Tests").
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/write.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <mutex>
#include <set>
#include <sstream>

#include "transports.hpp"
#include "core/timestamp.hpp"
#include "runtime/json.hpp"
#include "runtime/log_sink.hpp"
#include "runtime/task_scope.hpp"

namespace flexi::conformance {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using asio::use_awaitable;
using core::CallContext;
using core::ErrorKind;
using core::Reply;
using core::Request;
using core::Result;

Request log_request(std::string data) {
  Request request;
  request.id = core::MessageId::generate();
  request.action = core::actions::kLog;
  request.payload = core::LogEntry{"n", std::move(data)};
  request.accepted_at = core::from_unix_micros(1'700'000'000'123'456);
  request.ack = core::Ack::stored;  // a queue answers `accepted` by itself
  return request;
}

Request custom_request(std::string action) {
  auto request = log_request("");
  request.action = std::move(action);
  request.payload = core::Json{"{}"};
  return request;
}

/// Does what the action's name says and remembers what it was asked.
class TestHandler final : public core::Handler {
 public:
  core::awaitable<Result<Reply>> handle(Request request, CallContext context) override {
    ++calls;
    const auto action = request.action;
    {
      std::lock_guard lock(mutex);
      last_request = request;
      last_context = context;
    }
    if (action == core::actions::kLog) {
      Reply reply{.message = "logged"};
      const auto& data = std::get<core::LogEntry>(request.payload).data;
      if (data.size() < 100) runtime::append_json_string(reply.data, data);
      reply.duplicate = data == "twice";
      co_return reply;
    }
    if (action == core::actions::kAuth) {
      Reply reply;
      reply.message = "Logged in user a@b";
      reply.data = R"({"id":1,"email":"a@b","active":1,"created_at":"2026-11-24T09:30:00.000000Z","updated_at":"2026-11-24T09:30:00.000000Z"})";
      reply.token = "eyJhbGciOiJIUzI1NiJ9.e30.x";
      co_return reply;
    }
    if (action == "throw") throw std::runtime_error("secret words");
    if (action == "wait") co_return co_await wait();
    for (auto kind : core::kAllErrorKinds)
      if (action == core::to_string(kind)) {
        core::Error error{.kind = kind, .message = "message of " + action, .detail = "secret detail"};
        if (kind == ErrorKind::overloaded) error.retry_after = 3s;
        co_return error;
      }
    co_return core::unimplemented("unknown action");
  }

  /// Until cancelled or released.
  core::awaitable<Result<Reply>> wait() {
    co_await asio::this_coro::throw_if_cancelled(false);
    asio::steady_timer timer(co_await asio::this_coro::executor, 30s);
    ++waiting;
    for (;;) {
      timer.expires_after(1ms);
      boost::system::error_code ec;
      co_await timer.async_wait(asio::redirect_error(use_awaitable, ec));
      if ((co_await asio::this_coro::cancellation_state).cancelled() != asio::cancellation_type::none) {
        ++cancelled;
        co_return core::cancelled("cancelled");
      }
      if (!released) continue;
      ++ended;
      co_return Reply{.message = "released"};
    }
  }

  std::atomic<int> calls = 0, waiting = 0, cancelled = 0, ended = 0;
  std::atomic<bool> released = false;
  std::mutex mutex;
  Request last_request;
  CallContext last_context;
};

asio::awaitable<void> until(const std::function<bool()>& condition) {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  const auto give_up = std::chrono::steady_clock::now() + 20s;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > give_up) {
      ADD_FAILURE() << "waited in vain";
      co_return;
    }
    timer.expires_after(1ms);
    co_await timer.async_wait(use_awaitable);
  }
}

std::size_t open_files() {
  std::size_t count = 0;
  for ([[maybe_unused]] auto& file : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

/// Ports that this process listens on.
std::size_t listening_ports() {
  std::set<std::string> mine;
  for (auto& file : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    mine.insert(std::filesystem::read_symlink(file, gone).string());
  }
  std::size_t count = 0;
  for (const char* table : {"/proc/self/net/tcp", "/proc/self/net/tcp6"}) {
    std::ifstream rows(table);
    for (std::string row; std::getline(rows, row);) {
      std::istringstream words(row);
      std::vector<std::string> columns(std::istream_iterator<std::string>(words), {});
      constexpr std::size_t kState = 3, kInode = 9;
      if (columns.size() > kInode && columns[kState] == "0A") count += mine.count("socket:[" + columns[kInode] + "]");
    }
  }
  return count;
}

class Transports : public testing::TestWithParam<TransportUnderTest> {
 protected:
  void SetUp() override {
    if (GetParam().missing)
      if (auto why = GetParam().missing()) GTEST_SKIP() << *why;
    server = serve();
    client = connect(server->endpoint());
  }
  void TearDown() override {
    if (client) run(stop_client(client.get()));
    if (server) run(stop_server(server.get()));
    client.reset();
    server.reset();
    fixture.reset();
    shards.join();
  }

  std::unique_ptr<core::Server> serve() { return std::move(fixture->transport().serve(handler).value()); }
  std::unique_ptr<core::Client> connect(const std::string& endpoint) { return std::move(fixture->transport().connect(endpoint).value()); }
  void run(asio::awaitable<void> work) { shards.run(std::move(work)); }
  const Capabilities& can() const { return GetParam().can; }

  static asio::awaitable<void> stop_client(core::Client* c) { co_await c->stop({.grace = 1s}); }
  static asio::awaitable<void> stop_server(core::Server* s) { co_await s->stop({.grace = 1s}); }
  static asio::awaitable<void> call_into(core::Handler* target, Request request, CallContext context, std::optional<Result<Reply>>* result) {
    result->emplace(co_await target->handle(std::move(request), context));
  }
  Result<Reply> call(Request request, CallContext context = CallContext::with_timeout(10s)) { return call(*client, std::move(request), context); }
  Result<Reply> call(core::Handler& target, Request request, CallContext context = CallContext::with_timeout(10s)) {
    std::optional<Result<Reply>> result;
    run(call_into(&target, std::move(request), context, &result));
    return std::move(*result);
  }

  /// There is no other: neither absent nor misspelt.
  void expect_that_any_endpoint_is_this_one(const std::string& endpoint) {
    auto other = connect(endpoint);
    EXPECT_TRUE(call(*other, log_request("x")));
    EXPECT_EQ(handler.calls, 1);
    run(stop_client(other.get()));
  }
  /// Nobody from outside can send it garbage, or read slowly.
  void expect_that_serving_opens_no_port() {
    run(stop_server(server.get()));
    server.reset();
    const auto before = listening_ports();
    server = serve();
    EXPECT_TRUE(call(log_request("x")));
    EXPECT_EQ(listening_ports(), before);
  }

  runtime::Shards shards{2};
  std::unique_ptr<TransportFixture> fixture = GetParam().make(shards);
  TestHandler handler;
  std::unique_ptr<core::Server> server;
  std::unique_ptr<core::Client> client;
};

INSTANTIATE_TEST_SUITE_P(All, Transports, testing::ValuesIn(all_transports_under_test()), [](auto& info) { return info.param.name; });

TEST_P(Transports, BodiesOfAllSizesArrive) {
  for (std::size_t size : {0, 1, 1 << 20}) {
    ASSERT_TRUE(call(log_request(std::string(size, 'x')))) << size;
    EXPECT_EQ(std::get<core::LogEntry>(handler.last_request.payload).data.size(), size);
  }
}

TEST_P(Transports, TheLimitHoldsToTheByte) {
  if (!can().limits_bodies) {
    constexpr std::size_t kBeyondEveryWire = 32 << 20;
    ASSERT_TRUE(call(log_request(std::string(kBeyondEveryWire, 'x'))));
    EXPECT_EQ(std::get<core::LogEntry>(handler.last_request.payload).data, std::string(kBeyondEveryWire, 'x'));
    return;
  }
  const auto limit = fixture->longest_data();
  EXPECT_TRUE(call(log_request(std::string(limit, 'x'))));
  const auto over = call(log_request(std::string(limit + 1, 'x')));
  ASSERT_FALSE(over);
  EXPECT_EQ(over.error().kind, ErrorKind::invalid_argument) << over.error().message;
  EXPECT_EQ(handler.calls, 1);
  EXPECT_TRUE(call(log_request("after it")));
}

TEST_P(Transports, AnyByteArrivesAsItIsOrIsRefused) {
  for (std::string data : {std::string("a\0b", 3), std::string("\xff\xfe"), std::string("\xc3\xa9\xe2\x82\xac"), std::string("\"\\\r\n\t\x01\x7f"), std::string("</script>")}) {
    const auto reply = call(log_request(data));
    if (reply) EXPECT_EQ(std::get<core::LogEntry>(handler.last_request.payload).data, data);
    else EXPECT_EQ(reply.error().kind, ErrorKind::invalid_argument) << reply.error().message;
  }
  EXPECT_GE(handler.calls, 3) << "valid UTF-8 must go through";
}

TEST_P(Transports, MetadataSurvives) {
  auto request = log_request("twice");
  request.id_from_caller = true;
  auto context = CallContext::with_timeout(5s);
  context.trace = core::TraceContext::from_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
  context.hops = "broker@1795000000000000 broker>http@1795000000000001";
  const auto reply = call(request, context).value();
  EXPECT_EQ(reply.message, fixture->logged());
  EXPECT_EQ(reply.data, "\"twice\"");
  EXPECT_TRUE(reply.duplicate);
  EXPECT_EQ(handler.last_request.id, request.id);
  EXPECT_TRUE(handler.last_request.id_from_caller);
  EXPECT_EQ(handler.last_request.ack, core::Ack::stored);
  EXPECT_EQ(handler.last_request.accepted_at, request.accepted_at);
  EXPECT_EQ(handler.last_context.trace.trace_id, context.trace.trace_id);
  EXPECT_TRUE(handler.last_context.hops.starts_with(context.hops)) << handler.last_context.hops;
}

TEST_P(Transports, ALoginKnowsWhereItComesFromAndBringsItsToken) {
  auto request = log_request("");
  request.action = core::actions::kAuth;
  request.payload = core::Credentials{"a@b", "secret"};
  auto context = CallContext::with_timeout(5s);
  context.client = "203.0.113.66";
  context.bearer = "eyJ.never.sent";
  const auto reply = call(request, context).value();
  EXPECT_EQ(reply.token, "eyJhbGciOiJIUzI1NiJ9.e30.x");
  EXPECT_EQ(reply.data.find("token"), std::string::npos);
  EXPECT_EQ(handler.last_context.client, "203.0.113.66");
}

TEST_P(Transports, EachErrorKindArrivesWithItsMessage) {
  for (auto kind : core::kAllErrorKinds) {
    const auto reply = call(custom_request(std::string(core::to_string(kind))));
    ASSERT_FALSE(reply);
    EXPECT_EQ(core::to_string(reply.error().kind), core::to_string(kind));
    EXPECT_EQ(reply.error().message, "message of " + std::string(core::to_string(kind)));
    if (kind == ErrorKind::overloaded) EXPECT_EQ(reply.error().retry_after, 3s);
  }
}

TEST_P(Transports, AServicesOwnFailureIsToldFromTheWays) {
  const auto refused = call(custom_request("unavailable"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::unavailable);
  EXPECT_TRUE(refused.error().answered) << "the peer said so: a broker must not set the way aside";
  run(stop_server(server.get()));
  server.reset();
  const auto down = call(custom_request("unavailable"));
  ASSERT_FALSE(down);
  EXPECT_EQ(down.error().kind, ErrorKind::unavailable);
  EXPECT_FALSE(down.error().answered) << "nobody said so: a broker tries another way";
}

TEST_P(Transports, DetailStaysBehind) {
  const auto reply = call(custom_request("internal"));
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().detail, can().hides_detail ? "" : "secret detail");
}

TEST_P(Transports, AThrowingHandlerGivesInternal) {
  const auto reply = call(custom_request("throw"));
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().kind, ErrorKind::internal);
  EXPECT_EQ(reply.error().message.find("secret"), std::string::npos);
  EXPECT_TRUE(call(log_request("after it")));
}

TEST_P(Transports, AnUnknownActionIsUnimplemented) {
  const auto reply = call(custom_request("no such/action?"));
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().kind, ErrorKind::unimplemented);
  EXPECT_EQ(handler.last_request.action, "no such/action?");
}

TEST_P(Transports, AnExpiredDeadlineNeverReachesTheHandler) {
  for (auto& request : {log_request("x"), custom_request("wait")}) {
    const auto reply = call(request, CallContext::with_timeout(0ms));
    ASSERT_FALSE(reply);
    EXPECT_EQ(reply.error().kind, ErrorKind::deadline_exceeded);
  }
  EXPECT_EQ(handler.calls, 0);
}

TEST_P(Transports, TheRemainingTimeShrinks) {
  ASSERT_TRUE(call(log_request("x"), CallContext::with_timeout(3s)));
  EXPECT_LE(handler.last_context.remaining(), 3s);
  EXPECT_GT(handler.last_context.remaining(), 500ms);
}

asio::awaitable<void> cancel_when_running(core::Client* client, TestHandler* handler, const Capabilities* can) {
  auto executor = co_await asio::this_coro::executor;
  asio::cancellation_signal signal;
  bool ended = false;
  std::optional<Result<Reply>> result;
  auto call = [](core::Client* c, std::optional<Result<Reply>>* r) -> asio::awaitable<void> {
    co_await asio::this_coro::throw_if_cancelled(false);
    r->emplace(co_await c->handle(custom_request("wait"), CallContext::with_timeout(20s)));
  }(client, &result);
  asio::co_spawn(executor, std::move(call), asio::bind_cancellation_slot(signal.slot(), [&ended](std::exception_ptr) { ended = true; }));
  co_await until([&] { return handler->waiting == 1; });
  signal.emit(asio::cancellation_type::terminal);
  co_await until([&] { return ended && (!can->cancels_handler || handler->cancelled == 1); });
  EXPECT_TRUE(result && !*result);
  if (can->cancels_handler) co_return;
  EXPECT_EQ(handler->cancelled, 0) << "the caller is free while the handler works";
  EXPECT_EQ(handler->ended, 0);
  handler->released = true;
  co_await until([&] { return handler->ended == 1; });
}

TEST_P(Transports, CancelReachesTheHandler) {
  run(cancel_when_running(client.get(), &handler, &can()));
  EXPECT_TRUE(call(log_request("after it")));
  EXPECT_EQ(handler.calls, 2) << "and what was given up was done once";
}

TEST_P(Transports, ACallEndsByItsDeadline) {
  const auto start = std::chrono::steady_clock::now();
  std::optional<Result<Reply>> result;
  // As an ingress does: whoever waits is cancelled when the deadline has passed.
  auto work = [](core::Client* c, std::optional<Result<Reply>>* r) -> asio::awaitable<void> {
    co_await asio::this_coro::throw_if_cancelled(false);
    asio::cancellation_signal signal;
    asio::steady_timer timer(co_await asio::this_coro::executor, 200ms);
    // The client has the same deadline: a timer that has passed, too, is told after the call's end, when the signal is gone.
    const auto over = std::make_shared<bool>(false);
    timer.async_wait([&signal, over](boost::system::error_code ec) {
      if (!ec && !*over) signal.emit(asio::cancellation_type::terminal);
    });
    auto one = [](core::Client* c2, std::optional<Result<Reply>>* r2) -> asio::awaitable<void> {
      co_await asio::this_coro::throw_if_cancelled(false);
      r2->emplace(co_await c2->handle(custom_request("wait"), CallContext::with_timeout(200ms)));
    }(c, r);
    co_await asio::co_spawn(timer.get_executor(), std::move(one), asio::bind_cancellation_slot(signal.slot(), use_awaitable));
    *over = true;
  }(client.get(), &result);
  run(std::move(work));
  ASSERT_TRUE(result && !*result);
  EXPECT_LT(std::chrono::steady_clock::now() - start, 5s);
  run(until([&] { return handler.cancelled == 1; }));
}

asio::awaitable<void> one_of_many(core::Client* client, int i, int* right) {
  // Every third may not share a pipeline.
  auto request = log_request("call " + std::to_string(i));
  const auto reply = co_await client->handle(std::move(request), CallContext::with_timeout(20s));
  if (reply && reply.value().data == "\"call " + std::to_string(i) + "\"") ++*right;
}

asio::awaitable<void> call_many(core::Client* client, int count) {
  runtime::TaskScope scope(co_await asio::this_coro::executor, "calls", runtime::LogSink::none());
  int right = 0;
  for (int i = 0; i < count; ++i) scope.spawn(one_of_many(client, i, &right));
  co_await scope.join();
  EXPECT_EQ(right, count);
}

TEST_P(Transports, AThousandInterleavedCallsKeepTheirAnswers) { run(call_many(client.get(), 1000)); }

asio::awaitable<void> stop_while_running(core::Client* client, core::Server* server, TestHandler* handler) {
  runtime::TaskScope scope(co_await asio::this_coro::executor, "calls", runtime::LogSink::none());
  std::optional<Result<Reply>> running;
  bool stopped = false;
  auto call = [](core::Client* c, std::optional<Result<Reply>>* r) -> asio::awaitable<void> {
    r->emplace(co_await c->handle(custom_request("wait"), CallContext::with_timeout(20s)));
  }(client, &running);
  scope.spawn(std::move(call));
  co_await until([&] { return handler->waiting == 1; });
  auto stop = [](core::Server* s, bool* done) -> asio::awaitable<void> {
    co_await s->stop({.grace = 15s});
    *done = true;
  }(server, &stopped);
  scope.spawn(std::move(stop));
  std::optional<Result<Reply>> late;
  // Refuses before the running call has ended.
  for (int i = 0; i < 2000 && (!late || *late); ++i) late.emplace(co_await client->handle(log_request("late"), CallContext::with_timeout(5s)));
  EXPECT_TRUE(late && !*late && late->error().kind == ErrorKind::unavailable);
  EXPECT_FALSE(stopped);
  EXPECT_FALSE(running);
  handler->released = true;
  co_await scope.join();
  EXPECT_TRUE(running && *running && running->value().message == "released");
  EXPECT_TRUE(stopped);
}

TEST_P(Transports, StopDrainsThenRefuses) {
  run(stop_while_running(client.get(), server.get(), &handler));
  server.reset();
}

TEST_P(Transports, StopCancelsWhatOutlivesItsGrace) {
  std::optional<Result<Reply>> result;
  auto work = [](core::Client* c, core::Server* s, TestHandler* h, std::optional<Result<Reply>>* r) -> asio::awaitable<void> {
    runtime::TaskScope scope(co_await asio::this_coro::executor, "calls", runtime::LogSink::none());
    scope.spawn(call_into(c, custom_request("wait"), CallContext::with_timeout(20s), r));
    co_await until([&] { return h->waiting == 1; });
    co_await s->stop({.grace = 50ms});
    EXPECT_EQ(h->cancelled, 1);
    co_await scope.join();
  }(client.get(), server.get(), &handler, &result);
  run(std::move(work));
  EXPECT_TRUE(result && !*result);
  server.reset();
}

TEST_P(Transports, APeerRestartHeals) {
  const auto endpoint = server->endpoint();
  ASSERT_TRUE(call(log_request("before")));
  ASSERT_FALSE(call(custom_request("unavailable")));
  run(stop_server(server.get()));
  server.reset();
  for (auto& request : {log_request("while down"), custom_request("not_found")}) {
    const auto down = call(request);
    ASSERT_FALSE(down);
    EXPECT_EQ(down.error().kind, ErrorKind::unavailable);
  }
  server = std::move(fixture->serve_at(endpoint, handler).value());
  EXPECT_TRUE(call(log_request("after")));
  EXPECT_EQ(call(custom_request("not_found")).error().kind, ErrorKind::not_found);
}

TEST_P(Transports, AnAbsentPeerIsUnavailableInTime) {
  if (!can().reaches_others) return expect_that_any_endpoint_is_this_one("absent");
  auto lonely = connect(fixture->absent_endpoint());
  for (auto& request : {log_request("x"), custom_request("x")}) {
    const auto start = std::chrono::steady_clock::now();
    const auto reply = call(*lonely, request);
    ASSERT_FALSE(reply);
    EXPECT_EQ(reply.error().kind, ErrorKind::unavailable);
    EXPECT_EQ(reply.error().sent, core::Sent::no);
    EXPECT_LT(std::chrono::steady_clock::now() - start, 5s);
  }
  run(stop_client(lonely.get()));
}

TEST_P(Transports, AnEndpointThatMakesNoSenseIsRefused) {
  if (!can().reaches_others) return expect_that_any_endpoint_is_this_one("http://");
  for (std::string nonsense : {"", "x", "ftp://x:1", "http://", "inproc:", "http://h:99999", "http://a b:1", "rpc://", "rpc://h:0"}) {
    const auto result = fixture->transport().connect(nonsense);
    ASSERT_FALSE(result) << nonsense;
    EXPECT_EQ(result.error().kind, ErrorKind::invalid_argument);
  }
}

asio::ip::tcp::endpoint socket_address(const std::string& endpoint) {
  const auto host = endpoint.substr(endpoint.find("//") + 2);
  const auto colon = host.rfind(':');
  return {asio::ip::make_address(host.substr(0, colon)), static_cast<std::uint16_t>(std::stoi(host.substr(colon + 1)))};
}

TEST_P(Transports, GarbageHarmsOneConnectionOnly) {
  if (can().socket == Capabilities::Socket::none) return expect_that_serving_opens_no_port();
  ASSERT_TRUE(call(log_request("before")));
  asio::io_context io;
  for (std::string garbage : {std::string(1000, '\0'), std::string(100'000, '\xff'), std::string("\r\n\r\n\r\n"), std::string("PRI * HTTP/2.0\r\n\r\n")}) {
    asio::ip::tcp::socket socket(io);
    socket.connect(socket_address(server->endpoint()));
    boost::system::error_code ec;
    asio::write(socket, asio::buffer(garbage), ec);
    EXPECT_TRUE(call(log_request("beside it")));
    // And it ends, at the latest when nothing more comes: what was begun might have become something.
    boost::system::error_code ignored;
    socket.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
    for (char dropped[4096]; !ec; socket.read_some(asio::buffer(dropped), ec)) {
      pollfd readable{socket.native_handle(), POLLIN, 0};
      ASSERT_EQ(::poll(&readable, 1, 20'000), 1) << "it does not end";
    }
  }
  EXPECT_TRUE(call(log_request("after")));
}

TEST_P(Transports, ASlowReaderIsNotBufferedFor) {
  if (can().socket != Capabilities::Socket::own) return expect_that_serving_opens_no_port();  // a broker's socket is its own affair
  EXPECT_GT(listening_ports(), 0u);
  asio::io_context io;
  asio::ip::tcp::socket socket(io);
  socket.connect(socket_address(server->endpoint()));
  socket.non_blocking(true);
  // Sent without reading until the peer takes no more; it must come to that.
  std::size_t sent = 0;
  int full = 0;
  std::string flood;
  while (full < 50 && sent < (256u << 20)) {
    while (flood.size() < 64 * 1024) flood += fixture->flood();
    boost::system::error_code ec;
    const auto n = socket.write_some(asio::buffer(flood), ec);
    sent += n;
    flood.erase(0, n);
    if (!ec) continue;
    ASSERT_EQ(ec, asio::error::would_block);
    ++full;
    ASSERT_TRUE(call(log_request("beside it")));
  }
  EXPECT_EQ(full, 50) << "took " << sent << " bytes";
}

TEST_P(Transports, AHundredOpensAndClosesLeakNothing) {
  ASSERT_TRUE(call(log_request("first")));
  const auto one = [&] {
    auto another = connect(server->endpoint());
    EXPECT_TRUE(call(*another, log_request("x")));
    EXPECT_FALSE(call(*another, custom_request("not_found")));
    run(stop_client(another.get()));
  };
  one();
  run(until([&, last = open_files()]() mutable { return std::exchange(last, open_files()) == open_files(); }));
  const auto before = open_files();
  for (int i = 0; i < 100; ++i) one();
  // The server notices the last of them a moment later.
  run(until([&] { return open_files() <= before + 2; }));
}

TEST_P(Transports, AStoppedClientRefuses) {
  run(stop_client(client.get()));
  const auto reply = call(log_request("x"));
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().kind, ErrorKind::unavailable);
  client.reset();
}

}  // namespace
}  // namespace flexi::conformance
