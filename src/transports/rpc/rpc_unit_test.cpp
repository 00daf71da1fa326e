// SPDX-License-Identifier: Apache-2.0
#include <capnp/message.h>

#include "core/timestamp.hpp"
#include "transports/rpc/access.hpp"
#include "transports/rpc/codec.hpp"
#include "transports/rpc/frames.hpp"
#include "transports/rpc/raw_peer.hpp"
#include "transports/rpc/test_support.hpp"

namespace flexi::transports::rpc {
namespace {

using core::ErrorKind;
using testing::HasSubstr;
using Step = FrameReader::Step;

/// What comes out when `bytes` arrive in pieces of at most `piece`.
std::vector<std::string> frames(FrameReader& reader, std::string_view bytes, std::size_t piece) {
  std::vector<std::string> out;
  for (;;) {
    kj::Array<capnp::word> words;
    const auto step = reader.next(words);
    if (step == Step::complete) {
      out.emplace_back(reinterpret_cast<const char*>(words.begin()), words.size() * sizeof(capnp::word));
      continue;
    }
    if (step == Step::malformed) {
      out.push_back("malformed: " + reader.problem());
      return out;
    }
    if (bytes.empty()) return out;
    const auto size = std::min(piece, bytes.size());
    const auto room = reader.room(size);
    std::copy_n(bytes.data(), size, room.data());
    reader.received(size);
    bytes.remove_prefix(size);
  }
}

TEST(RpcFrames, ComeOutAsTheyWereHoweverTheyAreCut) {
  const auto first = bootstrap(1), second = call_get(2, 1, "Logger"), third = finish(1);
  for (std::size_t piece : {1, 3, 8, 100'000}) {
    FrameReader reader(4096);
    EXPECT_EQ(frames(reader, first + second + third, piece), (std::vector{first, second, third})) << piece;
    EXPECT_EQ(reader.buffered(), 0u);
  }
}

TEST(RpcFrames, SeveralSegmentsAreOneMessage) {
  capnp::MallocMessageBuilder message(2, capnp::AllocationStrategy::FIXED_SIZE);
  message.initRoot<schema::LogEntry>().setName("a text that doesn't fit");
  ASSERT_GT(message.getSegmentsForOutput().size(), 1u);
  FrameReader reader(4096);
  EXPECT_EQ(frames(reader, bytes_of(message), 1), std::vector{bytes_of(message)});
}

TEST(RpcFrames, TheLimitHoldsToTheByte) {
  const auto message = bootstrap(1);
  FrameReader fits(message.size()), too_small(message.size() - 1);
  EXPECT_EQ(frames(fits, message, 1), std::vector{message});
  EXPECT_THAT(frames(too_small, message, 1), testing::ElementsAre(HasSubstr("larger than")));
}

TEST(RpcFrames, AClaimTakesNoMemory) {
  FrameReader reader(1 << 30);
  const char claim[] = {0, 0, 0, 0, 0, 0, 0, 4};  // one segment of 64 Mi words
  EXPECT_TRUE(frames(reader, {claim, 8}, 8).empty());
  EXPECT_LT(reader.room(1).size(), 1024u);
}

TEST(RpcFrames, TooManySegmentsAreRefused) {
  FrameReader reader(1 << 20);
  EXPECT_THAT(frames(reader, std::string(8, '\xff'), 8), testing::ElementsAre(HasSubstr("segments")));
  EXPECT_TRUE(reader.ready());
}

TEST(RpcRegistry, TheSameNameTwiceIsAConflict) {
  Registry registry;
  Mirror mirror;
  ASSERT_TRUE(registry.add("Logger", {ObjectType::logger, &mirror}));
  const auto again = registry.add("Logger", {ObjectType::actions, &mirror});
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().kind, ErrorKind::conflict);
  EXPECT_THAT(again.error().message, HasSubstr("Logger"));
  EXPECT_EQ(registry.find("Logger")->type, ObjectType::logger);
  EXPECT_EQ(registry.find("Nobody"), nullptr);
  EXPECT_FALSE(registry.add("", {ObjectType::logger, &mirror}));
}

TEST_F(RpcTest, ServingTwoObjectsOfOneNameIsAConflict) {
  const auto with = [&](std::vector<Export> exports) { return rpc::serve(options, {process, &mirror, &mirror, std::move(exports)}); };
  for (auto name : {"Logger", "Broker", "Actions"}) {
    const auto refused = with({{name, mirror}});
    ASSERT_FALSE(refused) << name;
    EXPECT_EQ(refused.error().kind, ErrorKind::conflict);
  }
  EXPECT_FALSE(with({{"Billing", mirror}, {"Billing", mirror}}));
  server = std::move(with({{"Billing", mirror}})).value();
}

TEST(RpcAccess, AdministrationWantsTheTokenOrTheSameMachine) {
  EXPECT_TRUE(check_administrator("t", "", true));
  EXPECT_TRUE(check_administrator("t", "Bearer t", false));
  EXPECT_EQ(check_administrator("t", "", false).error().kind, ErrorKind::unauthenticated);
  EXPECT_EQ(check_administrator("t", "Bearer x", true).error().kind, ErrorKind::unauthenticated);
  EXPECT_EQ(check_administrator("", "", false).error().kind, ErrorKind::permission_denied);
  EXPECT_EQ(check_administrator("", "Bearer ", false).error().kind, ErrorKind::unauthenticated);
  EXPECT_TRUE(is_same_machine(boost::asio::ip::make_address("::ffff:127.0.0.1")));
  EXPECT_FALSE(is_same_machine(boost::asio::ip::make_address("10.0.0.1")));
}

TEST(RpcCodec, EachErrorKindThereAndBack) {
  for (auto kind : core::kAllErrorKinds) {
    capnp::MallocMessageBuilder message;
    core::Error error{.kind = kind, .message = "words", .detail = "secret", .retry_after = 1500ms, .sent = core::Sent::maybe};
    write_failure(message.initRoot<schema::Failure>(), error);
    const auto back = read_failure(message.getRoot<schema::Failure>().asReader());
    EXPECT_EQ(back.kind, kind);
    EXPECT_EQ(back.message, "words");
    EXPECT_EQ(back.detail, "");
    EXPECT_EQ(back.retry_after, 1500ms);
    EXPECT_EQ(back.sent, core::Sent::maybe);
  }
}

TEST(RpcCodec, AKindOfALaterVersionIsInternal) {
  capnp::MallocMessageBuilder message;
  message.initRoot<schema::Failure>().setKind(static_cast<schema::ErrorKind>(77));
  EXPECT_EQ(read_failure(message.getRoot<schema::Failure>().asReader()).kind, ErrorKind::internal);
}

TEST(RpcCodec, AUserIsTypedAndComesBackAsTheSameJson) {
  for (std::string data : {std::string(Mirror::kUser), std::string(R"({"id":7,"more":1})"), std::string("[1]"), std::string()}) {
    capnp::MallocMessageBuilder message;
    core::Result<core::Reply> reply = core::Reply{.message = "m", .data = data, .next = "n", .duplicate = true, .way = "w"};
    write_answer(message.initRoot<schema::Answer>(), ObjectType::authentication, "auth", "", "id-1", reply);
    const auto answer = message.getRoot<schema::Answer>().asReader();
    if (data == Mirror::kUser) EXPECT_EQ(answer.getOk().getUser().getId(), 7);
    const auto back = read_answer(answer).value();
    EXPECT_EQ(back.data, data);
    EXPECT_EQ(back.message, "m");
    EXPECT_EQ(back.next, "n");
    EXPECT_EQ(back.way, "w");
    EXPECT_TRUE(back.duplicate);
    EXPECT_EQ(answer.getOk().getId(), "id-1");
  }
}

/// The plan of a request to Broker.handle or Actions.call that `fill` fills.
core::Result<Plan> broker_plan(const std::function<void(schema::Request::Builder, schema::Metadata::Builder)>& fill, bool same_machine = true) {
  capnp::MallocMessageBuilder request, meta;
  fill(request.initRoot<schema::Request>(), meta.initRoot<schema::Metadata>());
  static Mirror mirror;
  static const Exported exported{ObjectType::broker, &mirror};
  CallRules rules{.admin_token = "token", .same_machine = same_machine, .max_payload_bytes = 100};
  return plan_broker(exported, request.getRoot<schema::Request>().asReader(), meta.getRoot<schema::Metadata>().asReader(), rules);
}

TEST(RpcCodec, ABrokersRequestIsUnderstoodOrSaysWhatIsWrong) {
  const auto plan = broker_plan([](auto request, auto meta) {
                      request.getPayload().initMail().setTo("a@b");
                      meta.setId("key-1");
                      meta.setVia(schema::Via::GRPC);
                      meta.setAck(schema::Ack::STORED);
                      meta.setTimeoutMs(500);
                      meta.setHops("broker@1");
                      meta.setAcceptedAtMicros(1);
                    }).value();
  EXPECT_EQ(plan.request.action, "mail");
  EXPECT_EQ(std::get<core::Mail>(plan.request.payload).to, "a@b");
  EXPECT_EQ(plan.request.id.str(), "key-1");
  EXPECT_TRUE(plan.request.id_from_caller);
  EXPECT_EQ(plan.request.via, core::Via::grpc);
  EXPECT_EQ(plan.request.ack, core::Ack::stored);
  EXPECT_LE(plan.context.remaining(), 500ms);
  EXPECT_EQ(plan.context.hops, "") << "strangers don't say where a message has been";
  EXPECT_NE(plan.request.accepted_at, core::from_unix_micros(1)) << "nor when it was accepted";

  const auto wrong = [](auto fill) {
    const auto refused = broker_plan(fill);
    EXPECT_FALSE(refused);
    return refused ? std::string() : refused.error().message;
  };
  EXPECT_THAT(wrong([](auto, auto) {}), HasSubstr("action is required"));
  EXPECT_THAT(wrong([](auto r, auto) { r.setAction("log"); r.getPayload().initMail(); }), HasSubstr("differ"));
  EXPECT_THAT(wrong([](auto r, auto) { r.setAction("log"); r.getPayload().setJson("{"); }), HasSubstr("JSON"));
  EXPECT_THAT(wrong([](auto r, auto) { r.getPayload().initLog().setData(std::string(101, 'x').c_str()); }), HasSubstr("at most 100 bytes"));
  EXPECT_THAT(wrong([](auto r, auto) { r.getPayload().initMail().initAttachments(20); }), HasSubstr("at most 100 bytes"));
  EXPECT_THAT(wrong([](auto r, auto) { r.getPayload().initMail().setData("[1]"); }), HasSubstr("JSON object"));
  EXPECT_THAT(wrong([](auto r, auto) { r.getPayload().initMail().setCc(capnp::Text::Reader("a\0b", 3)); }), HasSubstr("NUL"));
  EXPECT_THAT(wrong([](auto r, auto) { r.getPayload().initMail().initAttachments(1)[0].setName("\xff"); }), HasSubstr("UTF-8"));
  EXPECT_THAT(wrong([](auto r, auto) { r.getPayload().initLog().setData("\xff"); }), HasSubstr("UTF-8"));
  EXPECT_THAT(wrong([](auto r, auto) { r.getPayload().initLog().setData(capnp::Text::Reader("a\0b", 3)); }), HasSubstr("NUL"));
  EXPECT_THAT(wrong([](auto r, auto m) { r.getPayload().initLog(); m.setId("two words"); }), HasSubstr("meta.id"));
  EXPECT_THAT(wrong([](auto r, auto m) { r.getPayload().initLog(); m.setId("~admin~x"); }), HasSubstr("meta.id"));
  EXPECT_THAT(wrong([](auto r, auto m) { r.getPayload().initLog(); m.setVia(static_cast<schema::Via>(9)); }), HasSubstr("meta.via"));
  EXPECT_THAT(wrong([](auto r, auto m) { r.getPayload().initLog(); m.setAck(static_cast<schema::Ack>(9)); }), HasSubstr("meta.ack"));
  EXPECT_THAT(wrong([](auto r, auto m) { r.getPayload().initLog(); m.setTimeoutMs(0); }), HasSubstr("time was over"));
}

TEST(RpcCodec, ATimeThatIsNoneIsRefused) {
  Mirror services;
  const Exported exported{ObjectType::actions, &services};
  for (std::int64_t micros : {std::int64_t(-1), std::int64_t(1) << 56, INT64_MAX}) {
    capnp::MallocMessageBuilder meta;
    meta.initRoot<schema::Metadata>().setAcceptedAtMicros(micros);
    const auto refused = plan_action(exported, "x", "{}", meta.getRoot<schema::Metadata>().asReader(), {});
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message, HasSubstr("acceptedAtMicros"));
  }
}

TEST(RpcCodec, WhereTheBrokerIsStrangersDontSayWhereAMessageHasBeen) {
  Mirror services;
  const Exported exported{ObjectType::actions, &services};
  CallRules rules{.admin_token = "token", .process_key = "own-key", .trusts_peers = false};
  const auto arrived = [&](auto fill) {
    capnp::MallocMessageBuilder meta;
    auto builder = meta.initRoot<schema::Metadata>();
    builder.setHops("broker>amqp@1");
    builder.setAcceptedAtMicros(1);
    fill(builder);
    const auto plan = plan_action(exported, "x", "{}", builder.asReader(), rules).value();
    EXPECT_LE(plan.request.accepted_at, std::chrono::system_clock::now());
    return plan.context.hops + (plan.request.accepted_at == core::from_unix_micros(1) ? " then" : " now");
  };
  EXPECT_EQ(arrived([](auto) {}), " now");
  EXPECT_EQ(arrived([](auto meta) { meta.setProcessKey("own-kez"); }), " now");
  EXPECT_EQ(arrived([](auto meta) { meta.setProcessKey("own-key"); }), "broker>amqp@1 then");
  EXPECT_EQ(arrived([](auto meta) { meta.setAuthorization("Bearer token"); }), "broker>amqp@1 then");
  rules.trusts_peers = true;
  EXPECT_EQ(arrived([](auto) {}), "broker>amqp@1 then");
  EXPECT_EQ(arrived([](auto meta) { meta.setAcceptedAtMicros(7'000'000'000'000'000); }), "broker>amqp@1 now") << "not in the time to come";
}

TEST(RpcCodec, WhereTheBrokerIsStrangersDontSayWhereALoginComesFrom) {
  Mirror services;
  const Exported exported{ObjectType::authentication, &services};
  CallRules rules{.admin_token = "token", .process_key = "own-key", .client = "192.0.2.1", .trusts_peers = false};
  const auto client = [&](auto fill) {
    capnp::MallocMessageBuilder credentials, meta;
    auto builder = meta.initRoot<schema::Metadata>();
    builder.setClient("203.0.113.66");
    fill(builder);
    return plan_authentication(exported, credentials.initRoot<schema::Credentials>().asReader(), builder.asReader(), rules).value().context.client;
  };
  EXPECT_EQ(client([](auto) {}), "192.0.2.1");
  EXPECT_EQ(client([](auto meta) { meta.setProcessKey("own-key"); }), "203.0.113.66");
  rules.trusts_peers = true;
  EXPECT_EQ(client([](auto) {}), "203.0.113.66");
  EXPECT_EQ(client([](auto meta) { meta.setClient(""); }), "192.0.2.1") << "a broker that says nothing is who asks";
}

TEST(RpcCodec, ALoginsTokenIsTriedOnlyWhereItIsAskedAbout) {
  Mirror services;
  const Exported exported{ObjectType::actions, &services};
  CallRules rules{.admin_token = "token", .same_machine = true};
  const auto plan = [&](const char* authorization) {
    capnp::MallocMessageBuilder meta;
    auto builder = meta.initRoot<schema::Metadata>();
    builder.setAuthorization(authorization);
    return plan_action(exported, "users.list", "{}", builder.asReader(), rules);
  };
  EXPECT_EQ(plan("Bearer eyJhbGciOiJIUzI1NiJ9.e30.x").error().kind, core::ErrorKind::unauthenticated);
  rules.login_tokens = true;
  auto tried = plan("Bearer eyJhbGciOiJIUzI1NiJ9.e30.x");
  ASSERT_TRUE(tried);
  EXPECT_EQ(tried.value().context.bearer, "eyJhbGciOiJIUzI1NiJ9.e30.x");
  EXPECT_TRUE(tried.value().context.caller.empty()) << "nobody's until it has been asked about";
  EXPECT_EQ(plan("Bearer tokem").error().kind, core::ErrorKind::unauthenticated);
  EXPECT_EQ(plan("Bearer token").value().context.caller, "admin");
}

TEST(RpcCodec, AFailureNamesTheMessageAndTheWay) {
  capnp::MallocMessageBuilder message;
  auto failure = message.initRoot<schema::Failure>();
  auto error = core::unauthenticated("invalid credentials");
  error.way = "grpc;fallback-from=http";
  write_failure(failure, error, "id-1");
  EXPECT_EQ(view(failure.asReader().getWay()), "grpc;fallback-from=http");
  EXPECT_EQ(view(failure.asReader().getId()), "id-1");
}

TEST(RpcCodec, AdministrationIsForAdministrators) {
  const auto list = [](auto request, auto) { request.setAction("logs.list"); };
  EXPECT_EQ(broker_plan(list).value().context.caller, "admin");
  EXPECT_EQ(broker_plan(list, false).error().kind, ErrorKind::unauthenticated);
  const auto with_token = [](auto request, auto meta) {
    request.setAction("logs.list");
    meta.setAuthorization("Bearer token");
  };
  EXPECT_TRUE(broker_plan(with_token, false));
  // An administrator's key never meets a stranger's.
  const auto keyed = [](auto request, auto meta) {
    request.getPayload().initLog();
    meta.setId("k");
    meta.setAuthorization("Bearer token");
  };
  EXPECT_EQ(broker_plan(keyed).value().request.id.str(), "~admin~k");
}

TEST(RpcCodec, AdministrationGoesToTheBrokerWhereThereIsOne) {
  Mirror broker, services;
  capnp::MallocMessageBuilder meta;
  const auto reader = meta.initRoot<schema::Metadata>().asReader();
  const CallRules rules{.same_machine = true};
  const Exported both{ObjectType::actions, &services, &broker}, only_broker{ObjectType::actions, nullptr, &broker};
  EXPECT_EQ(plan_action(both, "logs.list", "{}", reader, rules).value().handler, &broker);
  EXPECT_EQ(plan_action(both, "billing.charge", "", reader, rules).value().handler, &services);
  EXPECT_EQ(plan_action(only_broker, "logs.list", "{}", reader, rules).value().handler, &broker);
  EXPECT_EQ(plan_action(only_broker, "billing.charge", "{}", reader, rules).error().kind, ErrorKind::unimplemented);
  EXPECT_EQ(plan_action(both, "", "{}", reader, rules).error().kind, ErrorKind::invalid_argument);
}

TEST(RpcOptions, SayWhatIsWrong) {
  RpcServerOptions server;
  RpcClientOptions client;
  EXPECT_TRUE(server.validate().empty());
  EXPECT_TRUE(client.validate().empty());
  server.listen = "nowhere";
  server.max_nesting = 1000;
  client.event_buffer = 0;
  EXPECT_EQ(server.validate().size(), 2u);
  EXPECT_EQ(client.validate().at(0).path, "event_buffer");
}

}  // namespace
}  // namespace flexi::transports::rpc
