// SPDX-License-Identifier: Apache-2.0
// The server against peers that misbehave, frame by frame.
#include <thread>

#include "transports/grpc/gzip.hpp"
#include "transports/grpc/raw_peer.hpp"
#include "transports/grpc/test_methods.hpp"

namespace flexi::transports::grpc::test {
namespace {

using namespace std::string_literals;
constexpr std::uint8_t kEnd = NGHTTP2_FLAG_END_STREAM, kEndHeaders = NGHTTP2_FLAG_END_HEADERS;

class Server : public GrpcTest {
 protected:
  std::unique_ptr<RawPeer> client(std::string_view settings = {}) { return RawPeer::client_of(server_->endpoint(), settings); }
  /// As wait_until(), for what blocks this thread: the shards' are the server's.
  static void poll_until(const std::function<bool()>& condition) {
    const auto give_up = std::chrono::steady_clock::now() + 20s;
    while (!condition() && std::chrono::steady_clock::now() < give_up) std::this_thread::yield();
    EXPECT_LT(std::chrono::steady_clock::now(), give_up);
  }
  /// What comes within a moment, of a peer that is not expected to say more.
  static std::vector<RawFrame> rest_of(RawPeer& peer) {
    std::vector<RawFrame> frames;
    while (peer.readable_within(100))
      if (auto got = peer.next()) frames.push_back(*got);
      else break;
    return frames;
  }
  /// A healthy call on a connection of its own.
  void expect_well() {
    auto peer = client();
    peer->call(1, "/t/Echo", "well");
    auto end = peer->end_of(1);
    ASSERT_TRUE(end);
    EXPECT_EQ(end->header("grpc-status"), "0");
    EXPECT_EQ(end->payload, message("well"));
  }
};

TEST_F(Server, AnswersAUnaryCall) {
  start();
  auto peer = client();
  peer->call(1, "/t/Echo", "hello", {{"x-text", "abc"}, {"x-bin", "AAE"}, {"user-agent", "grpc-test"}});
  auto head = peer->next(NGHTTP2_HEADERS, 1);
  ASSERT_TRUE(head);
  EXPECT_EQ(head->header(":status"), "200");
  EXPECT_EQ(head->header("content-type"), "application/grpc");
  EXPECT_EQ(head->header("i-x-text"), "abc");
  auto end = peer->end_of(1);
  EXPECT_EQ(end->payload, message("hello"));
  EXPECT_EQ(end->header("grpc-status"), "0");
  EXPECT_EQ(end->header("t-x-bin"), "AAE");
  EXPECT_EQ(end->headers.count("grpc-message"), 0u);
}

TEST_F(Server, AFailureIsTrailersOnly) {
  start();
  auto peer = client();
  peer->call(1, "/t/Fail", "50% \xc3\xa9");
  auto head = peer->next(NGHTTP2_HEADERS, 1);
  ASSERT_TRUE(head);
  EXPECT_TRUE(head->ends());
  EXPECT_EQ(head->header(":status"), "200");
  EXPECT_EQ(head->header("grpc-status"), "6");
  EXPECT_EQ(head->header("grpc-message"), "50%25 %C3%A9");
  EXPECT_EQ(head->header("grpc-status-details-bin"), base64_encode("details\x01"));
}

TEST_F(Server, RefusesWhatIsNotACall) {
  start();
  auto peer = client();
  const auto answer = [&](std::uint32_t id, const Headers& headers) {
    peer->send_headers(id, headers, kEnd);
    auto head = peer->next(NGHTTP2_HEADERS, id).value_or(RawFrame{});
    if (!head.ends()) head.payload = peer->end_of(id).value_or(RawFrame{}).payload;
    return head;
  };
  const Headers base{{":method", "POST"}, {":scheme", "http"}, {":path", "/t/Echo"}, {":authority", "x"}};
  auto with = [&](Headers more) {
    auto headers = base;
    headers.insert(headers.end(), more.begin(), more.end());
    return headers;
  };
  EXPECT_EQ(answer(1, with({{"te", "trailers"}, {"content-type", "application/json"}})).header(":status"), "415");
  EXPECT_EQ(answer(3, with({{"te", "trailers"}})).header(":status"), "415");
  auto no_te = answer(5, with({{"content-type", "application/grpc"}}));
  EXPECT_EQ(no_te.header("grpc-status"), "13");
  auto get = answer(7, {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "x"}});
  EXPECT_EQ(get.header(":status"), "405");
  EXPECT_EQ(get.header("allow"), "POST");
  EXPECT_EQ(get.payload, "This is a gRPC server: calls are POST.\n");
  EXPECT_EQ(answer(9, request("/t/None")).header("grpc-status"), "12");
  EXPECT_EQ(answer(11, request("/t/Echo", {{"grpc-timeout", "soon"}})).header("grpc-status"), "3");
  EXPECT_EQ(answer(13, request("/t/Echo", {{"x-bin", "???"}})).header("grpc-status"), "3");
  auto encoding = answer(15, request("/t/Echo", {{"grpc-encoding", "snappy"}}));
  EXPECT_EQ(encoding.header("grpc-status"), "12");
  EXPECT_EQ(encoding.header("grpc-accept-encoding"), "identity,gzip");
  EXPECT_EQ(answer(17, request("/t/Echo")).header("grpc-status"), "12") << "no message";
  EXPECT_EQ(seen_.started, 0);
  peer->call(19, "/t/Echo", "well");
  EXPECT_EQ(peer->end_of(19)->header("grpc-status"), "0");
}

TEST_F(Server, RefusesMessagesThatAreNone) {
  start();
  auto peer = client();
  const auto status = [&](std::uint32_t id, std::string_view data, const Headers& more = {}) {
    peer->send_headers(id, request("/t/Echo", more));
    peer->send_data(id, data, kEnd);
    return peer->end_of(id).value_or(RawFrame{}).header("grpc-status");
  };
  EXPECT_EQ(status(1, message("a") + message("b")), "12") << "two";
  EXPECT_EQ(status(3, "\x07\0\0\0\0"s), "13") << "no prefix";
  EXPECT_EQ(status(5, message("abc").substr(0, 6)), "13") << "half of one";
  EXPECT_EQ(status(7, "\0\0"s), "13") << "half a prefix";
  EXPECT_EQ(status(9, message("abc", true)), "13") << "compressed how?";
  EXPECT_EQ(status(11, message("abc", true), {{"grpc-encoding", "gzip"}}), "13") << "not gzip";
  EXPECT_EQ(status(13, message(gzip("abc"), true), {{"grpc-encoding", "gzip"}}), "0");
  EXPECT_EQ(status(15, message("abc"), {{"grpc-encoding", "gzip"}}), "0") << "uncompressed is always allowed";
}

TEST_F(Server, MessagesHaveALimitPackedOrNot) {
  GrpcServerOptions options;
  options.max_message_bytes = 1000;
  start(options);
  auto peer = client();
  peer->call(1, "/t/Echo", std::string(1000, 'x'));
  EXPECT_EQ(peer->end_of(1)->header("grpc-status"), "0");
  // Refused when the prefix is there: the rest need not come.
  peer->send_headers(3, request("/t/Echo"));
  peer->send_data(3, message(std::string(1001, 'x')).substr(0, 100));
  EXPECT_EQ(peer->end_of(3)->header("grpc-status"), "8");
  auto reset = peer->next(NGHTTP2_RST_STREAM, 3);
  ASSERT_TRUE(reset);
  EXPECT_EQ(reset->number(0), static_cast<std::uint32_t>(NGHTTP2_NO_ERROR));
  const auto bomb = gzip(std::string(100'000, '\0'));
  ASSERT_LT(bomb.size(), 1000u);
  peer->send_headers(5, request("/t/Echo", {{"grpc-encoding", "gzip"}}));
  peer->send_data(5, message(bomb, true), kEnd);
  EXPECT_EQ(peer->end_of(5)->header("grpc-status"), "8");
  peer->call(7, "/t/Bytes", "1000");
  EXPECT_EQ(peer->end_of(7)->header("grpc-status"), "0");
  peer->call(9, "/t/Bytes", "1001");
  EXPECT_EQ(peer->end_of(9)->header("grpc-status"), "8");
}

TEST_F(Server, CompressesForWhoAcceptsIt) {
  GrpcServerOptions options;
  options.compress_from_bytes = 500;
  start(options);
  auto peer = client();
  peer->call(1, "/t/Bytes", "10000", {{"grpc-accept-encoding", "identity,gzip"}});
  auto head = peer->next(NGHTTP2_HEADERS, 1);
  EXPECT_EQ(head->header("grpc-encoding"), "gzip");
  auto end = peer->end_of(1);
  ASSERT_GT(end->payload.size(), 5u);
  EXPECT_EQ(end->payload[0], 1);
  EXPECT_EQ(gunzip(end->payload.substr(5), 20'000).value(), std::string(10'000, 'b'));
  peer->call(3, "/t/Bytes", "10000");
  EXPECT_EQ(peer->end_of(3)->payload.size(), 10'005u);
  peer->call(5, "/t/Bytes", "499", {{"grpc-accept-encoding", "gzip"}});
  EXPECT_EQ(peer->end_of(5)->payload[0], 0);
}

TEST_F(Server, ADeadlineEndsTheCallAndItsMethod) {
  start();
  auto peer = client();
  peer->call(1, "/t/Wait", "", {{"grpc-timeout", "100m"}});
  auto end = peer->end_of(1);
  ASSERT_TRUE(end);
  EXPECT_EQ(end->header("grpc-status"), "4");
  EXPECT_EQ(end->header("x-flexi-sent"), "maybe");
  wait_until([&] { return seen_.cancelled == 1; });
  // Over before it began.
  peer->call(3, "/t/Wait", "", {{"grpc-timeout", "0n"}});
  end = peer->end_of(3);
  EXPECT_EQ(end->header("grpc-status"), "4");
  EXPECT_EQ(end->headers.count("x-flexi-sent"), 0u);
  // A request that does not come to its end.
  peer->send_headers(5, request("/t/Wait", {{"grpc-timeout", "50m"}}));
  EXPECT_EQ(peer->end_of(5)->header("grpc-status"), "4");
  EXPECT_EQ(seen_.started, 1);
}

TEST_F(Server, WhatAMethodAddsTooLateHarmsNothing) {
  start();
  auto peer = client();
  peer->call(1, "/t/Late", "");
  std::string early, late;
  while (auto got = peer->next())
    if (got->stream == 1) {
      if (got->headers.contains("early")) early = got->header("early");
      if (got->headers.contains("late")) late = got->header("late");
      if (got->flags & kEnd) break;
    }
  EXPECT_EQ(early, "in time");
  EXPECT_EQ(late, "");
  for (int id = 3; id < 103; id += 2) {
    peer->call(id, "/t/Late", "", {{"grpc-timeout", "10m"}});
    const auto end = peer->end_of(id);
    ASSERT_TRUE(end) << id;
    if (end->header("grpc-status") != "4") continue;  // the method was quicker
    EXPECT_EQ(end->header("x-flexi-sent"), "maybe");
    EXPECT_EQ(end->headers.count("late"), 0u);
  }
}

TEST_F(Server, AResetCancelsTheMethod) {
  start();
  auto peer = client();
  peer->call(1, "/t/Wait", "");
  wait_until([&] { return seen_.started == 1; });
  peer->send(frame(NGHTTP2_RST_STREAM, 0, 1, big_endian(NGHTTP2_CANCEL, 4)));
  wait_until([&] { return seen_.cancelled == 1; });
  peer->send_headers(3, request("/t/Bidi"));
  wait_until([&] { return seen_.started == 2; });
  peer->send(frame(NGHTTP2_RST_STREAM, 0, 3, big_endian(NGHTTP2_CANCEL, 4)));
  wait_until([&] { return seen_.cancelled == 2; });
  peer->call(5, "/t/Echo", "still here");
  EXPECT_EQ(peer->end_of(5)->header("grpc-status"), "0");
}

TEST_F(Server, ALostConnectionCancelsItsMethods) {
  start();
  auto peer = client();
  peer->call(1, "/t/Wait", "");
  peer->send_headers(3, request("/t/Bidi"));
  peer->send_data(3, message("half a message").substr(0, 9));
  wait_until([&] { return seen_.started == 2; });
  peer.reset();
  wait_until([&] { return seen_.cancelled == 2; });
  expect_well();
}

TEST_F(Server, AThrowingMethodIsInternal) {
  start();
  auto peer = client();
  peer->call(1, "/t/Throw", "");
  auto end = peer->end_of(1);
  EXPECT_EQ(end->header("grpc-status"), "13");
  EXPECT_EQ(end->header("grpc-message").find("secret"), std::string::npos);
}

TEST_F(Server, GarbageEndsItsConnectionOnly) {
  start();
  auto well = client();
  for (std::string garbage : {std::string(1000, '\0'), std::string(100'000, '\xff'), "GET / HTTP/1.1\r\nHost: x\r\n\r\n"s, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"s + std::string(2000, 'x')}) {
    RawPeer peer(RawPeer::connected(server_->endpoint()));
    peer.send(garbage);
    EXPECT_TRUE(peer.closes());
  }
  for (std::string wrong : {frame(NGHTTP2_DATA, 0, 0, "x"), frame(NGHTTP2_HEADERS, kEndHeaders, 1, "\xff\xff\xff\xff\xff"), frame(NGHTTP2_SETTINGS, 0, 0, "abc"),
                            frame(NGHTTP2_WINDOW_UPDATE, 0, 0, big_endian(0, 4)), frame(NGHTTP2_HEADERS, kEndHeaders, 2, header_block(request("/t/Echo"))),
                            frame(NGHTTP2_DATA, 0, 99, "x"), frame(NGHTTP2_PING, 0, 0, "short"), "\xff\xff\xff\0\0\0\0\0\x01"s}) {
    auto peer = client();
    peer->send(wrong);
    auto error = peer->goaway();
    ASSERT_TRUE(error);
    EXPECT_NE(*error, static_cast<std::uint32_t>(NGHTTP2_NO_ERROR));
    EXPECT_TRUE(peer->closes());
  }
  well->call(1, "/t/Echo", "well");
  EXPECT_EQ(well->end_of(1)->header("grpc-status"), "0");
}

TEST_F(Server, OneByteAtATimeIsUnderstood) {
  start();
  auto peer = client();
  for (char c : frame(NGHTTP2_HEADERS, kEndHeaders, 1, header_block(request("/t/Echo"))) + frame(NGHTTP2_DATA, kEnd, 1, message("slow"))) peer->send({&c, 1});
  EXPECT_EQ(peer->end_of(1)->payload, message("slow"));
}

TEST_F(Server, SilenceBeforeTheHandshakeIsCut) {
  GrpcServerOptions options;
  options.handshake_timeout = 50ms;
  options.settings_timeout = 100ms;
  start(options);
  RawPeer silent(RawPeer::connected(server_->endpoint()));
  EXPECT_TRUE(silent.closes());
  RawPeer half(RawPeer::connected(server_->endpoint()));
  half.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(NGHTTP2_SETTINGS, 0, 0).substr(0, 5));
  EXPECT_TRUE(half.closes());
  // SETTINGS that are never acknowledged.
  RawPeer rude(RawPeer::connected(server_->endpoint()));
  rude.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(NGHTTP2_SETTINGS, 0, 0));
  EXPECT_EQ(rude.goaway(), static_cast<std::uint32_t>(NGHTTP2_SETTINGS_TIMEOUT));
}

TEST_F(Server, AnIdleConnectionIsClosedInTwoSteps) {
  GrpcServerOptions options;
  options.idle_timeout = 50ms;
  options.drain_linger = 30ms;
  start(options);
  auto peer = client();
  auto first = peer->next(NGHTTP2_GOAWAY), second = peer->next(NGHTTP2_GOAWAY);
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->number(0), 0x7fffffffu);
  EXPECT_EQ(second->number(0), 0u);
  EXPECT_EQ(second->number(4), static_cast<std::uint32_t>(NGHTTP2_NO_ERROR));
  EXPECT_TRUE(peer->closes());
}

TEST_F(Server, ASilentPeerIsPingedAndGivenUp) {
  GrpcServerOptions options;
  options.keep_alive = options.keep_alive_timeout = 60ms;
  start(options);
  auto peer = client();
  peer->call(1, "/t/Wait", "");
  auto ping = peer->next(NGHTTP2_PING);
  ASSERT_TRUE(ping);
  peer->send(frame(NGHTTP2_PING, NGHTTP2_FLAG_ACK, 0, ping->payload));
  EXPECT_TRUE(peer->next(NGHTTP2_PING));  // and again
  EXPECT_TRUE(peer->closes());            // unanswered
  wait_until([&] { return seen_.cancelled == 1; });
}

TEST_F(Server, TooManyPingsEndTheConnection) {
  start();
  auto peer = client();
  for (int i = 0; i < 5; ++i) peer->send(frame(NGHTTP2_PING, 0, 0, "12345678"));
  auto goaway = peer->next(NGHTTP2_GOAWAY);
  ASSERT_TRUE(goaway);
  EXPECT_EQ(goaway->number(4), static_cast<std::uint32_t>(NGHTTP2_ENHANCE_YOUR_CALM));
  EXPECT_EQ(goaway->payload.substr(8), "too_many_pings");
  EXPECT_TRUE(peer->closes());
}

TEST_F(Server, PingsBetweenAnswersAreFair) {
  start();
  auto peer = client();
  for (std::uint32_t i = 0; i < 20; ++i) {
    peer->send(frame(NGHTTP2_PING, 0, 0, "12345678"));
    peer->call(2 * i + 1, "/t/Echo", "x");
    ASSERT_EQ(peer->end_of(2 * i + 1).value_or(RawFrame{}).header("grpc-status"), "0");
  }
}

TEST_F(Server, RapidResetsEndTheConnection) {
  GrpcServerOptions options;
  options.max_resets_per_second = 10;
  start(options);
  auto peer = client();
  std::uint32_t id = 1;
  for (; id < 2001; id += 2)
    if (!peer->call(id, "/t/Wait", "") || !peer->send(frame(NGHTTP2_RST_STREAM, 0, id, big_endian(NGHTTP2_CANCEL, 4)))) break;
  EXPECT_EQ(peer->goaway(), static_cast<std::uint32_t>(NGHTTP2_ENHANCE_YOUR_CALM));
  EXPECT_TRUE(peer->closes());
  EXPECT_LE(seen_.started, 150);
  wait_until([&] { return seen_.started == seen_.ended; });
  expect_well();
}

TEST_F(Server, ResetsThatThePeerMakesUsSendCountToo) {
  GrpcServerOptions options;
  options.max_resets_per_second = 10;
  start(options);
  auto peer = client();
  // Each window update beyond the largest window makes the server reset the stream ("MadeYouReset").
  for (std::uint32_t id = 1; id < 2001; id += 2)
    if (!peer->call(id, "/t/Wait", "") || !peer->send(frame(NGHTTP2_WINDOW_UPDATE, 0, id, big_endian(0x7fffffff, 4)))) break;
  EXPECT_EQ(peer->goaway(), static_cast<std::uint32_t>(NGHTTP2_ENHANCE_YOUR_CALM));
}

TEST_F(Server, FloodsOfEmptyFramesEndTheConnection) {
  GrpcServerOptions options;
  options.max_control_frames_per_second = 10;
  start(options);
  const std::string open = frame(NGHTTP2_HEADERS, kEndHeaders, 1, header_block(request("/t/CountLate")));
  for (const auto& [head, one] : {std::pair(open, frame(NGHTTP2_DATA, 0, 1)), std::pair(""s, frame(NGHTTP2_SETTINGS, 0, 0)),
                                  std::pair(""s, frame(NGHTTP2_PRIORITY, 0, 1, big_endian(3, 4) + "x"s))}) {
    auto peer = client();
    peer->send(head);
    for (int i = 0; i < 500 && peer->send(one); ++i) {
    }
    EXPECT_EQ(peer->goaway(), static_cast<std::uint32_t>(NGHTTP2_ENHANCE_YOUR_CALM)) << int(one[3]);
  }
}

TEST_F(Server, HeadersHaveALimit) {
  start();
  auto peer = client();
  peer->send(frame(NGHTTP2_HEADERS, kEnd, 1, header_block(request("/t/Echo", {{"x-long", std::string(9000, 'x')}}))));
  peer->send(frame(NGHTTP2_CONTINUATION, kEndHeaders, 1, header_block({{"x-longer", std::string(8000, 'y')}})));
  auto head = peer->next(NGHTTP2_HEADERS, 1);
  ASSERT_TRUE(head);
  EXPECT_EQ(head->header("grpc-status"), "8");
  // A header without an end (CONTINUATION flood).
  peer->send(frame(NGHTTP2_HEADERS, 0, 3, header_block(request("/t/Echo"))));
  for (int i = 0; i < 10'000 && peer->send(frame(NGHTTP2_CONTINUATION, 0, 3, header_block({{"x", std::string(1000, 'x')}}))); ++i) {
  }
  EXPECT_TRUE(peer->closes());
  expect_well();
}

TEST_F(Server, OnlySoManyCallsOfOneConnectionAtATime) {
  GrpcServerOptions options;
  options.max_concurrent_streams = 3;
  start(options);
  auto peer = std::make_unique<RawPeer>(RawPeer::connected(server_->endpoint()));
  peer->send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(NGHTTP2_SETTINGS, 0, 0));
  auto settings = peer->next(NGHTTP2_SETTINGS);
  ASSERT_TRUE(settings);
  bool told = false;
  for (std::size_t at = 0; at < settings->payload.size(); at += 6) told = told || settings->payload.substr(at, 6) == setting(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 3);
  EXPECT_TRUE(told);
  for (std::uint32_t id = 1; id <= 7; id += 2) peer->call(id, "/t/Wait", "");
  // Before it has acknowledged that limit: refused, certainly not begun.
  auto reset = peer->next(NGHTTP2_RST_STREAM, 7);
  ASSERT_TRUE(reset);
  EXPECT_EQ(reset->number(0), static_cast<std::uint32_t>(NGHTTP2_REFUSED_STREAM));
  EXPECT_EQ(seen_.started, 3);
  seen_.released = true;
  EXPECT_EQ(peer->end_of(5)->header("grpc-status"), "0");
}

TEST_F(Server, OnlySoManyConnections) {
  GrpcServerOptions options;
  options.max_connections = 2;
  start(options);
  auto one = client(), two = client();
  RawPeer three(RawPeer::connected(server_->endpoint()));
  EXPECT_TRUE(three.closes());
  one.reset();
  poll_until([&] {
    RawPeer again(RawPeer::connected(server_->endpoint()));
    return again.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(NGHTTP2_SETTINGS, 0, 0)) && again.next(NGHTTP2_SETTINGS);
  });
}

TEST_F(Server, AStreamWithoutWindowIsBounded) {
  start();
  auto peer = client(setting(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0));
  peer->call(1, "/t/Many", "100000");
  wait_until([&] { return seen_.written >= 60; });
  for (auto& got : rest_of(*peer)) EXPECT_NE(got.type, NGHTTP2_DATA);
  EXPECT_LT(seen_.written, 200);  // 64 KiB ahead, of 100 MB
  // A little window lets a little through.
  peer->send(frame(NGHTTP2_WINDOW_UPDATE, 0, 1, big_endian(50'000, 4)));
  std::size_t got = 0;
  while (got < 50'000) got += peer->next(NGHTTP2_DATA, 1)->payload.size();
  EXPECT_EQ(got, 50'000u);
  EXPECT_LT(seen_.written, 300);
  peer.reset();
  wait_until([&] { return seen_.cancelled == 1; });
}

TEST_F(Server, AnAnswerThatNobodyTakesIsDropped) {
  GrpcServerOptions options;
  options.write_timeout = 60ms;
  start(options);
  auto peer = client(setting(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0));
  peer->call(1, "/t/Bytes", "1000");
  auto reset = peer->next(NGHTTP2_RST_STREAM, 1);
  ASSERT_TRUE(reset);
  EXPECT_EQ(reset->number(0), static_cast<std::uint32_t>(NGHTTP2_CANCEL));
  peer->call(3, "/t/Many", "10");
  EXPECT_TRUE(peer->next(NGHTTP2_RST_STREAM, 3)) << "a streaming method that has ended";
  peer->send_headers(5, {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "x"}}, kEnd);
  EXPECT_TRUE(peer->next(NGHTTP2_RST_STREAM, 5)) << "words for a browser";
}

TEST_F(Server, HalfAMessageIsGivenUpInTime) {
  GrpcServerOptions options;
  options.message_timeout = 100ms;
  start(options);
  auto peer = client();
  // A whole message and the half of another: the method does not read, so the rest is not missed.
  peer->send_headers(1, request("/t/CountLate"));
  peer->send_data(1, message("whole") + message("held back").substr(0, 7));
  peer->send_headers(3, request("/t/Bidi"));
  peer->send_data(3, message(std::string(1000, 'x')).substr(0, 500));
  auto late = peer->end_of(3);
  ASSERT_TRUE(late);
  EXPECT_EQ(late->header("grpc-status"), "4");
  peer->send_headers(5, request("/t/Bidi"));
  peer->send_data(5, message("x").substr(0, 3));
  EXPECT_EQ(peer->end_of(5).value_or(RawFrame{}).header("grpc-status"), "4") << "half a prefix";
  seen_.released = true;
  peer->send_data(1, message("held back").substr(7), kEnd);
  EXPECT_EQ(peer->end_of(1).value_or(RawFrame{}).payload, message("14"));
  expect_well();
}

TEST_F(Server, OneConnectionsShareIsBoundedAndLeavesTheOthersTheirs) {
  GrpcServerOptions options;
  options.max_connection_bytes = 1 << 20;
  start(options);
  auto peer = client();
  // Messages that never come to their end.
  const auto half = message(std::string(700'000, 'x')).substr(0, 600'000);
  for (std::uint32_t id : {1u, 3u}) {
    peer->send_headers(id, request("/t/Bidi"));
    peer->send_data(id, half);
  }
  EXPECT_EQ(peer->end_of(3).value_or(RawFrame{}).header("grpc-status"), "8");
  expect_well();
  peer->send(frame(NGHTTP2_RST_STREAM, 0, 1, big_endian(NGHTTP2_CANCEL, 4)));
  peer->call(5, "/t/Echo", "after");
  EXPECT_EQ(peer->end_of(5).value_or(RawFrame{}).header("grpc-status"), "0");
}

TEST_F(Server, WhatMethodsWorkWithCounts) {
  GrpcServerOptions options;
  options.max_connection_bytes = 1 << 20;
  start(options);
  auto peer = client();
  const std::string request_bytes(600'000, 'x');
  for (std::string path : {"/t/Wait", "/t/Hold"}) {
    seen_.released = false;
    const std::uint32_t id = path == "/t/Wait" ? 1 : 11;
    const int started = seen_.started;
    for (std::uint32_t i = 0; i < 4; i += 2) {
      peer->send_headers(id + i, request(path));
      peer->send_data(id + i, message(request_bytes), kEnd);
      if (i == 0) poll_until([&] { return seen_.started == started + 1; });
    }
    EXPECT_EQ(peer->end_of(id + 2).value_or(RawFrame{}).header("grpc-status"), "8") << path;
    seen_.released = true;
    EXPECT_EQ(peer->end_of(id).value_or(RawFrame{}).header("grpc-status"), "0") << path;
    peer->call(id + 4, "/t/Fail", "x");
    EXPECT_EQ(peer->end_of(id + 4).value_or(RawFrame{}).header("grpc-status"), "6") << path;
  }
}

TEST_F(Server, WhatAllCallsHoldIsBounded) {
  GrpcServerOptions options;
  options.max_buffered_bytes = 1 << 20;
  start(options);
  std::unique_ptr<RawPeer> others[16];  // on both shards
  for (auto& other : others) other = client();
  auto peer = client(setting(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0));
  // Answers of half a megabyte that are not taken: the third call finds the memory full.
  std::uint32_t id = 1;
  std::string status;
  for (; id < 100 && status.empty(); id += 2) {
    peer->call(id, "/t/Bytes", "600000");
    auto head = peer->next(NGHTTP2_HEADERS, id);
    ASSERT_TRUE(head);
    status = head->header("grpc-status");
  }
  EXPECT_EQ(status, "8");
  EXPECT_LE(id, 7u);
  // The limit is the core's: strangers feel it, too. Those of the other core do not.
  int refused = 0;
  for (auto& other : others) {
    other->call(1, "/t/Fail", "x");
    refused += other->end_of(1).value_or(RawFrame{}).header("grpc-status") == "8";
  }
  EXPECT_GT(refused, 0);
  EXPECT_LT(refused, 16);
  for (std::uint32_t i = 1; i < id; i += 2) peer->send(frame(NGHTTP2_RST_STREAM, 0, i, big_endian(NGHTTP2_CANCEL, 4)));
  poll_until([&] {
    peer->call(id, "/t/Fail", "x");
    auto end = peer->end_of(id);
    id += 2;
    return end && end->header("grpc-status") == "6";
  });
}

TEST_F(Server, ASenderAheadOfItsReaderIsHeldBack) {
  GrpcServerOptions options;
  options.stream_window_bytes = 65'535;
  start(options);
  auto peer = client();
  peer->send_headers(1, request("/t/CountLate"));
  const auto one = message(std::string(16'000, 'x'));
  for (int i = 0; i < 4; ++i) peer->send_data(1, one);  // 64,020 of 65,535 bytes
  wait_until([&] { return seen_.started == 1; });
  // The connection's window opens, the stream's does not: its messages are not read.
  for (auto& got : rest_of(*peer)) EXPECT_FALSE(got.type == NGHTTP2_WINDOW_UPDATE && got.stream == 1);
  seen_.released = true;
  auto update = peer->next(NGHTTP2_WINDOW_UPDATE, 1);
  ASSERT_TRUE(update);
  EXPECT_GT(update->number(0), 32'000u);
  peer->send_data(1, one, kEnd);
  auto end = peer->end_of(1);
  EXPECT_EQ(end->payload, message("80000"));
  EXPECT_EQ(end->header("grpc-status"), "0");
}

TEST_F(Server, AMessageLongerThanTheWindowComesThrough) {
  GrpcServerOptions options;
  options.stream_window_bytes = 65'535;
  start(options);
  connect();
  EXPECT_EQ(call("/t/Echo", std::string(4 << 20, 'x')).message.size(), 4u << 20);
}

TEST_F(Server, AStopDrains) {
  start();
  auto peer = client();
  peer->call(1, "/t/Wait", "");
  peer->send_headers(3, request("/t/Watch"));
  wait_until([&] { return seen_.started == 2; });
  auto stopping = [](core::Server* server, RawPeer* p, Seen* seen, GrpcTest*) -> core::awaitable<void> {
    runtime::TaskScope scope(co_await boost::asio::this_coro::executor, "stop", runtime::LogSink::none());
    scope.spawn([](core::Server* s) -> core::awaitable<void> { co_await s->stop({.grace = 15s}); }(server));
    while (!p->readable_within(0)) co_await pause();
    p->next(NGHTTP2_HEADERS, 3);
    // What was on its way when the first GOAWAY came is still taken.
    p->call(5, "/t/Echo", "late");
    while (seen->started < 3) co_await pause();
    seen->released = true;
    co_await scope.join();
  }(server_.get(), peer.get(), &seen_, this);
  run(std::move(stopping));
  server_.reset();
  std::map<std::uint32_t, std::string> status;
  std::vector<std::uint32_t> last;
  while (auto got = peer->next()) {
    if (got->type == NGHTTP2_HEADERS && got->ends()) status[got->stream] = got->header("grpc-status");
    if (got->type == NGHTTP2_GOAWAY) last.push_back(got->number(0));
  }
  EXPECT_EQ(status[1], "0");
  EXPECT_EQ(status[5], "0");
  EXPECT_FALSE(last.empty());
}

TEST_F(Server, AStopEndsSubscriptionsAtOnceAndCallsAfterItsGrace) {
  start();
  auto peer = client();
  peer->call(1, "/t/Wait", "");
  peer->send_headers(3, request("/t/Watch"));
  wait_until([&] { return seen_.started == 2; });
  stop(100ms);
  EXPECT_EQ(seen_.cancelled, 2);
  std::map<std::uint32_t, std::string> status;
  while (auto got = peer->next())
    if (got->type == NGHTTP2_HEADERS && got->ends()) status[got->stream] = got->header("grpc-status") + got->header("x-flexi-sent");
  EXPECT_EQ(status[1], "14maybe");
  EXPECT_EQ(status[3], "14maybe");
}

TEST_F(Server, AStopLetsThePeerTakeWhatWaitsForItsWindow) {
  start();
  auto peer = client();
  for (std::uint32_t id : {1u, 3u, 5u}) peer->call(id, "/t/Bytes", "100000");
  peer->call(7, "/t/Wait", "");
  wait_until([&] { return seen_.started == 1; });
  std::thread stopper([&] { stop(20ms); });
  std::map<std::uint32_t, std::size_t> bytes;
  std::map<std::uint32_t, std::string> status;
  int goaways = 0;
  while (auto got = peer->next()) {
    if (got->type == NGHTTP2_DATA) bytes[got->stream] += got->payload.size();
    if (got->type == NGHTTP2_HEADERS && got->ends()) status[got->stream] = got->header("grpc-status");
    if (got->type != NGHTTP2_GOAWAY) continue;
    // What the server said last, with 65,535 bytes on the way and no window for more.
    if (got->number(0) == 0x7fffffff || ++goaways > 1) continue;
    for (std::uint32_t id : {0u, 1u, 3u, 5u}) peer->send(frame(NGHTTP2_WINDOW_UPDATE, 0, id, big_endian(1'000'000, 4)));
  }
  stopper.join();
  EXPECT_GT(goaways, 0);
  for (std::uint32_t id : {1u, 3u, 5u}) {
    EXPECT_EQ(bytes[id], 100'005u);
    EXPECT_EQ(status[id], "0");
  }
  EXPECT_EQ(status[7], "14");
}

TEST_F(Server, WhatWasAnsweredBeforeAnOffenceStillGoesOutWithTheGoaway) {
  start();
  auto peer = client(setting(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 8 << 20));
  peer->send(frame(NGHTTP2_WINDOW_UPDATE, 0, 0, big_endian(64 << 20, 4)));
  // More than the sockets hold.
  for (std::uint32_t id : {1u, 3u, 5u, 7u}) peer->call(id, "/t/Bytes", "4000000");
  peer->call(9, "/t/Echo", "");
  wait_until([&] { return seen_.started == 1; });
  std::string pings;
  for (int i = 0; i < 5; ++i) pings += frame(NGHTTP2_PING, 0, 0, "12345678");
  peer->send(pings);
  int ended = 0;
  std::optional<std::uint32_t> error;
  while (auto got = peer->next()) {
    if (got->type == NGHTTP2_HEADERS && got->ends()) ended += got->header("grpc-status") == "0";
    if (got->type == NGHTTP2_GOAWAY) error = got->number(4);
  }
  EXPECT_EQ(ended, 5);
  EXPECT_EQ(error, static_cast<std::uint32_t>(NGHTTP2_ENHANCE_YOUR_CALM));
}

TEST_F(Server, MeasuresWhatItAnswers) {
  start();
  auto peer = client();
  peer->call(1, "/t/Echo", "");
  peer->end_of(1);
  peer->call(3, "/t/Fail", "");
  peer->end_of(3);
  wait_until([&] {
    const auto text = metrics_.expose();
    return text.find("flexi_grpc_requests_total{status=\"OK\"} 1") != text.npos && text.find("flexi_grpc_requests_total{status=\"ALREADY_EXISTS\"} 1") != text.npos &&
           text.find("flexi_grpc_connections 1") != text.npos;
  });
}

TEST_F(Server, WontShareAPort) {
  start();
  GrpcServerOptions options;
  options.listen = server_->endpoint().substr(7);
  auto second = serve_methods(options, process_, test_methods(seen_));
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, core::ErrorKind::unavailable);
  options.listen = "nowhere:1";
  EXPECT_EQ(serve_methods(options, process_, test_methods(seen_)).error().kind, core::ErrorKind::invalid_argument);
  options.listen = "127.0.0.1:0";
  options.certificate_file = options.key_file = "/nowhere.pem";
  EXPECT_EQ(serve_methods(options, process_, test_methods(seen_)).error().kind, core::ErrorKind::invalid_argument);
}

}  // namespace
}  // namespace flexi::transports::grpc::test
