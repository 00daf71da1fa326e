// SPDX-License-Identifier: Apache-2.0
// The channel, with our server and with peers that misbehave.
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <filesystem>
#include <future>
#include <set>
#include <thread>

#include "transports/grpc/raw_peer.hpp"
#include "transports/grpc/test_methods.hpp"

namespace flexi::transports::grpc::test {
namespace {

using namespace std::string_literals;
namespace asio = boost::asio;
constexpr std::uint8_t kEnd = NGHTTP2_FLAG_END_STREAM;

class Client : public GrpcTest {};

TEST_F(Client, CallsCarryAnyBytes) {
  start();
  connect();
  for (std::string bytes : {""s, "\0"s, "\xff\xfe\0x"s, std::string(1 << 20, 'x'), std::string(4 << 20, 'y')}) {
    auto result = call("/t/Echo", bytes);
    EXPECT_TRUE(result.status.ok()) << result.status.message;
    EXPECT_EQ(result.message, bytes);
    EXPECT_TRUE(result.answered);
  }
  auto over = call("/t/Echo", std::string((4 << 20) + 1, 'z'));
  EXPECT_EQ(over.status.code, Code::resource_exhausted);
  EXPECT_TRUE(call("/t/Echo", "after").status.ok());
}

TEST_F(Client, MetadataGoesAndComes) {
  start();
  connect();
  Metadata metadata;
  metadata.add("x-a", "1");
  metadata.add("x-a", "2");
  metadata.add("x-bytes-bin", "\0\xff\n"s);
  auto result = call("/t/Echo", "m", metadata);
  ASSERT_EQ(result.initial.size(), 3u);
  EXPECT_EQ(result.initial[0].value, "1");
  EXPECT_EQ(result.initial[1].value, "2");
  EXPECT_EQ(result.trailing.find("t-x-bytes-bin"), "\0\xff\n"s);
  Metadata wrong;
  wrong.add("x", "line\nbreak");
  result = call("/t/Echo", "m", wrong);
  EXPECT_EQ(result.status.code, Code::invalid_argument);
  EXPECT_EQ(result.sent, core::Sent::no);
}

TEST_F(Client, AStatusComesWhole) {
  start();
  connect();
  auto result = call("/t/Fail", "100% \xc3\xa9\n");
  EXPECT_EQ(result.status.code, Code::already_exists);
  EXPECT_EQ(result.status.message, "100% \xc3\xa9\n");
  EXPECT_EQ(result.status.details, "details\x01");
  EXPECT_TRUE(result.answered);
  EXPECT_EQ(call("/t/None", "").status.code, Code::unimplemented);
  EXPECT_EQ(call("/t/Throw", "").status.code, Code::internal);
}

TEST_F(Client, CompressionGoesBothWays) {
  GrpcServerOptions server;
  server.compress_from_bytes = 100;
  start(server);
  GrpcClientOptions client;
  client.compress_from_bytes = 100;
  connect(client);
  for (std::size_t size : {10u, 100u, 1'000'000u}) EXPECT_EQ(call("/t/Echo", std::string(size, 'c')).message, std::string(size, 'c'));
}

TEST_F(Client, AnAnswerOverTheLimitBreaksItsCallOnly) {
  start();
  GrpcClientOptions options;
  options.max_message_bytes = 2000;
  connect(options);
  EXPECT_TRUE(call("/t/Bytes", "2000").status.ok());
  EXPECT_EQ(call("/t/Bytes", "2001").status.code, Code::resource_exhausted);
  EXPECT_TRUE(call("/t/Bytes", "1").status.ok());
}

TEST_F(Client, ADeadlineEndsTheCallOnBothSides) {
  start();
  connect();
  auto result = call("/t/Wait", "", {}, core::CallContext::with_timeout(100ms));
  EXPECT_EQ(result.status.code, Code::deadline_exceeded);
  wait_until([&] { return seen_.cancelled == 1; });
  result = call("/t/Wait", "", {}, core::CallContext::with_timeout(0ms));
  EXPECT_EQ(result.status.code, Code::deadline_exceeded);
  EXPECT_EQ(result.sent, core::Sent::no);
  EXPECT_EQ(seen_.started, 1);
}

TEST_F(Client, ACancelledCallResetsItsStream) {
  start();
  connect();
  auto work = [](Channel* channel, Seen* seen) -> core::awaitable<void> {
    asio::cancellation_signal signal;
    ClientResult result;
    bool ended = false;
    auto one = [](Channel* c, ClientResult* r) -> core::awaitable<void> {
      co_await asio::this_coro::throw_if_cancelled(false);
      *r = co_await c->unary("/t/Wait", "", {}, core::CallContext::with_timeout(20s));
    }(channel, &result);
    asio::co_spawn(co_await asio::this_coro::executor, std::move(one), asio::bind_cancellation_slot(signal.slot(), [&ended](std::exception_ptr) { ended = true; }));
    co_await until([seen] { return seen->started == 1; });
    signal.emit(asio::cancellation_type::terminal);
    co_await until([&] { return ended && seen->cancelled == 1; });
    EXPECT_EQ(result.status.code, Code::cancelled);
    EXPECT_EQ(result.sent, core::Sent::maybe);
  };
  run(work(channel_.get(), &seen_));
  EXPECT_TRUE(call("/t/Echo", "after").status.ok());
}

core::awaitable<void> one_of_many(Channel* channel, int i, int* right) {
  auto result = co_await channel->unary("/t/Echo", "call " + std::to_string(i), {}, core::CallContext::with_timeout(20s));
  if (result.message == "call " + std::to_string(i)) ++*right;
}
core::awaitable<void> call_many(Channel* channel, int count, int* right) {
  runtime::TaskScope scope(co_await asio::this_coro::executor, "calls", runtime::LogSink::none());
  for (int i = 0; i < count; ++i) scope.spawn(one_of_many(channel, i, right));
  co_await scope.join();
}

TEST_F(Client, WaitsForThePeersLimitOfStreams) {
  GrpcServerOptions options;
  options.max_concurrent_streams = 2;
  start(options);
  connect();
  int right = 0;
  run(call_many(channel_.get(), 300, &right));
  EXPECT_EQ(right, 300);
}

TEST_F(Client, SoManyMayWait) {
  GrpcServerOptions options;
  options.max_concurrent_streams = 1;
  start(options);
  GrpcClientOptions client;
  client.max_waiting = 5;
  connect(client);
  ASSERT_TRUE(call("/t/Echo", "").status.ok());
  int right = 0;
  run(call_many(channel_.get(), 50, &right));
  EXPECT_GE(right, 6);
  EXPECT_LT(right, 50);
}

core::awaitable<void> talk(Channel* channel, int count) {
  auto opened = co_await channel->open("/t/Bidi", {}, core::CallContext::with_timeout(20s));
  EXPECT_TRUE(opened);
  auto stream = std::move(opened.value());
  for (int i = 0; i < count; ++i) {
    auto written = co_await stream->write("message " + std::to_string(i));
    EXPECT_TRUE(written);
    auto read = co_await stream->read();
    EXPECT_TRUE(read && read.value());
    if (!read || !read.value()) co_return;
    EXPECT_EQ(*read.value(), "message " + std::to_string(i));
  }
  stream->close_send();
  auto last = co_await stream->read();
  EXPECT_TRUE(last && !last.value());
  auto result = co_await stream->finish();
  EXPECT_TRUE(result.status.ok()) << result.status.message;
}

TEST_F(Client, StreamsBothWays) {
  start();
  connect();
  run(talk(channel_.get(), 100));
}

TEST_F(Client, ASlowReaderHoldsTheServerBackAndLosesNothing) {
  start();
  GrpcClientOptions options;
  options.stream_window_bytes = 65'535;
  connect(options);
  auto work = [](Channel* channel, Seen* seen) -> core::awaitable<void> {
    auto stream = std::move((co_await channel->open("/t/Many", {}, core::CallContext::with_timeout(30s))).value());
    auto asked = co_await stream->write("20000");
    EXPECT_TRUE(asked);
    stream->close_send();
    EXPECT_TRUE(co_await stream->wait_for_headers());
    co_await until([seen] { return seen->written > 100; });
    for (int i = 0; i < 50; ++i) co_await pause();
    EXPECT_LT(seen->written, 400);  // of 20 MB, 130 KB are on their way
    int got = 0;
    for (;;) {
      auto read = co_await stream->read();
      if (!read || !read.value()) break;
      ++got;
    }
    EXPECT_EQ(got, 20'000);
    auto result = co_await stream->finish();
    EXPECT_EQ(result.trailing.find("count"), "20000");
  };
  run(work(channel_.get(), &seen_));
}

TEST_F(Client, AWriterIsHeldBackByASlowMethod) {
  GrpcServerOptions options;
  options.stream_window_bytes = 65'535;
  start(options);
  connect();
  auto work = [](Channel* channel, Seen* seen) -> core::awaitable<void> {
    auto stream = std::move((co_await channel->open("/t/CountLate", {}, core::CallContext::with_timeout(30s))).value());
    int written = 0;
    bool done = false;
    runtime::TaskScope scope(co_await asio::this_coro::executor, "writer", runtime::LogSink::none());
    scope.spawn([](ClientStream* s, int* w, bool* d) -> core::awaitable<void> {
      for (; *w < 5000; ++*w)
        if (auto ok = co_await s->write(std::string(1000, 'w')); !ok) break;
      s->close_send();
      *d = true;
    }(stream.get(), &written, &done));
    co_await until([&] { return written > 100; });
    for (int i = 0; i < 50; ++i) co_await pause();
    EXPECT_FALSE(done);
    EXPECT_LT(written, 400);
    seen->released = true;
    co_await scope.join();
    auto answer = co_await stream->read();
    EXPECT_TRUE(answer && answer.value() && *answer.value() == "5000000");
    co_await stream->finish();
  };
  run(work(channel_.get(), &seen_));
}

TEST_F(Client, DroppingAStreamCancelsItsMethod) {
  start();
  connect();
  auto work = [](Channel* channel, Seen* seen) -> core::awaitable<void> {
    {
      auto stream = std::move((co_await channel->open("/t/Bidi", {}, {})).value());
      co_await until([seen] { return seen->started == 1; });
    }
    co_await until([seen] { return seen->cancelled == 1; });
    auto stream = std::move((co_await channel->open("/t/Bidi", {}, {})).value());
    co_await until([seen] { return seen->started == 2; });
    stream->cancel();
    auto result = co_await stream->finish();
    EXPECT_EQ(result.status.code, Code::cancelled);
    co_await until([seen] { return seen->cancelled == 2; });
  };
  run(work(channel_.get(), &seen_));
}

TEST_F(Client, AStreamMayOutliveItsChannelsStop) {
  start();
  connect();
  std::unique_ptr<ClientStream> kept;
  auto work = [](Channel* channel, Seen* seen, std::unique_ptr<ClientStream>* keep) -> core::awaitable<void> {
    *keep = std::move((co_await channel->open("/t/Bidi", {}, {})).value());
    co_await until([seen] { return seen->started == 1; });
    co_await channel->stop({.grace = 10ms});
    auto result = co_await (*keep)->finish();
    EXPECT_EQ(result.status.code, Code::unavailable);
    keep->reset();
  };
  run(work(channel_.get(), &seen_, &kept));
  channel_.reset();
}

TEST_F(Client, AnAbsentPeerIsUnavailableAndUnsent) {
  start();
  const auto endpoint = server_->endpoint();
  stop();
  connect({}, endpoint);
  auto result = call("/t/Echo", "");
  EXPECT_EQ(result.status.code, Code::unavailable);
  EXPECT_EQ(result.sent, core::Sent::no);
  // And heals.
  GrpcServerOptions options;
  options.listen = endpoint.substr(7);
  start(options);
  EXPECT_TRUE(call("/t/Echo", "").status.ok());
}

core::awaitable<void> ask_for_peers(Channel* channel, int count, std::set<std::string>* peers) {
  for (int i = 0; i < count; ++i) peers->insert((co_await channel->unary("/t/Peer", "", {}, core::CallContext::with_timeout(20s))).message);
}

TEST_F(Client, OneKeptConnectionPerShardCarriesAllCalls) {
  start();
  connect();
  std::set<std::string> peers[2];
  for (unsigned shard = 0; shard < shards_.size(); ++shard) {
    auto calls = ask_for_peers(channel_.get(), 500, &peers[shard]);
    asio::co_spawn(shards_.executor(shard), std::move(calls), asio::use_future).get();
    EXPECT_EQ(peers[shard].size(), 1u);
    EXPECT_TRUE(peers[shard].begin()->starts_with("127.0.0.1:")) << *peers[shard].begin();
  }
  EXPECT_NE(peers[0], peers[1]);
}

TEST_F(Client, AllAddressesOfAPeerHaveEqualShares) {
  Seen other_seen;
  std::unique_ptr<core::Server> other;
  std::string port;
  // One port that is free at both addresses.
  for (int i = 0; i < 100 && !other; ++i) {
    if (server_) stop();
    start();
    port = server_->endpoint().substr(server_->endpoint().rfind(':'));
    GrpcServerOptions options;
    options.listen = "127.0.0.2" + port;
    if (auto made = serve_methods(options, process_, test_methods(other_seen))) other = std::move(made.value());
  }
  ASSERT_TRUE(other);
  connect({}, "grpc://127.0.0.1,127.0.0.2" + port);
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(call("/t/Echo", "x").status.ok());
  EXPECT_EQ(seen_.started, 50);
  EXPECT_EQ(other_seen.started, 50);
  run(stop_server(other.get(), 1s));
}

TEST_F(Client, MovesToANewConnectionWhenTheServerDrains) {
  start();
  const auto endpoint = server_->endpoint();
  connect();
  auto work = [](Channel* channel, std::unique_ptr<core::Server>* server, Process process, Seen* seen, std::string at) -> core::awaitable<void> {
    ClientResult running, later;
    runtime::TaskScope scope(co_await asio::this_coro::executor, "calls", runtime::LogSink::none());
    scope.spawn(call_into(channel, "/t/Wait", "", {}, core::CallContext::with_timeout(20s), &running));
    co_await until([seen] { return seen->started == 1; });
    auto old = std::move(*server);
    scope.spawn(stop_server(old.get(), 15s));
    GrpcServerOptions options;
    options.listen = at;
    co_await until([&] {
      auto next = serve_methods(options, process, test_methods(*seen));
      if (next) *server = std::move(next.value());
      return *server != nullptr;
    });
    // The old connection still has its call, and takes new ones until its GOAWAY has come; no call fails on the way to the next.
    for (int i = 0; i < 1000; ++i) {
      later = co_await channel->unary("/t/Echo", "new", {}, core::CallContext::with_timeout(20s));
      EXPECT_TRUE(later.status.ok()) << i << ": " << later.status.message;
      if (!later.status.ok()) break;
    }
    seen->released = true;
    co_await scope.join();
    EXPECT_TRUE(running.status.ok()) << running.status.message;
  };
  run(work(channel_.get(), &server_, process_, &seen_, endpoint.substr(7)));
}

// --- servers that are none ---

/// Answers each connection in a thread of its own, as `behave` says.
class FakeServer {
 public:
  using Behave = std::function<void(RawPeer&)>;
  explicit FakeServer(Behave behave) : acceptor_(RawPeer::io(), {asio::ip::address_v4::loopback(), 0}), behave_(std::move(behave)) {
    thread_ = std::thread([this] {
      for (;;) {
        asio::ip::tcp::socket socket(RawPeer::io());
        boost::system::error_code ec;
        acceptor_.accept(socket, ec);
        if (stopping_ || ec) return;
        RawPeer peer(std::move(socket));
        behave_(peer);
      }
    });
  }
  ~FakeServer() {
    stopping_ = true;
    boost::system::error_code ec;
    asio::ip::tcp::socket knock(RawPeer::io());
    knock.connect(acceptor_.local_endpoint(), ec);
    thread_.join();
  }
  std::string endpoint() const { return "grpc://127.0.0.1:" + std::to_string(acceptor_.local_endpoint().port()); }

 private:
  asio::ip::tcp::acceptor acceptor_;
  Behave behave_;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

void hello(RawPeer& peer, std::string_view settings = {}) {
  std::string preface(24, '\0');
  asio::read(peer.socket(), asio::buffer(preface));
  peer.send(frame(NGHTTP2_SETTINGS, 0, 0, settings));
}
/// Waits for the end of the next request and tells its stream.
std::uint32_t next_request(RawPeer& peer) {
  while (auto got = peer.next())
    if ((got->type == NGHTTP2_DATA || got->type == NGHTTP2_HEADERS) && got->ends()) return got->stream;
  return 0;
}

class FakePeer : public GrpcTest {
 protected:
  /// What a client makes of a server that does `answer` to its one call.
  ClientResult result_of(std::function<void(RawPeer&, std::uint32_t)> answer) {
    FakeServer server([&](RawPeer& peer) {
      hello(peer);
      while (auto stream = next_request(peer)) answer(peer, stream);
    });
    connect({}, server.endpoint());
    auto result = call("/t/Echo", "x");
    run(stop_channel(channel_.get()));
    channel_.reset();
    return result;
  }
  ClientResult result_of_headers(Headers headers, std::uint8_t flags = kEnd) {
    return result_of([=](RawPeer& peer, std::uint32_t stream) {
      peer.send_headers(stream, headers, flags);
      if (!(flags & kEnd)) peer.send_data(stream, "", kEnd);
    });
  }
};

TEST_F(FakePeer, StatusesWithoutGrpcStatusAreMapped) {
  EXPECT_EQ(result_of_headers({{":status", "503"}, {"content-type", "text/html"}}).status.code, Code::unavailable);
  EXPECT_EQ(result_of_headers({{":status", "401"}}).status.code, Code::unauthenticated);
  EXPECT_EQ(result_of_headers({{":status", "404"}}, 0).status.code, Code::unimplemented);
  EXPECT_EQ(result_of_headers({{":status", "200"}, {"content-type", "text/html"}}, 0).status.code, Code::unknown);
  EXPECT_EQ(result_of_headers({{":status", "200"}, {"content-type", "application/grpc"}}, 0).status.code, Code::unknown);
  EXPECT_EQ(result_of_headers({{":status", "200"}, {"content-type", "application/grpc"}, {"grpc-status", "77"}}).status.code, Code::unknown);
  EXPECT_EQ(result_of_headers({{":status", "200"}, {"content-type", "application/grpc"}, {"grpc-status", "0"}}).status.code, Code::internal) << "no message";
  auto rich = result_of_headers({{":status", "200"}, {"content-type", "application/grpc"}, {"grpc-status", "9"}, {"grpc-message", "a%20b"}, {"x", "y"}});
  EXPECT_EQ(rich.status.code, Code::failed_precondition);
  EXPECT_EQ(rich.status.message, "a b");
  EXPECT_EQ(rich.trailing.find("x"), "y");
}

TEST_F(FakePeer, ResetsAreMapped) {
  const auto reset_with = [&](std::uint32_t error) {
    return result_of([error](RawPeer& peer, std::uint32_t stream) { peer.send(frame(NGHTTP2_RST_STREAM, 0, stream, big_endian(error, 4))); });
  };
  auto refused = reset_with(NGHTTP2_REFUSED_STREAM);
  EXPECT_EQ(refused.status.code, Code::unavailable);
  EXPECT_EQ(refused.sent, core::Sent::no);
  EXPECT_FALSE(refused.answered);
  auto calm = reset_with(NGHTTP2_ENHANCE_YOUR_CALM);
  EXPECT_EQ(calm.status.code, Code::resource_exhausted);
  EXPECT_EQ(calm.sent, core::Sent::maybe);
  EXPECT_EQ(reset_with(NGHTTP2_CANCEL).status.code, Code::cancelled);
  EXPECT_EQ(reset_with(NGHTTP2_INTERNAL_ERROR).status.code, Code::internal);
}

/// Reads one request whole.
std::optional<std::pair<std::uint32_t, std::string>> next_message(RawPeer& peer) {
  std::string bytes;
  while (auto got = peer.next()) {
    if (got->type == NGHTTP2_DATA) bytes += got->payload;
    if (got->type == NGHTTP2_DATA && got->ends()) return std::pair(got->stream, bytes);
  }
  return std::nullopt;
}

TEST_F(FakePeer, ACallThatNeverBeganIsMadeOnceMore) {
  using Answer = std::function<void(RawPeer&, std::uint32_t)>;
  const auto reset = [](std::uint32_t error) {
    return [error](RawPeer& peer, std::uint32_t stream) { peer.send(frame(NGHTTP2_RST_STREAM, 0, stream, big_endian(error, 4))); };
  };
  const Answer refuse = reset(NGHTTP2_REFUSED_STREAM), break_off = reset(NGHTTP2_INTERNAL_ERROR);
  const auto goaway = frame(NGHTTP2_GOAWAY, 0, 0, big_endian(0, 4) + big_endian(NGHTTP2_NO_ERROR, 4));
  const Answer leave = [&](RawPeer& peer, std::uint32_t) { peer.send(goaway); };
  const std::string sent(100'000, 'x');
  for (auto& [first, moves] : std::initializer_list<std::pair<Answer, bool>>{{refuse, true}, {leave, true}, {break_off, false}}) {
    std::atomic<int> requests = 0;
    std::string bytes;
    FakeServer server([&](RawPeer& peer) {
      hello(peer, setting(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 20));
      peer.send(frame(NGHTTP2_WINDOW_UPDATE, 0, 0, big_endian(1 << 20, 4)));
      while (auto got = next_message(peer)) {
        if (++requests == 1) {
          first(peer, got->first);
          continue;
        }
        bytes = got->second;
        peer.send_headers(got->first, {{":status", "200"}, {"content-type", "application/grpc"}});
        peer.send_data(got->first, message("done"));
        peer.send_headers(got->first, {{"grpc-status", "0"}}, kEnd);
      }
    });
    connect({}, server.endpoint());
    auto result = call("/t/Echo", sent);
    run(stop_channel(channel_.get()));
    channel_.reset();
    EXPECT_EQ(requests, moves ? 2 : 1);
    EXPECT_EQ(result.status.ok(), moves) << result.status.message;
    if (moves) EXPECT_EQ(bytes, message(sent));
  }
}

TEST_F(FakePeer, APeerThatRefusesEveryCallIsAskedOnceForEachOfItsAddressesMore) {
  std::atomic<int> requests = 0;
  FakeServer server([&](RawPeer& peer) {
    hello(peer);
    while (auto stream = next_request(peer)) {
      ++requests;
      peer.send(frame(NGHTTP2_RST_STREAM, 0, stream, big_endian(NGHTTP2_REFUSED_STREAM, 4)));
    }
  });
  connect({}, server.endpoint());
  auto result = call("/t/Echo", "x");
  run(stop_channel(channel_.get()));
  channel_.reset();
  EXPECT_EQ(result.status.code, Code::unavailable);
  EXPECT_EQ(result.sent, core::Sent::no);
  EXPECT_EQ(requests, 2);
}

TEST_F(FakePeer, GoawayTellsWhatWasNotSent) {
  const auto goaway = [](std::uint32_t last) { return frame(NGHTTP2_GOAWAY, 0, 0, big_endian(last, 4) + big_endian(NGHTTP2_NO_ERROR, 4)); };
  auto unsent = result_of([&](RawPeer& peer, std::uint32_t) { peer.send(goaway(0)); });
  EXPECT_EQ(unsent.status.code, Code::unavailable);
  EXPECT_EQ(unsent.sent, core::Sent::no);
  auto maybe = result_of([&](RawPeer& peer, std::uint32_t stream) {
    peer.send(goaway(stream));
    peer.socket().shutdown(asio::ip::tcp::socket::shutdown_both);
  });
  EXPECT_EQ(maybe.status.code, Code::unavailable);
  EXPECT_EQ(maybe.sent, core::Sent::maybe);
}

TEST_F(FakePeer, AnEarlyAnswerEndsALongRequest) {
  FakeServer server([&](RawPeer& peer) {
    hello(peer);
    auto head = peer.next(NGHTTP2_HEADERS, 1);
    if (!head) return;
    peer.send_headers(1, {{":status", "200"}, {"content-type", "application/grpc"}, {"grpc-status", "8"}}, kEnd);
    auto reset = peer.end_of(1);
    EXPECT_TRUE(reset && reset->type == NGHTTP2_RST_STREAM);
    peer.closes();
  });
  connect({}, server.endpoint());
  EXPECT_EQ(call("/t/Echo", std::string(1 << 20, 'x')).status.code, Code::resource_exhausted);
  run(stop_channel(channel_.get()));
  channel_.reset();
}

TEST_F(FakePeer, BrokenAnswersBreakTheirCall) {
  const Headers ok{{":status", "200"}, {"content-type", "application/grpc"}};
  const auto with_data = [&](std::string data) {
    return result_of([=](RawPeer& peer, std::uint32_t stream) {
      peer.send_headers(stream, ok);
      peer.send_data(stream, data);
      peer.send_headers(stream, {{"grpc-status", "0"}}, kEnd);
    });
  };
  EXPECT_TRUE(with_data(message("a")).status.ok());
  EXPECT_EQ(with_data(message("a") + message("b")).status.code, Code::internal);
  EXPECT_EQ(with_data(message("abc").substr(0, 7)).status.code, Code::internal);
  EXPECT_EQ(with_data(message("abc", true)).status.code, Code::internal);
  EXPECT_EQ(with_data("\0\x7f\xff\xff\xff"s).status.code, Code::resource_exhausted);
  EXPECT_EQ(result_of([&](RawPeer& peer, std::uint32_t) { peer.send(std::string(5000, '\xff')); }).status.code, Code::unavailable);
  EXPECT_EQ(result_of([&](RawPeer& peer, std::uint32_t) { peer.socket().close(); }).status.code, Code::unavailable);
  EXPECT_EQ(result_of_headers({{":status", "200"}, {"content-type", "application/grpc"}, {"x-long", std::string(40'000, 'x')}, {"grpc-status", "0"}}).status.ok(), false);
}

TEST_F(FakePeer, InterimAnswersAreSkipped) {
  auto result = result_of([](RawPeer& peer, std::uint32_t stream) {
    peer.send_headers(stream, {{":status", "103"}, {"link", "x"}});
    peer.send_headers(stream, {{":status", "200"}, {"content-type", "application/grpc"}, {"x", "y"}});
    peer.send_data(stream, message("a"));
    peer.send_headers(stream, {{"grpc-status", "0"}}, kEnd);
  });
  EXPECT_TRUE(result.status.ok()) << result.status.message;
  EXPECT_EQ(result.initial.size(), 1u);
}

TEST_F(FakePeer, OneThatAcceptsButDoesNotSpeakIsUnavailableAndUnsent) {
  for (bool talks : {false, true}) {
    FakeServer server([&](RawPeer& peer) {
      if (talks) peer.send("HTTP/1.1 400 Bad Request\r\n\r\n");
      peer.closes();
    });
    GrpcClientOptions options;
    options.handshake_timeout = 100ms;
    connect(options, server.endpoint());
    auto result = call("/t/Echo", "");
    EXPECT_EQ(result.status.code, Code::unavailable);
    EXPECT_EQ(result.sent, core::Sent::no);
    run(stop_channel(channel_.get()));
    channel_.reset();
  }
}

TEST_F(FakePeer, OneThatFallsSilentIsGivenUp) {
  FakeServer server([&](RawPeer& peer) {
    hello(peer);
    EXPECT_TRUE(peer.next(NGHTTP2_PING));
    peer.closes();
  });
  GrpcClientOptions options;
  options.keep_alive = options.keep_alive_timeout = 60ms;
  connect(options, server.endpoint());
  auto result = call("/t/Echo", "");
  EXPECT_EQ(result.status.code, Code::unavailable);
  EXPECT_EQ(result.sent, core::Sent::maybe);
  run(stop_channel(channel_.get()));
  channel_.reset();
}

TEST_F(FakePeer, AnUnusedConnectionIsClosed) {
  std::promise<std::uint32_t> told;
  FakeServer server([&](RawPeer& peer) {
    hello(peer);
    auto stream = next_request(peer);
    if (stream == 0) return;
    peer.send_headers(stream, {{":status", "200"}, {"content-type", "application/grpc"}, {"grpc-status", "5"}}, kEnd);
    told.set_value(peer.goaway().value_or(99));
  });
  GrpcClientOptions options;
  options.idle_timeout = 100ms;
  connect(options, server.endpoint());
  EXPECT_EQ(call("/t/Echo", "").status.code, Code::not_found);
  EXPECT_EQ(told.get_future().get(), static_cast<std::uint32_t>(NGHTTP2_NO_ERROR));
  run(stop_channel(channel_.get()));
  channel_.reset();
}

TEST_F(FakePeer, TheRequestsHeaderIsWhatTheProtocolAsks) {
  std::promise<RawFrame> head;
  FakeServer server([&](RawPeer& peer) {
    hello(peer);
    auto got = peer.next(NGHTTP2_HEADERS, 1);
    if (!got) return;
    head.set_value(*got);
    peer.send_headers(1, {{":status", "200"}, {"content-type", "application/grpc"}, {"grpc-status", "5"}}, kEnd);
    peer.closes();
  });
  connect({}, server.endpoint());
  auto context = core::CallContext::with_timeout(9s);
  context.trace = core::TraceContext::from_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
  call("/t/Echo", "", {}, context);
  auto got = head.get_future().get();
  EXPECT_EQ(got.header(":method"), "POST");
  EXPECT_EQ(got.header(":scheme"), "http");
  EXPECT_EQ(got.header(":path"), "/t/Echo");
  EXPECT_EQ("grpc://" + got.header(":authority"), server.endpoint());
  EXPECT_EQ(got.header("te"), "trailers");
  EXPECT_EQ(got.header("content-type"), "application/grpc");
  EXPECT_EQ(got.header("grpc-accept-encoding"), "identity,gzip");
  EXPECT_EQ(got.header("traceparent"), context.trace.to_traceparent());
  const auto timeout = decode_timeout(got.header("grpc-timeout"));
  ASSERT_TRUE(timeout);
  EXPECT_LE(*timeout, 9s);
  EXPECT_GT(*timeout, 7s);
  run(stop_channel(channel_.get()));
  channel_.reset();
}

// --- TLS ---

/// A certificate for `host` that signs itself.
void write_certificate(const std::string& certificate, const std::string& key_file, const char* host) {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* x509 = X509_new();
  X509_set_version(x509, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(x509), 1);
  X509_gmtime_adj(X509_getm_notBefore(x509), -60);
  X509_gmtime_adj(X509_getm_notAfter(x509), 3600);
  X509_set_pubkey(x509, key);
  auto* name = X509_get_subject_name(x509);
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("test"), -1, -1, 0);
  X509_set_issuer_name(x509, name);
  auto* san = X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, host);
  X509_add_ext(x509, san, -1);
  X509_EXTENSION_free(san);
  X509_sign(x509, key, EVP_sha256());
  auto* out = std::fopen(certificate.c_str(), "w");
  PEM_write_X509(out, x509);
  std::fclose(out);
  out = std::fopen(key_file.c_str(), "w");
  PEM_write_PrivateKey(out, key, nullptr, nullptr, 0, nullptr, nullptr);
  std::fclose(out);
  X509_free(x509);
  EVP_PKEY_free(key);
}

class TlsTest : public GrpcTest {
 protected:
  void SetUp() override {
    std::string name = std::filesystem::temp_directory_path() / "flexi-grpc-XXXXXX";
    folder_ = ::mkdtemp(name.data());
    write_certificate(folder_ + "/cert.pem", folder_ + "/key.pem", "IP:127.0.0.1,DNS:localhost");
    write_certificate(folder_ + "/other.pem", folder_ + "/other-key.pem", "DNS:elsewhere.example");
  }
  void TearDown() override {
    GrpcTest::TearDown();
    std::filesystem::remove_all(folder_);
  }
  void start_tls(const std::string& certificate = "/cert.pem", const std::string& key = "/key.pem") {
    GrpcServerOptions options;
    options.certificate_file = folder_ + certificate;
    options.key_file = folder_ + key;
    options.handshake_timeout = 200ms;
    start(options);
  }
  std::string folder_;
};

TEST_F(TlsTest, CallsGoThroughIt) {
  start_tls();
  EXPECT_TRUE(server_->endpoint().starts_with("grpcs://"));
  GrpcClientOptions options;
  options.ca_file = folder_ + "/cert.pem";
  connect(options);
  for (std::size_t size : {0u, 100u, 3'000'000u}) {
    auto result = call("/t/Echo", std::string(size, 's'));
    EXPECT_TRUE(result.status.ok()) << result.status.message;
    EXPECT_EQ(result.message.size(), size);
  }
  int right = 0;
  run(call_many(channel_.get(), 200, &right));
  EXPECT_EQ(right, 200);
  run(talk(channel_.get(), 20));
  EXPECT_EQ(call("/t/Wait", "", {}, core::CallContext::with_timeout(100ms)).status.code, Code::deadline_exceeded);
  stop();
  EXPECT_EQ(call("/t/Echo", "").status.code, Code::unavailable);
}

TEST_F(TlsTest, AStrangersCertificateIsRefused) {
  start_tls();
  GrpcClientOptions options;
  options.ca_file = folder_ + "/other.pem";
  connect(options);
  auto result = call("/t/Echo", "");
  EXPECT_EQ(result.status.code, Code::unavailable);
  EXPECT_EQ(result.sent, core::Sent::no);
}

TEST_F(TlsTest, AnothersNameIsRefusedUnlessNobodyLooks) {
  start_tls("/other.pem", "/other-key.pem");
  GrpcClientOptions options;
  options.ca_file = folder_ + "/other.pem";
  connect(options);
  EXPECT_EQ(call("/t/Echo", "").status.code, Code::unavailable);
  run(stop_channel(channel_.get()));
  options.verify_peer = false;
  connect(options);
  EXPECT_TRUE(call("/t/Echo", "").status.ok());
}

TEST_F(TlsTest, PlainAndSilentPeersAreCut) {
  start_tls();
  connect({}, "grpc" + server_->endpoint().substr(5));
  EXPECT_EQ(call("/t/Echo", "").status.code, Code::unavailable);
  RawPeer silent(RawPeer::connected(server_->endpoint()));
  EXPECT_TRUE(silent.closes());
}

TEST_F(TlsTest, AWrongPairOfFilesIsRefused) {
  GrpcServerOptions options;
  options.listen = "127.0.0.1:0";
  options.certificate_file = folder_ + "/cert.pem";
  options.key_file = folder_ + "/other-key.pem";
  EXPECT_EQ(serve_methods(options, process_, test_methods(seen_)).error().kind, core::ErrorKind::invalid_argument);
  GrpcClientOptions client;
  client.ca_file = folder_ + "/absent.pem";
  EXPECT_EQ(Channel::make(client, process_, "grpcs://localhost:1").error().kind, core::ErrorKind::invalid_argument);
  for (auto endpoint : {"", "http://x:1", "grpc://", "grpc:/x", "grpcs://a b:1", "grpc://x:99999"}) EXPECT_FALSE(Channel::make({}, process_, endpoint)) << endpoint;
}

}  // namespace
}  // namespace flexi::transports::grpc::test
