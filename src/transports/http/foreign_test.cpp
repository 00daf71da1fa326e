// SPDX-License-Identifier: Apache-2.0
// What a service of somebody else's sees of us, and what we make of its answers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "transports/http/client_codec.hpp"

namespace flexi::transports::http {
namespace {

using core::ErrorKind;
using testing::HasSubstr;
using testing::Not;
namespace bhttp = boost::beast::http;

bhttp::response<bhttp::string_body> answer(unsigned status, std::string body, std::vector<std::pair<std::string, std::string>> headers = {}) {
  bhttp::response<bhttp::string_body> message;
  message.version(11);
  message.result(status);
  for (auto& [name, value] : headers) message.set(name, value);
  message.body() = std::move(body);
  return message;
}

TEST(ForeignService, SeesOnePathAndTheMessagesId) {
  core::Request request;
  request.id = core::MessageId::parse("m-1").value();
  request.action = "resize";
  request.payload = core::Json{R"({"width": 10})"};
  request.ack = core::Ack::stored;
  auto context = core::CallContext::with_timeout(std::chrono::seconds(5));
  context.caller = "admin";
  context.trace = core::TraceContext::from_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
  std::string wire;
  append_request(wire, {.host = "images:9000", .token = "", .target = "/v1/resize?fast=1"}, request, context);
  EXPECT_TRUE(wire.starts_with("POST /v1/resize?fast=1 HTTP/1.1\r\nHost: images:9000\r\n")) << wire;
  for (auto* line : {"X-Flexi-Id: m-1\r\n", "Idempotency-Key: m-1\r\n", "X-Flexi-Action: resize\r\n", "Accept: application/json\r\n", "Content-Length: 13\r\n", "X-Flexi-Timeout-Ms: ",
                     "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"})
    EXPECT_THAT(wire, HasSubstr(line));
  EXPECT_THAT(wire, Not(HasSubstr("Authorization")));
  EXPECT_TRUE(wire.ends_with("\r\n\r\n{\"width\": 10}")) << wire;
}

TEST(ForeignService, AnyJsonIsData) {
  for (auto* body : {R"({"words":6})", "[1,2]", "7", "\"text\"", "null", R"({"message":"no envelope without error"})"}) {
    auto reply = read_foreign_reply(answer(200, body));
    ASSERT_TRUE(reply) << body;
    EXPECT_EQ(reply.value().message, "done") << body;
    EXPECT_EQ(reply.value().data, body);
  }
  for (auto* body : {"", " \r\n"}) {
    auto reply = read_foreign_reply(answer(204, body));
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply.value().message, "done");
    EXPECT_EQ(reply.value().data, "");
  }
  EXPECT_TRUE(read_foreign_reply(answer(200, "{}", {{"X-Flexi-Duplicate", "true"}})).value().duplicate);
}

TEST(ForeignService, TheEnvelopeIsTaken) {
  auto reply = read_foreign_reply(answer(202, R"({"error":false,"message":"resized","data":{"id":7}})"));
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply.value().message, "resized");
  EXPECT_EQ(reply.value().data, R"({"id":7})");
}

TEST(ForeignService, WhatIsNoAnswerMayHaveBeenDone) {
  for (auto* body : {"<html>hello</html>", "{broken", "{} {}", R"({"error":true,"message":"no room"})"}) {
    auto reply = read_foreign_reply(answer(200, body));
    ASSERT_FALSE(reply) << body;
    EXPECT_EQ(reply.error().kind, ErrorKind::internal) << body;
    EXPECT_EQ(reply.error().sent, core::Sent::maybe) << body;
    EXPECT_THAT(reply.error().message, Not(HasSubstr("hello")));
  }
  EXPECT_EQ(read_foreign_reply(answer(200, R"({"error":true,"message":"no room"})")).error().message, "no room");
}

TEST(ForeignService, StatusesAreKinds) {
  const std::pair<unsigned, ErrorKind> table[] = {
      {400, ErrorKind::invalid_argument},  {401, ErrorKind::unauthenticated}, {403, ErrorKind::permission_denied}, {404, ErrorKind::not_found},
      {408, ErrorKind::deadline_exceeded}, {409, ErrorKind::conflict},        {418, ErrorKind::invalid_argument},  {422, ErrorKind::invalid_argument},
      {429, ErrorKind::overloaded},        {500, ErrorKind::internal},        {502, ErrorKind::unavailable},       {503, ErrorKind::unavailable},
      {504, ErrorKind::deadline_exceeded}, {301, ErrorKind::internal}};
  for (auto [status, kind] : table) {
    auto reply = read_foreign_reply(answer(status, "no JSON"));
    ASSERT_FALSE(reply) << status;
    EXPECT_EQ(reply.error().kind, kind) << status;
    EXPECT_EQ(reply.error().message, "the service answered " + std::to_string(status));
    EXPECT_EQ(reply.error().sent, status >= 500 ? core::Sent::maybe : core::Sent::no) << status;
  }
  EXPECT_EQ(read_foreign_reply(answer(422, R"({"error":true,"message":"width is missing"})")).error().message, "width is missing");
  EXPECT_EQ(read_foreign_reply(answer(429, "", {{"Retry-After", "7"}})).error().retry_after, std::chrono::seconds(7));
  EXPECT_EQ(read_foreign_reply(answer(400, "", {{"X-Flexi-Error", "unavailable"}})).error().kind, ErrorKind::unavailable);
}

}  // namespace
}  // namespace flexi::transports::http
