// SPDX-License-Identifier: Apache-2.0
#include "transports/grpc/codec.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "google/rpc/error_details.pb.h"
#include "transports/grpc/account.hpp"
#include "transports/grpc/bulk.hpp"

namespace flexi::transports::grpc {
namespace {

using core::ErrorKind;
using testing::HasSubstr;
using namespace std::chrono_literals;
using namespace std::string_literals;

ClientResult result_of(Status status) {
  ClientResult result;
  result.status = std::move(status);
  result.answered = true;
  return result;
}

TEST(GrpcErrors, EveryKindComesBackAsItWasWithoutItsDetail) {
  for (auto kind : core::kAllErrorKinds)
    for (auto sent : {core::Sent::no, core::Sent::maybe})
      for (std::optional<std::chrono::milliseconds> after : {std::optional<std::chrono::milliseconds>(), std::optional(1500ms)}) {
        const core::Error error{.kind = kind, .message = "words \xc3\xa9", .detail = "secret", .retry_after = after, .sent = sent};
        const auto status = status_with_details(error);
        EXPECT_EQ(status.code, code_of(kind));
        EXPECT_EQ(status.details.find("secret"), std::string::npos);
        const auto back = error_from(result_of(status));
        EXPECT_EQ(back.kind, kind);
        EXPECT_EQ(back.message, "words \xc3\xa9");
        EXPECT_EQ(back.sent, sent) << core::to_string(kind);
        EXPECT_TRUE(back.answered);
        if (after) EXPECT_EQ(back.retry_after, after);
        else EXPECT_EQ(back.retry_after.has_value(), kind == ErrorKind::overloaded);
      }
}

TEST(GrpcErrors, WithoutDetailsTheCodeAndTheWireCount) {
  auto error = error_from(result_of({Code::unavailable, ""}));
  EXPECT_EQ(error.kind, ErrorKind::unavailable);
  EXPECT_THAT(error.message, HasSubstr("14"));
  EXPECT_EQ(error.sent, core::Sent::maybe);
  EXPECT_FALSE(error.answered) << "a proxy says this, too";
  EXPECT_EQ(error_from(result_of({Code::not_found, "x"})).sent, core::Sent::no);
  auto unsent = result_of({Code::internal, "x"});
  unsent.sent = core::Sent::no;
  EXPECT_EQ(error_from(unsent).sent, core::Sent::no);
  auto late = result_of({Code::resource_exhausted, "x"});
  late.trailing.add(kSentKey, "maybe");
  EXPECT_EQ(error_from(late).sent, core::Sent::maybe);
  auto too_large = result_of({Code::resource_exhausted, "x"});
  too_large.trailing.add(kErrorKey, "invalid_argument");
  EXPECT_EQ(error_from(too_large).kind, ErrorKind::invalid_argument);
}

TEST(GrpcErrors, DetailsThatMakeNoSenseAreLeftOut) {
  ::google::rpc::Status details;
  ::google::rpc::RetryInfo retry;
  retry.mutable_retry_delay()->set_seconds(INT64_MAX);
  details.add_details()->PackFrom(retry);
  retry.mutable_retry_delay()->set_seconds(-5);
  details.add_details()->PackFrom(retry);
  ::google::rpc::ErrorInfo info;
  info.set_domain("flexiconnect");
  info.set_reason("not a kind");
  details.add_details()->PackFrom(info);
  details.add_details()->set_type_url("nonsense");
  for (auto bytes : {details.SerializeAsString(), "\xff\xff\xff"s}) {
    const auto error = error_from(result_of({Code::not_found, "x", bytes}));
    EXPECT_EQ(error.kind, ErrorKind::not_found);
    EXPECT_FALSE(error.retry_after);
  }
}

template <class Proto>
core::Payload there_and_back(std::string action, core::Payload payload) {
  core::Request request;
  request.action = std::move(action);
  request.payload = std::move(payload);
  Proto message;
  EXPECT_TRUE(parse(message, write_request(request)));
  return take_payload(message).value();
}

TEST(GrpcPayloads, ComeBackAsTheyWere) {
  const core::Payload log = core::LogEntry{"n", std::string(100'000, 'x')}, mail = core::Mail{"f", "t", "\xe2\x82\xac", "m"}, auth = core::Credentials{"e", "p"};
  EXPECT_TRUE(core::same_payload(there_and_back<v1::LogEntry>("log", log), log));
  EXPECT_TRUE(core::same_payload(there_and_back<v1::Email>("mail", mail), mail));
  const core::Payload whole = core::Mail{"f", "t", "s", "", "c", "b", "r", "x", R"({"a":[1]})", {{"n", "a/b", std::string("\0\xff", 2)}, {"e", "", ""}}};
  EXPECT_TRUE(core::same_payload(there_and_back<v1::Email>("mail", whole), whole));
  v1::Email spaced;
  spaced.set_data("{ \"a\" : 1 }");
  EXPECT_EQ(std::get<core::Mail>(take_payload(spaced).value()).data, R"({"a":1})") << "one text for one value";
  spaced.set_data("[]");
  EXPECT_EQ(take_payload(spaced).error().kind, core::ErrorKind::invalid_argument);
  EXPECT_TRUE(core::same_payload(there_and_back<v1::Credentials>("auth", auth), auth));
  core::Request custom;
  custom.action = "resize";
  custom.payload = core::Json{R"({"w":1})"};
  v1::CallRequest message;
  ASSERT_TRUE(parse(message, write_request(custom)));
  const auto back = take_call(message).value();
  EXPECT_EQ(back.action, "resize");
  EXPECT_TRUE(core::same_payload(back.payload, custom.payload));
}

TEST(GrpcPayloads, WhatIsNoMessageOrNoTextIsRefused) {
  silence_protobuf();
  for (auto bytes : {"\xff"s, "\x0a\x05" "abc"s, "\x0a\x02\xff\xfe"s}) {
    v1::LogEntry entry;
    const auto read = parse(entry, bytes);
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().kind, ErrorKind::invalid_argument);
    EXPECT_THAT(read.error().message, HasSubstr("flexiconnect.v1.LogEntry"));
  }
  v1::Email mail;
  mail.set_subject("a\0b"s);
  EXPECT_EQ(take_payload(mail, "mail.").error().message, "mail.subject must not hold a NUL character");
}

TEST(GrpcReplies, AnAccountIsTypedAndJson) {
  const std::string json = R"({"id":7,"email":"a@b.example","first_name":"Ann","active":1,"created_at":"2026-11-24T09:30:00.123456Z","updated_at":"1969-12-31T23:59:59.500000Z"})";
  v1::Reply message;
  write_reply(message, core::Reply{.message = "in", .data = json}, "id", core::actions::kAuth);
  EXPECT_EQ(message.user().updated_at().seconds(), -1);
  EXPECT_EQ(message.user().updated_at().nanos(), 500'000'000);
  EXPECT_EQ(account_json(message.user()), json);
  message.clear_data();
  EXPECT_EQ(take_reply(message).value().data, json);
  v1::User far;
  far.mutable_created_at()->set_seconds(INT64_MAX);
  far.mutable_updated_at()->set_seconds(INT64_MIN);
  EXPECT_EQ(account_json(far), R"({"id":0,"email":"","active":0})");
  v1::User strange;
  write_account(R"({"id":"seven","email":5,"created_at":"soon"})", strange);
  write_account("not json", strange);
  EXPECT_EQ(strange.email(), "");
}

TEST(GrpcReplies, DataThatIsNotJsonIsNotHandedOn) {
  v1::Reply message;
  message.set_data("{\"a\":");
  EXPECT_EQ(take_reply(message).error().kind, ErrorKind::internal);
}

TEST(GrpcBulk, WhatIsWrongWithOneMessageFailsItAlone) {
  v1::NumberedRequest request;
  request.set_sequence(9);
  auto read = read_numbered_request(request.SerializeAsString());
  ASSERT_TRUE(read);
  EXPECT_EQ(read.value().sequence, 9u);
  EXPECT_EQ(read.value().request.error().kind, ErrorKind::invalid_argument);
  v1::NumberedLog log;
  log.set_sequence(10);
  log.set_id("key");
  log.mutable_entry()->set_name("a\0"s);
  read = read_numbered_log(log.SerializeAsString());
  ASSERT_TRUE(read);
  EXPECT_EQ(read.value().own.id, "key");
  EXPECT_EQ(read.value().request.error().message, "entry.name must not hold a NUL character");
  EXPECT_FALSE(read_numbered_log("\xff"));
}

}  // namespace
}  // namespace flexi::transports::grpc
