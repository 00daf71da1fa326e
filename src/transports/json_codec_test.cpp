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

TEST(JsonCodec, AMailMayHoldMoreThanTheContractHas) {
  const auto mail = read_mail(R"({"to":["t@x","Name <u@x>"],"cc":"c@x","bcc":["b@x"],"reply_to":"r@x","subject":"s","template":"welcome",)"
                              R"("data":{"name" : "Zo\u00eb", "items":[1, 2.5]},"attachments":[{"name":"a.txt","content":"AAEC/w=="},{"name":"b","content_type":"text/plain","content":""}]})").value();
  EXPECT_EQ(mail.to, "t@x, Name <u@x>");
  EXPECT_EQ(mail.cc, "c@x");
  EXPECT_EQ(mail.bcc, "b@x");
  EXPECT_EQ(mail.reply_to, "r@x");
  EXPECT_EQ(mail.template_name, "welcome");
  EXPECT_EQ(mail.message, "");
  EXPECT_EQ(mail.data, "{\"name\":\"Zo\xc3\xab\",\"items\":[1,2.5]}");
  ASSERT_EQ(mail.attachments.size(), 2u);
  EXPECT_EQ(mail.attachments[0], (core::Attachment{"a.txt", "", std::string("\0\1\2\xff", 4)}));
  EXPECT_EQ(mail.attachments[1], (core::Attachment{"b", "text/plain", ""}));
  EXPECT_EQ(payload_to_json(core::Mail{"", "t", "s", "m"}), R"({"from":"","to":"t","subject":"s","message":"m"})") << "as older versions wrote it";
}

TEST(JsonCodec, SaysWhatIsWrongWithTheRestOfAMail) {
  const auto with = [](std::string extra) { return why(read_mail(R"({"to":"t@x","subject":"s","message":"m",)" + extra + "}")); };
  EXPECT_EQ(with(R"("cc":5)"), "cc must be a string or an array of strings");
  EXPECT_EQ(with(R"("bcc":["a",1])"), "bcc must be a string or an array of strings");
  EXPECT_EQ(with(R"("reply_to":["a"])"), "reply_to must be a string");
  EXPECT_EQ(with(R"("cc":["a\u0000"])"), "cc must not hold a NUL character");
  EXPECT_EQ(with(R"("data":"x")"), "data must be an object with the template's values");
  EXPECT_THAT(with(R"("attachments":{})"), HasSubstr("attachments must be an array"));
  EXPECT_EQ(with(R"("attachments":[{"name":"a"}])"), "attachments[0].content is required and must be a string");
  EXPECT_THAT(with(R"("attachments":[{"name":"a","content":"Zg==" },{"name":"a","content":"Zg"}])"), HasSubstr("attachments[1].content must be base64"));
  EXPECT_THAT(why(read_mail(R"({"to":[1],"subject":"s","message":"m"})")), HasSubstr("to must be a string or an array"));
  EXPECT_THAT(why(read_mail(R"({"to":"t","subject":"s"})")), HasSubstr("message is required"));
  EXPECT_THAT(why(template_data("[1]")), HasSubstr("data must be a JSON object"));
  EXPECT_EQ(template_data(" {\"a\" : 1 } ").value(), R"({"a":1})");
}

TEST(JsonCodec, SaysWhatIsWrongAndAndWhatWouldBeRight) {
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
                                    core::Json{R"({"a":1})"},
                                    core::Mail{"f", "t", "s", "", "c", "b", "r", "x", "{\"a\":[1,\"\xc3\xa9\"]}", {{"n\"", "a/b", std::string("\0\xff", 2)}, {"e", "", ""}}}};
  const char* action[] = {"log", "auth", "mail", "custom", "mail"};
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(core::same_payload(payloads[i], payload_from_json(action[i], payload_to_json(payloads[i])).value())) << action[i];
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
