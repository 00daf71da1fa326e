// SPDX-License-Identifier: Apache-2.0
#include "transports/grpc/wire.hpp"

#include <gtest/gtest.h>

#include <cstring>

#include "transports/grpc/allowance.hpp"
#include "transports/grpc/fields.hpp"
#include "transports/grpc/gzip.hpp"
#include "transports/grpc/options.hpp"

namespace flexi::transports::grpc {
namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;

TEST(Timeout, IsAtMostEightDigitsAndAUnit) {
  EXPECT_EQ(encode_timeout(0ms), "0m");
  EXPECT_EQ(encode_timeout(-5ms), "0m");
  EXPECT_EQ(encode_timeout(99'999'999ms), "99999999m");
  EXPECT_EQ(encode_timeout(100'000'000ms), "100000S");
  EXPECT_EQ(encode_timeout(100'000'001ms), "100001S");  // never shorter than asked
  EXPECT_EQ(encode_timeout(std::chrono::milliseconds::max()), "99999999S");
}

TEST(Timeout, IsReadInEachUnit) {
  EXPECT_EQ(decode_timeout("2H"), 2h);
  EXPECT_EQ(decode_timeout("3M"), 3min);
  EXPECT_EQ(decode_timeout("4S"), 4s);
  EXPECT_EQ(decode_timeout("5m"), 5ms);
  EXPECT_EQ(decode_timeout("6u"), 6us);
  EXPECT_EQ(decode_timeout("7n"), 7ns);
  EXPECT_EQ(decode_timeout("99999999H"), 8760h);  // a year is the most
  for (auto wrong : {"", "m", "5", "123456789m", "-1m", "+1m", "1.5S", " 1S", "1s", "1x", "1S "}) EXPECT_FALSE(decode_timeout(wrong)) << wrong;
}

TEST(Base64, RoundTripsWithAndWithoutPadding) {
  for (std::string bytes : {""s, "a"s, "ab"s, "abc"s, "\0\xff\x7f"s, std::string(1000, '\xfe')}) {
    auto text = base64_encode(bytes);
    EXPECT_EQ(text.find('='), text.npos);
    EXPECT_EQ(base64_decode(text), bytes);
    while (text.size() % 4 != 0) text += '=';
    EXPECT_EQ(base64_decode(text), bytes);
  }
  EXPECT_EQ(base64_decode("Zm9v"), "foo");
  for (auto wrong : {"A", "AAAAA", "A===", "AA A", "Zm9v\n", "A=AA", "-_"}) EXPECT_FALSE(base64_decode(wrong)) << wrong;
}

TEST(StatusMessage, IsPercentEncoded) {
  EXPECT_EQ(percent_encode("plain text ~"), "plain text ~");
  EXPECT_EQ(percent_encode("100%\n\xc3\xa9"), "100%25%0A%C3%A9");
  EXPECT_EQ(percent_decode("100%25%0A%C3%a9"), "100%\n\xc3\xa9");
  for (auto odd : {"%", "%2", "%zz", "100% sure", "%%41"}) EXPECT_EQ(percent_encode(percent_decode(odd)).empty(), false);
  EXPECT_EQ(percent_decode("100% sure%"), "100% sure%");
}

TEST(Codes, AreMappedBothWays) {
  for (auto kind : core::kAllErrorKinds) EXPECT_EQ(kind_of(code_of(kind)), kind);
  EXPECT_EQ(code_of(core::ErrorKind::conflict), Code::already_exists);
  EXPECT_EQ(kind_of(Code::data_loss), core::ErrorKind::internal);
  EXPECT_EQ(code_from_wire("0"), Code::ok);
  EXPECT_EQ(code_from_wire("16"), Code::unauthenticated);
  for (auto odd : {"17", "-1", "", "x", "0x0", "1 ", "99999999999999999999"}) EXPECT_EQ(code_from_wire(odd), Code::unknown) << odd;
  EXPECT_EQ(code_from_http(404), Code::unimplemented);
  EXPECT_EQ(code_from_http(503), Code::unavailable);
  EXPECT_EQ(code_from_http(200), Code::unknown);
  EXPECT_EQ(code_from_reset(NGHTTP2_REFUSED_STREAM), Code::unavailable);
  EXPECT_EQ(code_from_reset(NGHTTP2_CANCEL), Code::cancelled);
  EXPECT_EQ(code_from_reset(NGHTTP2_ENHANCE_YOUR_CALM), Code::resource_exhausted);
  EXPECT_EQ(code_from_reset(NGHTTP2_INADEQUATE_SECURITY), Code::permission_denied);
  EXPECT_EQ(code_from_reset(NGHTTP2_PROTOCOL_ERROR), Code::internal);
}

TEST(ContentType, MustBeGrpcWithProtobuf) {
  for (auto right : {"application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8", "application/grpc+proto;x=y"}) EXPECT_TRUE(is_grpc_content_type(right));
  for (auto wrong : {"", "application/json", "application/grpc-web", "application/grpc+json", "application/grpcx", "text/plain"})
    EXPECT_FALSE(is_grpc_content_type(wrong)) << wrong;
}

TEST(Encodings, AreListed) {
  EXPECT_TRUE(lists_encoding("identity, deflate ,gzip", "gzip"));
  EXPECT_FALSE(lists_encoding("identity,xgzip", "gzip"));
  EXPECT_FALSE(lists_encoding("", "gzip"));
}

std::string framed(std::string_view message, bool compressed = false) {
  char prefix[kPrefixBytes];
  write_prefix(prefix, compressed, message.size());
  return std::string(prefix, sizeof prefix).append(message);
}

TEST(DeframerTest, TakesMessagesHoweverTheyAreCut) {
  const std::string stream = framed("") + framed("a") + framed(std::string(70'000, 'b'), true) + framed("c");
  for (std::size_t step : {std::size_t(1), std::size_t(3), std::size_t(4096), stream.size()}) {
    Deframer in(70'000);
    for (std::size_t at = 0; at < stream.size(); at += step) ASSERT_TRUE(in.feed(std::string_view(stream).substr(at, step)));
    ASSERT_EQ(in.messages(), 4u);
    EXPECT_FALSE(in.in_message());
    EXPECT_EQ(in.held(), 70'002u);
    EXPECT_EQ(in.take().bytes, "");
    EXPECT_EQ(in.take().bytes, "a");
    auto big = in.take();
    EXPECT_EQ(big.bytes.size(), 70'000u);
    EXPECT_TRUE(big.compressed);
    EXPECT_FALSE(in.take().compressed);
    EXPECT_EQ(in.held(), 0u);
  }
}

TEST(DeframerTest, RefusesWhatIsTooLongBeforeItComes) {
  Deframer in(10);
  EXPECT_TRUE(in.feed(framed(std::string(10, 'x'))));
  auto fed = in.feed(framed(std::string(11, 'x')).substr(0, 5));
  ASSERT_FALSE(fed);
  EXPECT_EQ(fed.error().kind, core::ErrorKind::overloaded);
  in.reset(10);
  EXPECT_EQ(in.feed("\x02\0\0\0\0"s).error().kind, core::ErrorKind::internal);
}

TEST(DeframerTest, HoldsWhatHasComeNotWhatIsAnnounced) {
  Deframer in(1 << 30);
  ASSERT_TRUE(in.feed("\0\x3f\xff\xff\xff" "abc"s));
  EXPECT_TRUE(in.in_message());
  EXPECT_EQ(in.held(), 3u);
}

TEST(OutQueueTest, ReadsInAnyPortions) {
  for (std::size_t step : {1u, 4u, 7u, 100'000u}) {
    OutQueue out;
    out.push({"", false});
    out.push({"hello", true});
    out.push({std::string(20'000, 'x'), false});
    EXPECT_EQ(out.held(), 20'020u);
    std::string all;
    std::vector<std::uint8_t> buffer(step);
    while (!out.empty()) {
      const auto n = out.read(buffer.data(), buffer.size());
      all.append(reinterpret_cast<char*>(buffer.data()), n);
    }
    EXPECT_EQ(all, framed("") + framed("hello", true) + framed(std::string(20'000, 'x')));
    EXPECT_EQ(out.read(buffer.data(), buffer.size()), 0u);
  }
}

TEST(OutQueueTest, WhatIsKeptCanBeTakenBackThoughItWasRead) {
  OutQueue out;
  out.push({"hello", true});
  out.keep();
  std::uint8_t buffer[100];
  EXPECT_EQ(out.read(buffer, sizeof buffer), 10u);
  EXPECT_TRUE(out.empty());
  EXPECT_EQ(out.read(buffer, sizeof buffer), 0u);
  const auto frame = out.take_back();
  EXPECT_EQ(frame.bytes, "hello");
  EXPECT_TRUE(frame.compressed);
  EXPECT_EQ(out.take_back().bytes, "");
}

TEST(Gzip, RoundTrips) {
  for (std::string bytes : {""s, "a"s, std::string(100'000, 'z')}) EXPECT_EQ(gunzip(gzip(bytes), 100'000).value(), bytes);
}

TEST(Gzip, ABombIsNotUnpacked) {
  const auto bomb = gzip(std::string(64 << 20, '\0'));
  ASSERT_LT(bomb.size(), 1u << 20);
  auto out = gunzip(bomb, 1 << 20);
  ASSERT_FALSE(out);
  EXPECT_EQ(out.error().kind, core::ErrorKind::overloaded);
  EXPECT_TRUE(gunzip(gzip(std::string(1 << 20, 'x')), 1 << 20));
  EXPECT_FALSE(gunzip(gzip(std::string((1 << 20) + 1, 'x')), 1 << 20));
}

TEST(Gzip, GarbageIsRefused) {
  const auto good = gzip(std::string(5000, 'x'));
  for (std::string bad : {""s, "garbage"s, good.substr(0, good.size() - 1), good.substr(0, 12), good + "x"}) EXPECT_FALSE(gunzip(bad, 1 << 20)) << bad.size();
}

TEST(MetadataTest, KeepsOrderAndRepeats) {
  Metadata metadata;
  metadata.add("a", "1");
  metadata.add("b-bin", "\0\x01"s);
  metadata.add("a", "2");
  EXPECT_EQ(metadata.size(), 3u);
  EXPECT_EQ(metadata[0].value, "1");
  EXPECT_EQ(metadata.find("a"), "2");
  EXPECT_EQ(metadata.find("b-bin"), "\0\x01"s);
  EXPECT_FALSE(metadata.contains("c"));
  metadata.add("empty", "");
  EXPECT_TRUE(metadata.contains("empty"));
}

TEST(MetadataTest, OnlyWhatHeadersCanCarryIsSent) {
  const auto sendable = [](std::string_view key, std::string_view value) {
    Metadata metadata;
    metadata.add(key, value);
    return is_sendable(metadata);
  };
  EXPECT_TRUE(sendable("x-key_1.0", "text ~"));
  EXPECT_TRUE(sendable("x-bin", "\0\n\xff"s));
  for (auto key : {"", "Upper", ":path", "grpc-status", "content-type", "te", "sp ace"}) EXPECT_FALSE(sendable(key, "v")) << key;
  for (auto value : {"line\nbreak", "\xc3\xa9", "\x7f"}) EXPECT_FALSE(sendable("k", value));
}

TEST(MetadataTest, SeveralBinaryValuesInOneField) {
  Metadata metadata;
  EXPECT_TRUE(add_received(metadata, "x-bin", "Zm9v,YmE, YQ=="));
  ASSERT_EQ(metadata.size(), 3u);
  EXPECT_EQ(metadata[1].value, "ba");
  EXPECT_EQ(metadata[2].value, "a");
  EXPECT_FALSE(add_received(metadata, "x-bin", "!"));
}

TEST(AllowanceTest, LetsTenSecondsWorthThroughAtOnce) {
  Allowance allowance(10);
  Allowance::Time now{1h};
  int taken = 0;
  while (allowance.take(now)) ++taken;
  EXPECT_EQ(taken, 100);
  now += 1s;
  taken = 0;
  while (allowance.take(now)) ++taken;
  EXPECT_NEAR(taken, 9, 2);
}

TEST(Options, TellEveryProblem) {
  EXPECT_TRUE(GrpcServerOptions{}.validate().empty());
  EXPECT_TRUE(GrpcClientOptions{}.validate().empty());
  GrpcServerOptions server;
  server.listen = "nowhere";
  server.max_message_bytes = 0;
  server.certificate_file = "cert.pem";
  EXPECT_EQ(server.validate().size(), 3u);
  GrpcClientOptions client;
  client.key_file = "key.pem";
  client.connect_timeout = 0ms;
  EXPECT_EQ(client.validate().size(), 2u);
}

}  // namespace
}  // namespace flexi::transports::grpc
