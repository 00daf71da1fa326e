// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <set>

#include "core/call_context.hpp"
#include "core/hops.hpp"
#include "core/message_id.hpp"
#include "core/timestamp.hpp"

namespace flexi::core {
namespace {

TEST(MessageId, GeneratedIsUuidVersion7AndUnique) {
  std::set<std::string> seen;
  for (int i = 0; i < 10000; ++i) {
    const auto id = MessageId::generate().str();
    ASSERT_EQ(id.size(), 36u);
    ASSERT_EQ(id[14], '7');
    ASSERT_TRUE(std::string("89ab").find(id[19]) != std::string::npos) << id;
    ASSERT_TRUE(seen.insert(id).second) << "the same id twice: " << id;
  }
}

TEST(CallContext, HopsAreKeptInOrderAndBounded) {
  CallContext context;
  context.add_hop("broker");
  context.add_hop("logger");
  EXPECT_TRUE(context.hops.starts_with("broker@")) << context.hops;
  EXPECT_NE(context.hops.find(" logger@"), std::string::npos) << context.hops;
  for (int i = 0; i < 200; ++i) context.add_hop("loop");
  EXPECT_LE(context.hops.size(), CallContext::kMaxHopsBytes);
}

TEST(Hops, AreReadAndShortenedAndLengthened) {
  const auto since = from_unix_micros(1'795'000'000'000'000);
  const std::string hops = "broker@1795000000000005 broker>http@1795000000000040 logger@1794999999999999";
  const auto read = read_hops(hops);
  ASSERT_EQ(read.size(), 3u);
  EXPECT_EQ(read[1].at, "broker>http");
  EXPECT_EQ(read[1].time, since + std::chrono::microseconds(40));
  EXPECT_EQ(shorten_hops(hops, since), "broker@5 broker>http@40 logger@-1");
  EXPECT_EQ(lengthen_hops(shorten_hops(hops, since), since), hops);
  EXPECT_EQ(lengthen_hops("", since), "");
}

TEST(Hops, SayByWhichWayTheBrokerHandedAMessageOn) {
  EXPECT_EQ(departed_by("broker@1 broker>http@2 broker>amqp@3 listener@4"), Via::amqp);
  EXPECT_EQ(departed_by("listener@4 logger@5"), std::nullopt);
  EXPECT_EQ(departed_by(""), std::nullopt);
  EXPECT_EQ(departed_by("broker>nonsense@1"), std::nullopt);
}

TEST(Hops, SayWhoCountsTheAcceptance) {
  EXPECT_TRUE(counted_by_publisher("broker@1 broker>amqp@2 listener@3 logger@4"));
  EXPECT_FALSE(counted_by_publisher("broker@1 broker>amqp@2 rabbitmq@3 listener@4 logger@5"));
  EXPECT_FALSE(counted_by_publisher("rabbitmq@3 listener@4")) << "of a foreign producer";
  EXPECT_TRUE(counted_by_publisher("rabbitmq@1 broker@2 broker>amqp@3")) << "what counts is behind the last broker";
  EXPECT_FALSE(counted_by_publisher("broker@1 broker>amqp@2 broker>http@3"));
  EXPECT_FALSE(counted_by_publisher(""));
}

TEST(Hops, OfAStrangerAreNoDanger) {
  for (std::string bad : {"", " ", "@", "@1", "a@", "a@x", "a@1x", "a@99999999999999999999", "a", "@@", "a@-5", "a@9000000000000000"}) EXPECT_TRUE(read_hops(bad).empty()) << bad;
  for (std::string bad : {"a@1\r\nX: y", "a\x7f@1", "\xc3\xa9@1"}) EXPECT_FALSE(may_be_hops(bad));
  EXPECT_FALSE(may_be_hops(std::string(CallContext::kMaxHopsBytes + 1, 'a')));
  EXPECT_TRUE(may_be_hops("") && may_be_hops("broker@1 broker>http@2"));
  EXPECT_EQ(read_hops("  a@b@7   c@8 ").size(), 2u);
  EXPECT_EQ(read_hops("a@b@7")[0].at, "a@b");
  (void)lengthen_hops("a@9223372036854775807 b@-9223372036854775808", Timestamp::max());
  (void)shorten_hops("a@9223372036854775807 b@-9223372036854775808", Timestamp::min());
}

TEST(TraceContext, BeginsATraceOfItsOwn) {
  const auto a = TraceContext::begin(), b = TraceContext::begin();
  EXPECT_NE(a.trace_id, b.trace_id);
  EXPECT_EQ(TraceContext::from_traceparent(a.to_traceparent()).trace_id, a.trace_id);
  EXPECT_EQ(trace_id_from(core::to_string(a.trace_id)), a.trace_id);
  EXPECT_EQ(core::to_string(TraceId{}), "");
  for (std::string bad : {"", "00000000000000000000000000000000", "4BF92F3577B34DA6A3CE929D0E0E4736", "4bf92f3577b34da6a3ce929d0e0e473", "4bf92f3577b34da6a3ce929d0e0e47366"})
    EXPECT_FALSE(trace_id_from(bad)) << bad;
}

TEST(MessageId, GeneratedIdsOfLaterMillisecondsSortLater) {
  const auto first = MessageId::generate().str();
  const auto until = std::chrono::system_clock::now() + std::chrono::milliseconds(2);
  while (std::chrono::system_clock::now() < until) {
  }
  EXPECT_LT(first, MessageId::generate().str());
}

TEST(MessageId, KeysAreCheckedAndScopedByCaller) {
  EXPECT_EQ(MessageId::from_key("order-17", "").value().str(), "order-17");
  EXPECT_EQ(MessageId::from_key("order-17", "admin").value().str(), "~admin~order-17");
  for (std::string bad : {"", "a b", "~admin~order-17", "quote\"", "back\\slash", "new\nline", "\xc3\xa9"})
    EXPECT_FALSE(MessageId::from_key(bad, "")) << bad;
  EXPECT_TRUE(MessageId::from_key(std::string(MessageId::kMaxBytes, 'x'), ""));
  EXPECT_FALSE(MessageId::from_key(std::string(MessageId::kMaxBytes + 1, 'x'), ""));
}

TEST(TraceContext, RoundTripsAndRefusesWhatTheStandardRefuses) {
  const std::string header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  EXPECT_EQ(TraceContext::from_traceparent(header).to_traceparent(), header);
  for (std::string bad : {"", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
                          "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
                          "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra"})
    EXPECT_FALSE(TraceContext::from_traceparent(bad).valid()) << bad;
  EXPECT_TRUE(TraceContext::from_traceparent("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more").valid());
}

TEST(Timestamp, WhatTheClockCantReachIsItsEnd) {
  EXPECT_LT(parse_rfc3339("0001-01-01").value(), parse_rfc3339("1700-01-01").value());
  EXPECT_GT(parse_rfc3339("9999-12-31T23:59:59Z").value(), parse_rfc3339("2262-01-01").value());
  EXPECT_EQ(to_rfc3339(parse_rfc3339("9999-12-31").value()), "2262-04-11T23:47:16.854775Z");
}

TEST(Timestamp, Rfc3339RoundTrips) {
  for (std::string text : {"2026-11-24T09:30:00.123456Z", "1969-12-31T23:59:59.999999Z", "2000-02-29T00:00:00.000000Z"})
    EXPECT_EQ(to_rfc3339(parse_rfc3339(text).value()), text);
  EXPECT_EQ(to_rfc3339(parse_rfc3339("2026-11-24T09:30:00.5+02:00").value()), "2026-11-24T07:30:00.500000Z");
  EXPECT_EQ(to_rfc3339(parse_rfc3339("2026-11-24").value()), "2026-11-24T00:00:00.000000Z");
  EXPECT_EQ(from_unix_micros(to_unix_micros(parse_rfc3339("2026-11-24").value())), parse_rfc3339("2026-11-24").value());
}

TEST(Timestamp, NonsenseIsRefused) {
  for (std::string text : {"", "now", "2026-13-01", "2026-02-30", "2026-11-24T25:00:00Z", "2026-11-24T09:30:00", "2026-11-24T09:30:00.Z",
                           "2026-11-24T09:30:00+2:00", "2026-11-24T09:30:00Zx", "-026-11-24"})
    EXPECT_FALSE(parse_rfc3339(text)) << text;
}

TEST(CallContext, RemainingIsNeverNegativeAndOnlyShrinks) {
  CallContext context = CallContext::with_timeout(std::chrono::milliseconds(-5));
  EXPECT_TRUE(context.expired());
  EXPECT_EQ(context.remaining().count(), 0);
  context = CallContext::with_timeout(std::chrono::seconds(1));
  EXPECT_EQ(context.limited_to(std::chrono::seconds(5)).deadline, context.deadline);
  EXPECT_LT(context.limited_to(std::chrono::milliseconds(5)).deadline, context.deadline);
}

}  // namespace
}  // namespace flexi::core
