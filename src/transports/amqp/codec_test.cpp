// SPDX-License-Identifier: Apache-2.0
#include "transports/amqp/codec.hpp"

#include <gtest/gtest.h>

#include "core/hops.hpp"
#include "transports/amqp/acks.hpp"
#include "transports/amqp/wire.hpp"

namespace flexi::transports::amqp {
namespace {

using core::ErrorKind;

core::Request log_request() {
  core::Request request;
  request.id = core::MessageId::parse("id-1").value();
  request.action = "log";
  request.payload = core::LogEntry{"n", "d"};
  request.accepted_at = core::from_unix_micros(1'700'000'000'123'456);
  request.ack = core::Ack::stored;
  return request;
}

/// What came of a message over the wire, cut into frames of `frame_max`, read byte by byte.
Message over_the_wire(const Message& message, std::size_t frame_max) {
  std::string bytes;
  EXPECT_TRUE(append_publish(bytes, 1, "e", "k", true, message, frame_max));
  Pool pool;
  std::string buffer;
  Message read;
  for (char c : bytes) {
    buffer += c;
    std::string_view rest = buffer;
    Frame frame;
    const auto step = next_frame(rest, frame_max, frame);
    EXPECT_NE(step, FrameStep::malformed);
    if (step != FrameStep::frame) continue;
    if (frame.type == AMQP_FRAME_HEADER) read = decode_content_header(pool, frame.payload).value();
    if (frame.type == AMQP_FRAME_BODY) read.body += frame.payload;
    buffer.clear();
  }
  EXPECT_TRUE(buffer.empty());
  return read;
}

TEST(AmqpWire, AMessageArrivesAsItWas) {
  Message m;
  m.body = std::string(10'000, 'x') + '\0' + "\xff";
  m.content_type = "application/json", m.correlation_id = "c", m.reply_to = "r", m.expiration = "5", m.message_id = "i", m.type = "t", m.app_id = "a";
  m.content_encoding = "utf-8", m.delivery_mode = 2, m.timestamp = 1'700'000'000;
  m.set("text", std::string("value"));
  m.set("number", std::int64_t{-5});
  m.set("flag", true);
  for (std::size_t frame_max : {4096, 131'072}) {
    const auto read = over_the_wire(m, frame_max);
    EXPECT_EQ(read.body, m.body);
    EXPECT_EQ(read.body_bytes, m.body.size());
    EXPECT_EQ(read.headers, m.headers);
    for (auto field : {&Message::content_type, &Message::correlation_id, &Message::reply_to, &Message::expiration, &Message::message_id, &Message::type,
                       &Message::app_id, &Message::content_encoding})
      EXPECT_EQ(read.*field, m.*field);
    EXPECT_EQ(read.delivery_mode, 2);
    EXPECT_EQ(read.timestamp, m.timestamp);
  }
  m.set("long", std::string(5'000, 'x'));
  std::string out = "before";
  EXPECT_FALSE(append_publish(out, 1, "e", "k", true, m, 4096)) << "headers are one frame";
  EXPECT_EQ(out, "before");
}

TEST(AmqpWire, WhatIsNoFrameIsMalformed) {
  Frame frame;
  for (std::string bytes : {std::string("HTTP/1.1 400 Bad Request\r\n"), std::string("AMQP\0\0\x09\x01", 8), std::string("\x01\0\0\x7f\xff\xff\xff", 7),
                            std::string("\x08\0\0\0\0\0\0x", 8)}) {
    std::string_view rest = bytes;
    EXPECT_EQ(next_frame(rest, 131'072, frame), FrameStep::malformed) << bytes;
  }
}

/// Content header with a table nested `depth` times.
std::string nested(int depth) {
  std::string value = "V";
  const auto number = [](std::size_t n) { return std::string{static_cast<char>(n >> 24), static_cast<char>(n >> 16), static_cast<char>(n >> 8), static_cast<char>(n)}; };
  for (int i = 0; i < depth; ++i) {
    const auto inside = std::string("\1k", 2) + value;
    value = "F" + number(inside.size()) + inside;
  }
  return std::string("\0\x3c\0\0\0\0\0\0\0\0\0\0", 12) + std::string("\x20\0", 2) + value.substr(1);
}

TEST(AmqpWire, DeeplyNestedHeadersAreLeftOut) {
  Pool pool;
  EXPECT_TRUE(decode_content_header(pool, nested(10)));
  EXPECT_TRUE(decode_content_header(pool, nested(15'000)));
  EXPECT_TRUE(decode_content_header(pool, nested(15'000)).value().headers.empty());
}

TEST(AmqpCodec, ARequestIsReadAsItWasWritten) {
  auto request = log_request();
  request.id_from_caller = true;
  auto context = core::CallContext::with_timeout(std::chrono::seconds(5));
  context.trace = core::TraceContext::from_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
  context.caller = "admin";
  context.add_hop("broker");
  auto message = over_the_wire(write_request(request, context, {}).value(), 131'072);
  const auto job = read_job("log", message, {}).value();
  EXPECT_EQ(job.request.id, request.id);
  EXPECT_EQ(job.request.accepted_at, request.accepted_at);
  EXPECT_TRUE(job.request.id_from_caller);
  EXPECT_TRUE(core::same_payload(job.request.payload, request.payload));
  EXPECT_EQ(job.context.trace.trace_id, context.trace.trace_id);
  EXPECT_EQ(job.context.caller, "admin");
  EXPECT_TRUE(job.context.hops.starts_with(context.hops + " rabbitmq@")) << job.context.hops;
  EXPECT_LE(job.context.remaining(), std::chrono::seconds(5));
  EXPECT_GT(job.context.remaining(), std::chrono::seconds(4));
  EXPECT_EQ(job.attempt, 1);
  EXPECT_EQ(message.delivery_mode, 2);
  EXPECT_FALSE(is_expired(message, now_micros()));
  EXPECT_TRUE(is_expired(message, now_micros() + 6'000'000));
}

TEST(AmqpCodec, WhereAMessageHasBeenIsNotedOncePerAttemptAndNeverLeftOut) {
  core::CallContext context;
  context.hops = "broker@1 broker>amqp@2";
  auto message = write_request(log_request(), context, {}).value();
  for (int attempt = 1; attempt < 10; ++attempt) {
    const auto job = read_job("log", message, {}).value();
    EXPECT_EQ(job.context.hops.find("rabbitmq@"), context.hops.size() + 1) << job.context.hops;
    EXPECT_EQ(job.context.hops.rfind("rabbitmq@"), context.hops.size() + 1);
    EXPECT_FALSE(core::counted_by_publisher(job.context.hops));
    message = for_retry(message, core::unavailable("down"), attempt);
  }
  message = for_replay(for_dead_letter("log", message, core::unavailable("down"), 10));
  EXPECT_TRUE(read_job("log", message, {}).value().context.hops.starts_with(context.hops + " rabbitmq@"));
  Message foreign;
  foreign.body = R"({"name":"n","data":"d"})";
  EXPECT_TRUE(read_job("log", foreign, {}).value().context.hops.starts_with("rabbitmq@"));
  // A stranger's long tale does not decide who counts.
  foreign.set(headers::kHops, "broker>amqp@1 " + std::string(core::CallContext::kMaxHopsBytes - 20, 'x') + "@1");
  EXPECT_FALSE(core::counted_by_publisher(read_job("log", foreign, {}).value().context.hops));
}

TEST(AmqpCodec, WhatWasAcceptedNeverExpires) {
  auto request = log_request();
  request.ack = core::Ack::accepted;
  const auto message = write_request(request, core::CallContext::with_timeout(std::chrono::milliseconds(1)), {}).value();
  EXPECT_TRUE(message.expiration.empty());
  EXPECT_FALSE(is_expired(message, INT64_MAX));
}

TEST(AmqpCodec, LogInsAreTransientAndExpireInTheQueue) {
  auto request = log_request();
  request.action = "auth";
  request.payload = core::Credentials{"e", "p"};
  const auto message = write_request(request, core::CallContext::with_timeout(std::chrono::seconds(5)), {}).value();
  EXPECT_FALSE(message.text(headers::kClient));
  EXPECT_EQ(message.delivery_mode, 1);
  EXPECT_GT(std::stoi(message.expiration), 4'000);
  EXPECT_LE(std::stoi(message.expiration), 5'000);
}

TEST(AmqpCodec, ALogInKnowsWhereItComesFromAndBringsItsToken) {
  auto request = log_request();
  request.ack = core::Ack::stored;
  core::CallContext context;
  context.client = "192.0.2.1";
  auto log = write_request(request, context, {}).value();
  EXPECT_EQ(read_job("log", log, {}).value().context.client, "") << "of a log-in alone";
  request.action = "auth";
  request.payload = core::Credentials{"e", "p"};
  auto message = write_request(request, context, {}).value();
  EXPECT_EQ(read_job("auth", message, {}).value().context.client, "192.0.2.1");
  core::Reply reply;
  reply.message = "Authenticated";
  reply.token = "eyJ.x.y";
  EXPECT_EQ(read_reply(write_reply(std::move(reply))).value().token, "eyJ.x.y");
}

TEST(AmqpCodec, ALogInsTokenOpensWhatIsProtectedButDoesNotAdminister) {
  Message message;
  message.body = R"({"action":"resize"})";
  message.set(headers::kAuthorization, std::string("Bearer eyJhbGciOiJIUzI1NiJ9.e30.x"));
  for (auto admin_token : {"", "token"}) {
    auto job = read_handle_request(message, {}, admin_token);
    ASSERT_TRUE(job);
    EXPECT_EQ(job.value().context.bearer, "eyJhbGciOiJIUzI1NiJ9.e30.x");
    EXPECT_TRUE(job.value().context.caller.empty());
  }
  message.body = R"({"action":"users.delete","users.delete":{"id":1}})";
  EXPECT_EQ(read_handle_request(message, {}, "token").error().kind, ErrorKind::permission_denied);
  message.set(headers::kAuthorization, std::string("Bearer tokem"));
  EXPECT_EQ(read_handle_request(message, {}, "token").error().kind, ErrorKind::unauthenticated);
}

TEST(AmqpCodec, WhatCannotBeQueuedIsRefused) {
  auto request = log_request();
  for (auto action : {"", "users.list", "dlq.replay"}) {
    request.action = action;
    EXPECT_EQ(write_request(request, {}, {}).error().kind, ErrorKind::invalid_argument) << action;
  }
  request.action = "log";
  request.payload = core::LogEntry{"n", "\xff"};
  EXPECT_EQ(write_request(request, {}, {}).error().kind, ErrorKind::invalid_argument);
  request.payload = core::LogEntry{"n", std::string(3'000, 'x')};
  AmqpOptions options;
  options.max_body_bytes = 2'000;
  EXPECT_EQ(write_request(request, {}, options).error().kind, ErrorKind::invalid_argument);
}

TEST(AmqpCodec, AStrangersMessageGetsAnId) {
  Message message;
  message.body = R"({"name":"n","data":"d"})";
  const auto job = read_job("log", message, {}).value();
  EXPECT_FALSE(job.request.id.empty());
  EXPECT_EQ(message.message_id, job.request.id.str()) << "the same at its next attempt";
  EXPECT_EQ(read_job("log", message, {}).value().request.id, job.request.id);
  message.message_id = "theirs";
  EXPECT_EQ(read_job("log", message, {}).value().request.id.str(), "theirs");
  message.message_id = "~admin~key";
  EXPECT_NE(read_job("log", message, {}).value().request.id.str(), "~admin~key") << "an administrator's";
  message.message_id = "with space";
  EXPECT_NE(read_job("log", message, {}).value().request.id.str(), "with space");
  EXPECT_EQ(message.message_id.find(' '), message.message_id.npos);
}

TEST(AmqpCodec, AnswersArriveAsTheyWere) {
  core::Reply reply{.message = "logged"};
  reply.data = R"({"a":1})", reply.next = "n", reply.duplicate = true;
  const auto read = read_reply(over_the_wire(write_reply(std::move(reply)), 131'072)).value();
  EXPECT_EQ(read.message, "logged");
  EXPECT_EQ(read.data, R"({"a":1})");
  EXPECT_EQ(read.next, "n");
  EXPECT_TRUE(read.duplicate);
  for (auto kind : core::kAllErrorKinds) {
    core::Error error{.kind = kind, .message = "words", .detail = "secret", .retry_after = std::chrono::milliseconds(1500), .sent = core::Sent::maybe};
    const auto wire = over_the_wire(write_reply(error), 131'072);
    EXPECT_EQ(wire.body.find("secret"), wire.body.npos);
    const auto back = read_reply(wire);
    ASSERT_FALSE(back);
    EXPECT_EQ(back.error().kind, kind);
    EXPECT_EQ(back.error().message, "words");
    EXPECT_EQ(back.error().retry_after, std::chrono::milliseconds(1500));
    EXPECT_EQ(back.error().sent, core::Sent::maybe);
  }
  Message nonsense;
  nonsense.body = "no json";
  EXPECT_EQ(read_reply(nonsense).error().kind, ErrorKind::internal);
}

TEST(AmqpCodec, RetryDeadLetterAndReplay) {
  auto message = write_request(log_request(), core::CallContext::with_timeout(std::chrono::seconds(5)), {}).value();
  message.reply_to = "r";
  const auto again = for_retry(message, core::unavailable("down", "secret"), 1);
  EXPECT_EQ(again.number(headers::kAttempt), 2);
  EXPECT_EQ(*again.text(headers::kReason), "down");
  const auto dead = for_dead_letter("log", again, core::conflict("taken"), 2);
  auto letter = read_dead_letter("log", "flexi.log", dead);
  EXPECT_EQ(letter.id.str(), "id-1");
  EXPECT_EQ(letter.reason, "conflict: taken");
  EXPECT_EQ(letter.attempts, 2u);
  EXPECT_EQ(letter.payload, R"({"name":"n","data":"d"})");
  EXPECT_LT(now_micros() - core::to_unix_micros(letter.dead_at), 60'000'000);
  auto fresh = for_replay(dead);
  for (auto name : {headers::kAttempt, headers::kAttempts, headers::kReason, headers::kDeadAt, headers::kDeadline}) EXPECT_FALSE(fresh.text(name) || fresh.number(name)) << name;
  EXPECT_TRUE(fresh.reply_to.empty());
  EXPECT_EQ(read_job("log", fresh, {}).value().attempt, 1);
}

TEST(AmqpCodec, PasswordsNeverGetIntoADeadLetter) {
  Message message;
  for (std::string body : {R"({"action":"auth","auth":{"email":"e","password":"hush"}})", R"({"action":"auth","auth":{"password":"hush")", R"("password: hush")",
                           R"({"action":"users.create","users.create":{"email":"e","password":"hush"}})", R"({"action":"me.get","me.get":{"token":"hush"}})"}) {
    message.body = body;
    EXPECT_EQ(for_dead_letter("", message, core::invalid_argument("x"), 1).body.find("hush"), std::string::npos) << body;
    EXPECT_EQ(read_dead_letter("", "q", message).payload.find("hush"), std::string::npos) << body;
  }
  message.body = R"({"action":"log","log":{"name":"n","data":"a password was changed"}})";
  EXPECT_EQ(for_dead_letter("", message, core::invalid_argument("x"), 1).body, message.body);
  EXPECT_EQ(for_dead_letter("log", message, core::invalid_argument("x"), 1).body, message.body);
}

TEST(AmqpOptions, TheUrl) {
  const auto plain = parse_url("amqp://u:p%40ss@host:5673/v%2Fh").value();
  EXPECT_EQ(plain.host, "host");
  EXPECT_EQ(plain.port, 5673);
  EXPECT_EQ(plain.user, "u");
  EXPECT_EQ(plain.password, "p@ss");
  EXPECT_EQ(plain.vhost, "v/h");
  EXPECT_EQ(plain.str(), "amqp://host:5673/v%2Fh");
  EXPECT_TRUE(plain.has_login);
  for (auto url : {"amqp://h", "amqp://h/"}) {
    EXPECT_EQ(parse_url(url).value().vhost, "/");
    EXPECT_EQ(parse_url(url).value().port, 5672);
    EXPECT_FALSE(parse_url(url).value().has_login);
  }
  EXPECT_TRUE(parse_url("amqps://h").value().tls);
  EXPECT_EQ(parse_url("amqps://h").value().port, 5671);
  EXPECT_EQ(parse_url("amqp://[::1]:5/").value().authority(), "[::1]:5");
  for (auto url : {"", "x", "amqp", "http://h", "amqp://h:99999", "amqp://h:0", "amqp://a b", "amqp://u:secret@h:x/"}) {
    const auto wrong = parse_url(url);
    ASSERT_FALSE(wrong) << url;
    EXPECT_EQ(wrong.error().message.find("secret"), std::string::npos);
  }
}

TEST(AmqpOptions, AllProblemsAtOnce) {
  AmqpOptions options;
  EXPECT_TRUE(options.validate().empty());
  options.url = "http://x";
  options.prefetch = 0;
  options.retry_factor = 0.5;
  options.tls_key_file = "k";
  EXPECT_GE(options.validate().size(), 4u);
  options = {};
  EXPECT_EQ(options.delay_of_step(0), std::chrono::seconds(1));
  EXPECT_EQ(options.delay_of_step(3), std::chrono::seconds(125));
}

TEST(AmqpAcks, MultipleOnlyOverWhatIsFinished) {
  Acks acks;
  for (std::uint64_t tag = 1; tag <= 6; ++tag) acks.taken(tag);
  acks.finished(2);
  auto sent = acks.collect();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_TRUE(sent[0].tag == 2 && !sent[0].multiple) << "1 is still open";
  acks.finished(1), acks.finished(3), acks.settled(4), acks.finished(5);
  sent = acks.collect();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_TRUE(sent[0].tag == 5 && sent[0].multiple);
  EXPECT_EQ(acks.size(), 1u);
  acks.settled(6);
  EXPECT_TRUE(acks.collect().empty());
  EXPECT_EQ(acks.size(), 0u);
}

}  // namespace
}  // namespace flexi::transports::amqp
