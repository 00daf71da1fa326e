// SPDX-License-Identifier: Apache-2.0
#include "transports/json_codec.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace flexi::transports {
namespace {

using testing::HasSubstr;

std::string why(const auto& result) {
  EXPECT_FALSE(result);
  if (result) return "accepted";
  EXPECT_EQ(result.error().kind, core::ErrorKind::invalid_argument);
  return result.error().message;
}

TEST(JsonCodec, ReadsTheContractsBodies) {
  const auto entry = read_log_entry(R"( {"name":"event","data":"a\nb\u00e9","more":[1,{"x":null}]} )").value();
  EXPECT_EQ(entry.name, "event");
  EXPECT_EQ(entry.data, "a\nb\xc3\xa9");
  EXPECT_EQ(read_credentials(R"({"email":"a@b.c","password":""})").value().email, "a@b.c");
  const auto mail = read_mail(R"({"from":null,"to":"t@x","subject":"s","message":"m"})").value();
  EXPECT_EQ(mail.from, "");
  EXPECT_EQ(mail.to, "t@x");
}

TEST(JsonCodec, SaysWhatIsWrongAndWhatWouldBeRight) {
  EXPECT_THAT(why(read_log_entry("")), HasSubstr("empty"));
  EXPECT_THAT(why(read_log_entry("   ")), HasSubstr("empty"));
  EXPECT_THAT(why(read_log_entry("nonsense")), HasSubstr("valid JSON"));
  EXPECT_THAT(why(read_log_entry(R"({"name":"a","data":"b"}{})")), HasSubstr("nothing after it"));
  EXPECT_THAT(why(read_log_entry(R"({"name":"a","data":"b"} x)")), HasSubstr("nothing after it"));
  EXPECT_THAT(why(read_log_entry(R"({"name":"a","data":"b","skipped":tru})")), HasSubstr("valid JSON"));
  EXPECT_THAT(why(read_log_entry(R"([1])")), HasSubstr("JSON object"));
  EXPECT_EQ(why(read_log_entry(R"({"data":"b"})")), "name is required and must be a string");
  EXPECT_EQ(why(read_log_entry(R"({"name":null,"data":"b"})")), "name is required and must be a string");
  EXPECT_EQ(why(read_log_entry(R"({"name":5,"data":"b"})")), "name must be a string");
  EXPECT_EQ(why(read_log_entry(R"({"name":"a","data":"b\u0000"})")), "data must not hold a NUL character");
  EXPECT_THAT(why(read_log_entry("{\"name\":\"a\",\"data\":\"\xff\"}")), HasSubstr("UTF-8"));
  EXPECT_THAT(why(read_log_entry(std::string("{\"name\":\"a\0\",\"data\":\"b\"}", 23))), HasSubstr("valid JSON"));
  EXPECT_FALSE(read_log_entry(std::string(100'000, '[')));
}

TEST(JsonCodec, HandleBodyHasRoutingAndPayload) {
  const auto body = read_handle_body(R"({"action":"log","via":"amqp","ack":"stored","id":"k1","log":{"name":"n","data":"d"}})").value();
  EXPECT_EQ(body.request.action, "log");
  EXPECT_EQ(body.request.via, core::Via::amqp);
  EXPECT_TRUE(body.has_via);
  EXPECT_EQ(body.request.ack, core::Ack::stored);
  EXPECT_EQ(body.id, "k1");
  EXPECT_EQ(std::get<core::LogEntry>(body.request.payload).data, "d");

  const auto custom = read_handle_body(R"({"action":"invoice","invoice":{"total": 1.5, "to" : ["x"]}})").value();
  EXPECT_EQ(std::get<core::Json>(custom.request.payload).text, R"({"total":1.5,"to":["x"]})");
  EXPECT_EQ(std::get<core::Json>(read_handle_body(R"({"action":"none"})").value().request.payload).text, "{}");
}

TEST(JsonCodec, HandleBodyRefusals) {
  EXPECT_THAT(why(read_handle_body("{}")), HasSubstr("action is required"));
  EXPECT_EQ(why(read_handle_body(R"({"action":7})")), "action must be a string");
  EXPECT_THAT(why(read_handle_body(R"({"action":"log"})")), HasSubstr("log is required"));
  EXPECT_EQ(why(read_handle_body(R"({"action":"log","log":"x"})")), "log must be an object");
  EXPECT_EQ(why(read_handle_body(R"({"action":"log","log":{"name":"x"}})")), "log.data is required and must be a string");
  EXPECT_THAT(why(read_handle_body(R"({"action":"log","via":"pigeon","log":{"name":"x","data":""}})")), HasSubstr("via must be one of"));
  EXPECT_THAT(why(read_handle_body(R"({"action":"log","ack":"maybe","log":{"name":"x","data":""}})")), HasSubstr("ack must be"));
}

TEST(JsonCodec, LogBodyIsEitherForm) {
  EXPECT_EQ(std::get<core::LogEntry>(read_log_body(R"({"name":"n","data":"d"})").value().request.payload).name, "n");
  EXPECT_EQ(std::get<core::LogEntry>(read_log_body(R"({"action":"log","log":{"name":"n","data":"d"}})").value().request.payload).name, "n");
  EXPECT_FALSE(read_log_body(R"({"action":"mail","mail":{}})"));
}

TEST(JsonCodec, PayloadsReadBackAsTheyWere) {
  const core::Payload payloads[] = {core::LogEntry{"quote\"", "line\n\xe2\x82\xac"}, core::Credentials{"a@b", "p\\"}, core::Mail{"", "t", "s", "m"},
                                    core::Json{R"({"a":1})"}};
  const char* action[] = {"log", "auth", "mail", "custom"};
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(core::same_payload(payloads[i], payload_from_json(action[i], payload_to_json(payloads[i])).value())) << action[i];
  EXPECT_FALSE(payload_from_json("custom", "{} {}"));
}

TEST(JsonCodec, EnvelopesReadBackAsTheyWere) {
  std::string text;
  append_envelope(text, false, "ok", R"([{"id":"1"}])", "cursor");
  EXPECT_EQ(text, R"({"error":false,"message":"ok","data":[{"id":"1"}],"next":"cursor"})");
  const auto envelope = read_envelope(text).value();
  EXPECT_EQ(envelope.data, R"([{"id":"1"}])");
  EXPECT_EQ(envelope.next, "cursor");
  text.clear();
  append_envelope(text, true, "no", "", "");
  EXPECT_EQ(text, R"({"error":true,"message":"no"})");
}

}  // namespace
}  // namespace flexi::transports
