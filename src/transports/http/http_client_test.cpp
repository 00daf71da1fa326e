// SPDX-License-Identifier: Apache-2.0
// The client with a server of ours, with several, and with one that says what a test likes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_future.hpp>
#include <deque>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <mutex>
#include <thread>

#include "transports/http/http.hpp"
#include "transports/http/raw_client.hpp"

namespace flexi::transports::http {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using core::CallContext;
using core::ErrorKind;
using core::Reply;
using core::Request;
using core::Result;
using Event = Result<std::optional<std::string>>;

/// What a tail gives: what a test puts in, until it is ended.
struct Source {
  void put(std::string event) {
    std::lock_guard lock(mutex);
    events.push_back(std::move(event));
  }
  std::mutex mutex;
  std::deque<std::string> events;
  std::atomic<bool> ended = false;
  std::atomic<int> readers = 0;
};

class SourceEvents final : public core::EventStream {
 public:
  explicit SourceEvents(Source& source) : source_(source) { ++source_.readers; }
  ~SourceEvents() override { --source_.readers; }
  core::awaitable<Event> next(CallContext context) override {
    co_await asio::this_coro::throw_if_cancelled(false);
    asio::steady_timer timer(co_await asio::this_coro::executor);
    for (;;) {
      if (auto event = take()) co_return event;
      if (source_.ended) co_return std::optional<std::string>();
      if (context.expired() || (co_await asio::this_coro::cancellation_state).cancelled() != asio::cancellation_type::none)
        co_return core::deadline_exceeded("nothing came");
      timer.expires_after(1ms);
      boost::system::error_code ignored;
      co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
  }

 private:
  std::optional<std::string> take() {
    std::lock_guard lock(source_.mutex);
    if (source_.events.empty()) return std::nullopt;
    auto event = std::move(source_.events.front());
    source_.events.pop_front();
    return event;
  }
  Source& source_;
};

/// Answers with its name; "wait" waits to be released; a tail gives the source.
class Named final : public core::Handler {
 public:
  explicit Named(std::string name) : name_(std::move(name)) {}
  core::awaitable<Result<Reply>> handle(Request request, CallContext) override {
    ++calls;
    if (request.action == core::actions::kLogsTail) {
      Reply reply{.message = "ok"};
      reply.events = std::make_unique<SourceEvents>(source);
      co_return reply;
    }
    asio::steady_timer timer(co_await asio::this_coro::executor);
    for (++waiting; request.action == "wait" && !released;) {
      timer.expires_after(1ms);
      co_await timer.async_wait(asio::use_awaitable);
    }
    co_return Reply{.message = name_};
  }
  Source source;
  std::atomic<int> calls = 0, waiting = 0;
  std::atomic<bool> released = false;

 private:
  std::string name_;
};

/// A server that reads one request of each connection and then says what it is told.
class RawServer {
 public:
  using Script = std::function<void(int fd)>;
  explicit RawServer(Script script) {
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(fd_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(fd_, 16), 0);
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this, script = std::move(script)] {
      for (int peer; (peer = ::accept(fd_, nullptr, nullptr)) >= 0; ::close(peer)) {
        std::string request;
        char bytes[4096];
        while (request.find("\r\n\r\n") == request.npos) {
          const auto n = ::recv(peer, bytes, sizeof bytes, 0);
          if (n <= 0) break;
          request.append(bytes, static_cast<std::size_t>(n));
        }
        script(peer);
      }
    });
  }
  ~RawServer() {
    ::shutdown(fd_, SHUT_RDWR);
    thread_.join();
    ::close(fd_);
  }
  std::string endpoint() const { return "http://127.0.0.1:" + std::to_string(port_); }
  static bool say(int fd, std::string_view text) { return ::send(fd, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size()); }

 private:
  int fd_;
  std::uint16_t port_ = 0;
  std::thread thread_;
};

constexpr std::string_view kStreamHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";

class HttpClientTest : public testing::Test {
 protected:
  ~HttpClientTest() override {
    events.reset();
    stop_client();
    for (auto& server : servers) stop(server.get());
    shards->join();
  }
  Process process() { return {metrics, readiness, runtime::LogSink::none(), *shards, {}}; }
  void serve(core::Handler& handler, const std::string& listen = "127.0.0.1:0") {
    server_options.listen = listen;
    servers.push_back(std::move(http::serve(server_options, {process(), nullptr, &handler, {}})).value());
  }
  static std::string port_of(const std::string& endpoint) { return endpoint.substr(endpoint.rfind(':') + 1); }
  void connect(const std::string& endpoint) { client = std::move(http::connect(client_options, process(), endpoint)).value(); }
  void stop(core::Server* server) {
    if (server) shards->run([](core::Server* s) -> asio::awaitable<void> { co_await s->stop({.grace = 1s}); }(server));
  }
  void stop_client() {
    if (client) shards->run([](core::Client* c) -> asio::awaitable<void> { co_await c->stop({.grace = 1s}); }(client.get()));
    client.reset();
  }
  static Request request_of(std::string action) {
    Request request;
    request.id = core::MessageId::generate();
    request.action = std::move(action);
    request.payload = core::Json{"{}"};
    return request;
  }
  struct Running {
    std::optional<Result<Reply>> result;
    std::future<void> done;
    Result<Reply>& get() {
      done.get();
      return *result;
    }
  };
  std::unique_ptr<Running> start_call(std::string action) {
    auto running = std::make_unique<Running>();
    auto work = [](core::Client* c, Request request, Running* out) -> asio::awaitable<void> {
      out->result.emplace(co_await c->handle(std::move(request), CallContext::with_timeout(20s)));
    };
    running->done = asio::co_spawn(shards->executor(0), work(client.get(), request_of(std::move(action)), running.get()), asio::use_future);
    return running;
  }
  Result<Reply> call(std::string action) { return std::move(start_call(std::move(action))->get()); }
  void tail(const std::string& endpoint) {
    connect(endpoint);
    auto reply = call(std::string(core::actions::kLogsTail));
    ASSERT_TRUE(reply) << reply.error().message;
    ASSERT_TRUE(reply.value().events);
    events = std::move(reply.value().events);
  }
  Event next(std::chrono::milliseconds timeout = 20s) {
    std::optional<Event> event;
    auto work = [](core::EventStream* stream, std::chrono::milliseconds time, std::optional<Event>* out) -> asio::awaitable<void> {
      out->emplace(co_await stream->next(CallContext::with_timeout(time)));
    };
    // On the client's shard: a stream is its connection's.
    asio::co_spawn(shards->executor(0), work(events.get(), timeout, &event), asio::use_future).get();
    return std::move(*event);
  }
  void drop_events() {
    asio::co_spawn(shards->executor(0), [](std::unique_ptr<core::EventStream> stream) -> asio::awaitable<void> { stream.reset(); co_return; }(std::move(events)), asio::use_future).get();
  }
  template <class Condition>
  void wait_for(Condition condition) {
    const auto give_up = std::chrono::steady_clock::now() + 20s;
    bool holds = condition();
    for (; !holds && std::chrono::steady_clock::now() < give_up; holds = condition()) std::this_thread::yield();
    EXPECT_TRUE(holds);
  }

  std::unique_ptr<runtime::Shards> shards = std::make_unique<runtime::Shards>(1);
  runtime::Metrics metrics;
  runtime::Readiness readiness;
  HttpServerOptions server_options;
  HttpClientOptions client_options;
  Named a{"a"}, b{"b"};
  std::vector<std::unique_ptr<core::Server>> servers;
  std::unique_ptr<core::Client> client;
  std::unique_ptr<core::EventStream> events;
};

TEST_F(HttpClientTest, EventsArriveAsTheyWereAndEndWithTheirSource) {
  serve(a);
  tail(servers[0]->endpoint());
  const std::string texts[] = {R"({"n":1})", "two\nlines", "", std::string(300'000, 'x'), "last"};
  for (auto& text : texts) a.source.put(text);
  for (auto& text : texts) EXPECT_EQ(next().value(), text);
  a.source.ended = true;
  EXPECT_EQ(next().value(), std::nullopt);
  EXPECT_EQ(next().value(), std::nullopt) << "an ended stream stays ended";
  drop_events();
  EXPECT_EQ(call("x").value().message, "a") << "the client goes on";
}

TEST_F(HttpClientTest, SilenceIsNoEndOfTheStream) {
  server_options.event_keep_alive = 20ms;  // its comments are no events
  serve(a);
  tail(servers[0]->endpoint());
  for (int i = 0; i < 3; ++i) {
    const auto nothing = next(100ms);
    ASSERT_FALSE(nothing);
    EXPECT_EQ(nothing.error().kind, ErrorKind::deadline_exceeded);
  }
  a.source.put("after it");
  EXPECT_EQ(next().value(), "after it");
}

TEST_F(HttpClientTest, AReaderThatLeavesEndsTheSourcesSubscription) {
  serve(a);
  tail(servers[0]->endpoint());
  wait_for([&] { return a.source.readers == 1; });
  drop_events();
  wait_for([&] { return a.source.readers == 0; });
}

TEST_F(HttpClientTest, StoppingTheClientEndsAWaitingReader) {
  serve(a);
  tail(servers[0]->endpoint());
  std::optional<Event> event;
  auto work = [](core::EventStream* stream, std::optional<Event>* out) -> asio::awaitable<void> { out->emplace(co_await stream->next({})); };
  auto waiting = asio::co_spawn(shards->executor(0), work(events.get(), &event), asio::use_future);
  EXPECT_EQ(waiting.wait_for(20ms), std::future_status::timeout);
  stop_client();
  waiting.get();
  EXPECT_TRUE(!*event || !event->value()) << "neither an event nor a hang";
}

TEST_F(HttpClientTest, AServerThatStopsCutsTheStream) {
  serve(a);
  tail(servers[0]->endpoint());
  a.source.put("before");
  EXPECT_EQ(next().value(), "before");
  stop(servers[0].get());
  servers.clear();
  const auto event = next();
  ASSERT_FALSE(event) << "there is more elsewhere, or later";
  EXPECT_EQ(event.error().kind, ErrorKind::unavailable);
}

TEST_F(HttpClientTest, EventsOfAStoppingServiceAreCutAndNotEnded) {
  serve(a);
  tail(servers[0]->endpoint());
  a.source.put("one");
  EXPECT_EQ(next().value(), "one");
  readiness.drain();
  a.source.ended = true;
  const auto event = next();
  ASSERT_FALSE(event) << "there is more elsewhere, or later";
  EXPECT_EQ(event.error().kind, ErrorKind::unavailable);
}

TEST_F(HttpClientTest, EventsMayComeInSingleBytesWithCommentsAndOtherFields) {
  RawServer server([](int fd) {
    const std::string text = std::string(kStreamHead) + ": hello\n\nevent: log\nid: 7\ndata: one\ndata:two\n\nretry: 5\n\ndata: three\n\ndata: never finished\n";
    for (char c : text) RawServer::say(fd, std::string_view(&c, 1));
  });
  tail(server.endpoint());
  EXPECT_EQ(next().value(), "one\ntwo");
  EXPECT_EQ(next().value(), "three");
  const auto cut = next();
  ASSERT_FALSE(cut) << "half an event is none";
  EXPECT_EQ(cut.error().kind, ErrorKind::unavailable) << "and the source said no end";
}

TEST_F(HttpClientTest, AnEventWithoutEndIsRefused) {
  client_options.max_answer_bytes = 4096;
  RawServer server([](int fd) {
    RawServer::say(fd, kStreamHead);
    while (RawServer::say(fd, "data: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n")) {
    }
  });
  tail(server.endpoint());
  const auto event = next();
  EXPECT_TRUE(!event || !event.value()) << "memory is bounded";
  drop_events();
}

TEST_F(HttpClientTest, AnAnswerThatIsTooLargeIsNoFaultOfTheWay) {
  client_options.max_answer_bytes = 4096;
  RawServer server([](int fd) { RawServer::say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + std::string(5000, ' ')); });
  connect(server.endpoint());
  const auto refused = call("x");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::invalid_argument);
  EXPECT_NE(refused.error().message.find("larger than 4096 bytes"), std::string::npos) << refused.error().message;
  EXPECT_TRUE(refused.error().answered);
  EXPECT_EQ(refused.error().sent, core::Sent::maybe);
}

TEST_F(HttpClientTest, BeyondTheConnectionsCallsWaitAndBeyondThoseTheyAreRefused) {
  client_options.max_connections = 1;
  client_options.max_waiting = 1;
  serve(a);
  connect(servers[0]->endpoint());
  auto first = start_call("wait");
  wait_for([&] { return a.waiting == 1; });
  auto second = start_call("x");
  auto third = start_call("x");
  const auto& refused = third->get();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::overloaded);
  EXPECT_TRUE(refused.error().retry_after);
  EXPECT_EQ(refused.error().sent, core::Sent::no);
  EXPECT_EQ(a.calls, 1) << "the second waits for the connection";
  a.released = true;
  EXPECT_TRUE(first->get());
  EXPECT_TRUE(second->get());
  EXPECT_TRUE(call("x"));
}

TEST_F(HttpClientTest, BytesUnderWayHaveALimit) {
  client_options.max_buffered_bytes = 300;  // one request is some 200
  serve(a);
  connect(servers[0]->endpoint());
  auto first = start_call("wait");
  wait_for([&] { return a.waiting == 1; });
  auto refused = call("x");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::overloaded);
  EXPECT_EQ(refused.error().sent, core::Sent::no);
  EXPECT_TRUE(refused.error().retry_after);
  a.released = true;
  EXPECT_EQ(first->get().value().message, "a");
  EXPECT_EQ(call("x").value().message, "a") << "what was answered is held no more";
}

TEST_F(HttpClientTest, ARequestLargerThanTheLimitGoesAlone) {
  client_options.max_buffered_bytes = 10;
  serve(a);
  connect(servers[0]->endpoint());
  EXPECT_EQ(call("x").value().message, "a");
}

TEST_F(HttpClientTest, CallsGoRoundAllAddressesAndPassOverOneThatIsDown) {
  serve(a);
  const auto port = port_of(servers[0]->endpoint());
  serve(b, "127.0.0.2:" + port);
  connect("http://127.0.0.1,127.0.0.2:" + port);
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(call("x"));
  EXPECT_EQ(a.calls, 5);
  EXPECT_EQ(b.calls, 5);
  stop(servers[1].get());
  servers.pop_back();
  for (int i = 0; i < 10; ++i) EXPECT_EQ(call("x").value().message, "a");
  serve(b, "127.0.0.2:" + port);
  wait_for([&] { return call("x").value().message == "b"; });  // once its time aside is over
}

/// Names of this process's own, where it may have a file system of its own.
class Hosts {
 public:
  Hosts() {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return;
    std::string name = testing::TempDir() + "flexi-hosts-XXXXXX";
    const int fd = ::mkstemp(name.data());
    ::close(fd);
    file_ = name;
    set({});
    mounted_ = ::mount(file_.c_str(), "/etc/hosts", nullptr, MS_BIND, nullptr) == 0;
  }
  ~Hosts() {
    if (mounted_) ::umount2("/etc/hosts", MNT_DETACH);
    if (!file_.empty()) std::filesystem::remove(file_);
  }
  bool ours() const { return mounted_; }
  void set(std::vector<std::string> addresses) {
    std::ofstream out(file_, std::ios::trunc);
    for (auto& address : addresses) out << address << " peer.flexi.test\n";
  }

 private:
  std::string file_;
  bool mounted_ = false;
};

TEST_F(HttpClientTest, NamesAreResolvedAgain) {
  shards->join();
  Hosts hosts;
  if (!hosts.ours()) GTEST_SKIP() << "not run: no right to mount an /etc/hosts of its own";
  shards = std::make_unique<runtime::Shards>(1);  // its threads see what this one sees
  client_options.resolve_interval = 100ms;
  serve(a);
  const auto port = port_of(servers[0]->endpoint());
  serve(b, "127.0.0.2:" + port);
  hosts.set({"127.0.0.1"});
  connect("http://peer.flexi.test:" + port);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(call("x").value().message, "a");
  hosts.set({"127.0.0.1", "127.0.0.2"});
  wait_for([&] { return call("x").value().message == "b"; });
  const int before = a.calls;
  wait_for([&] { return call("x").value().message == "a" && a.calls > before; });
  hosts.set({"127.0.0.2"});
  int in_a_row = 0;
  wait_for([&] { return (in_a_row = call("x").value().message == "b" ? in_a_row + 1 : 0) >= 20; });
  hosts.set({});  // a name server that forgets for a moment
  const auto until = std::chrono::steady_clock::now() + 300ms;
  while (std::chrono::steady_clock::now() < until) EXPECT_EQ(call("x").value().message, "b");
}

TEST_F(HttpClientTest, ANameThatIsNotThereIsUnavailableAndNotAnswered) {
  connect("http://nobody.flexi.invalid:1");
  const auto failed = call("x");
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().kind, ErrorKind::unavailable);
  EXPECT_FALSE(failed.error().answered);
  EXPECT_EQ(failed.error().sent, core::Sent::no);
}

TEST_F(HttpClientTest, WhoSaidUnavailableIsKnown) {
  struct Case {
    const char* head;
    bool answered;
  };
  const Case cases[] = {{"HTTP/1.1 503 X\r\nX-Flexi-Error: unavailable\r\n", true},
                        {"HTTP/1.1 503 X\r\nX-Flexi-Error: unavailable\r\nConnection: close\r\n", false},
                        {"HTTP/1.1 503 X\r\n", false},
                        {"HTTP/1.1 502 X\r\n", false}};
  for (auto& c : cases) {
    RawServer server([&c](int fd) { RawServer::say(fd, std::string(c.head) + "Content-Length: 0\r\n\r\n"); });
    connect(server.endpoint());
    const auto failed = call("x");
    stop_client();
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().kind, ErrorKind::unavailable) << c.head;
    EXPECT_EQ(failed.error().answered, c.answered) << c.head;
  }
}

}  // namespace
}  // namespace flexi::transports::http
