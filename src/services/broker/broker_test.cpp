// SPDX-License-Identifier: Apache-2.0
#include "services/broker/broker.hpp"

#include "core/hops.hpp"
#include "services/broker/broker_fixture.hpp"

namespace flexi::services::broker {
namespace {

using BrokerTest = BrokerFixture;

struct Case {
  const char* action;
  Via via;
  std::optional<Ack> ack;
  const char* way;
  const char* message;
  Ack passed_on;
};

TEST_F(BrokerTest, EveryActionViaAndAckGoesItsWayAndAnswersInTheContractsWords) {
  const auto own = "the service's own";
  const Case cases[] = {
      {"log", Via::automatic, {}, "amqp;queue=embedded", "logger via RabbitMQ", Ack::accepted},
      {"log", Via::automatic, Ack::accepted, "amqp;queue=embedded", "logger via RabbitMQ", Ack::accepted},
      {"log", Via::automatic, Ack::stored, "inproc", "logged", Ack::stored},
      {"log", Via::inproc, {}, "inproc", "logged", Ack::accepted},
      {"log", Via::http, Ack::stored, "http", "logged", Ack::stored},
      {"log", Via::amqp, {}, "amqp;queue=embedded", "logger via RabbitMQ", Ack::accepted},
      {"log", Via::amqp, Ack::stored, "amqp;queue=embedded", "logged", Ack::stored},
      {"mail", Via::automatic, {}, "inproc", "Message sent to to@b.c", Ack::stored},
      {"mail", Via::automatic, Ack::accepted, "amqp;queue=embedded", "Message sent to to@b.c", Ack::accepted},
      {"mail", Via::http, {}, "http", "Message sent to to@b.c", Ack::stored},
      {"mail", Via::amqp, Ack::stored, "amqp;queue=embedded", "Message sent to to@b.c", Ack::stored},
      {"auth", Via::automatic, {}, "inproc", "Authenticated", Ack::stored},
      {"auth", Via::amqp, {}, "amqp;queue=embedded", "Authenticated", Ack::stored},
      {"auth", Via::http, Ack::stored, "http", "Authenticated", Ack::stored},
      {"invoice", Via::automatic, {}, "inproc", own, Ack::stored},
      {"invoice", Via::automatic, Ack::accepted, "amqp;queue=embedded", own, Ack::accepted},
      {"invoice", Via::http, Ack::stored, "http", own, Ack::stored},
  };
  auto broker = make();
  for (auto& c : cases) {
    SCOPED_TRACE(std::string(c.action) + " via " + std::string(core::to_string(c.via)) + " -> " + c.way);
    const auto before = calls();
    auto answer = call(*broker, contract_request(c.action, c.via, c.ack));
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ(answer.value().way, c.way);
    EXPECT_EQ(answer.value().message, c.message);
    EXPECT_EQ(calls(), before + 1);
    auto& handler = std::string_view(c.way) == "inproc" ? inproc : std::string_view(c.way) == "http" ? http : amqp;
    auto& passed = handler.requests.back();
    EXPECT_EQ(passed.action, c.action);
    EXPECT_EQ(passed.ack, c.passed_on);
    EXPECT_TRUE(core::same_payload(passed.payload, payload_of(c.action)));
    EXPECT_NE(passed.accepted_at, core::Timestamp{});
    EXPECT_EQ(passed.id.str(), "test-id");
  }
}

TEST_F(BrokerTest, ARequestGetsATraceAndHopsThatSayByWhichWayItLeft) {
  auto broker = make();
  ASSERT_TRUE(call(*broker, contract_request("log", Via::http)));
  ASSERT_TRUE(call(*broker, contract_request("log", Via::http)));
  EXPECT_TRUE(http.contexts[0].trace.valid());
  EXPECT_NE(http.contexts[0].trace.trace_id, http.contexts[1].trace.trace_id);
  EXPECT_EQ(http.requests[0].via, Via::http);
  const auto hops = core::read_hops(http.contexts[0].hops);
  ASSERT_EQ(hops.size(), 2u);
  EXPECT_EQ(hops[0].at, "broker");
  EXPECT_EQ(hops[1].at, "broker>http");

  core::CallContext context;
  context.trace = core::TraceContext::from_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
  ASSERT_TRUE(call(*broker, contract_request("mail", Via::inproc), context));
  EXPECT_EQ(inproc.contexts.back().trace.to_traceparent(), context.trace.to_traceparent()) << "a caller's trace goes on";

  // A fallback leaves from the broker: what was tried before is no hop of this way.
  inproc.fail(core::unavailable("down"));
  ASSERT_TRUE(call(*broker, contract_request("log", Via::automatic, Ack::stored)));
  EXPECT_EQ(http.requests.back().via, Via::http);
  EXPECT_EQ(core::read_hops(http.contexts.back().hops).back().at, "broker>http");
  EXPECT_EQ(core::read_hops(http.contexts.back().hops).size(), 2u);
}

TEST_F(BrokerTest, OverRpcTheRemoteMethodsTextIsTheAnswer) {
  ScriptedHandler rpc;
  rpc.message = "Processed payload via RPC:n";
  auto with_rpc = parts();
  with_rpc.actions[0].ways.push_back({Via::rpc, rpc});
  auto broker = make_broker(std::move(with_rpc), options);
  EXPECT_EQ(call(*broker, contract_request("log", Via::rpc)).value().message, "Processed payload via RPC:n");
}

TEST_F(BrokerTest, AHitIsAnsweredHere) {
  auto broker = make();
  for (auto action : {"", "hit"}) EXPECT_EQ(call(*broker, request_of(action)).value().message, "Hit the broker");
  EXPECT_EQ(calls(), 0u);
}

TEST_F(BrokerTest, UnknownActionsAreInvalid) {
  auto broker = make();
  for (auto action : {"nothing", "logs", "LOG", "log "}) {
    auto refused = call(*broker, request_of(action));
    EXPECT_EQ(refused.error().kind, ErrorKind::invalid_argument) << action;
    EXPECT_EQ(refused.error().message, "unknown action");
  }
}

TEST_F(BrokerTest, ATransportThatIsNotHereIsInvalidAndTheOthersAreNamed) {
  auto broker = make();
  for (auto via : {Via::grpc, Via::rpc}) {
    auto refused = call(*broker, contract_request("log", via));
    EXPECT_EQ(refused.error().kind, ErrorKind::invalid_argument);
    EXPECT_EQ(refused.error().message,
              "transport \"" + std::string(core::to_string(via)) + "\" is not available here: use one of auto, amqp, http, inproc");
  }
}

TEST_F(BrokerTest, AForbiddenTransportIsDeniedAndAutoAvoidsIt) {
  options.mail.forbidden = {"inproc", "http"};
  auto broker = make();
  for (auto via : {Via::inproc, Via::http}) {
    auto denied = call(*broker, contract_request("mail", via));
    EXPECT_EQ(denied.error().kind, ErrorKind::permission_denied);
    EXPECT_EQ(denied.error().message, "transport \"" + std::string(core::to_string(via)) + "\" is forbidden for mail here: use one of auto, amqp");
  }
  EXPECT_EQ(call(*broker, contract_request("mail")).value().way, "amqp;queue=embedded");
  down(amqp);
  EXPECT_EQ(call(*broker, contract_request("mail")).error().kind, ErrorKind::unavailable);
  EXPECT_EQ(inproc.calls() + http.calls(), 0u);
  EXPECT_EQ(call(*broker, contract_request("log", Via::http)).value().way, "http") << "others may still go that way";
}

TEST_F(BrokerTest, AuthenticationIsNeverJustAccepted) {
  auto broker = make();
  for (auto via : {Via::automatic, Via::amqp, Via::inproc}) {
    auto refused = call(*broker, contract_request("auth", via, Ack::accepted));
    EXPECT_EQ(refused.error().kind, ErrorKind::invalid_argument);
    EXPECT_NE(refused.error().message.find("use stored"), std::string::npos);
  }
  EXPECT_EQ(calls(), 0u);
}

TEST_F(BrokerTest, AutoFallsBackAndSaysSo) {
  auto broker = make();
  down(amqp);
  auto log = call(*broker, contract_request("log"));
  EXPECT_EQ(log.value().way, "inproc;fallback-from=amqp");
  EXPECT_EQ(log.value().message, "logged");
  down(inproc);
  EXPECT_EQ(call(*broker, contract_request("log")).value().way, "http;fallback-from=amqp");
  EXPECT_EQ(call(*broker, contract_request("auth")).value().way, "http;fallback-from=inproc");
  amqp.heal();
  down(http);
  auto stored = call(*broker, contract_request("mail"));
  EXPECT_EQ(stored.value().way, "amqp;queue=embedded;fallback-from=inproc");
}

TEST_F(BrokerTest, AnExplicitWayThatIsDownIsNamedAndNobodyElseIsAsked) {
  auto broker = make();
  down(http);
  auto failed = call(*broker, contract_request("log", Via::http));
  EXPECT_EQ(failed.error().kind, ErrorKind::unavailable);
  EXPECT_EQ(failed.error().message, "transport \"http\" is unavailable: down");
  auto full = core::unavailable("the log store is full");
  full.answered = true;
  http.fail_for_ever(full);
  EXPECT_EQ(call(*broker, contract_request("log", Via::http)).error().message, "the log store is full") << "the transport is well";
  EXPECT_EQ(inproc.calls() + amqp.calls(), 0u);
}

TEST_F(BrokerTest, AFullQueueIsOverloadedAndKeepsItsRetryAfter) {
  auto broker = make();
  auto full = core::overloaded("the queue is full");
  full.retry_after = std::chrono::seconds(3);
  amqp.fail_for_ever(full);
  for (auto via : {Via::amqp, Via::automatic}) {
    auto refused = call(*broker, contract_request("log", via, Ack::accepted));
    EXPECT_EQ(refused.error().kind, ErrorKind::overloaded);
    EXPECT_EQ(refused.error().message, "the queue is full");
    EXPECT_EQ(refused.error().retry_after, std::chrono::seconds(3));
  }
  EXPECT_EQ(amqp.calls(), 2u) << "who asks for three seconds is not asked again at once";
  EXPECT_EQ(inproc.calls(), 0u) << "shedding the overload to another way would only spread it";
}

TEST_F(BrokerTest, TheServicesOwnErrorsComeBackUnchanged) {
  auto broker = make();
  for (auto kind : core::kAllErrorKinds) {
    if (core::is_transient(kind) || kind == ErrorKind::unimplemented) continue;
    core::Error error;
    error.kind = kind;
    error.message = "its words";
    error.detail = "its detail";
    inproc.fail(error);
    auto failed = call(*broker, contract_request("auth"));
    EXPECT_EQ(failed.error().kind, kind);
    EXPECT_EQ(failed.error().message, "its words");
    EXPECT_EQ(failed.error().detail, "its detail");
  }
}

TEST_F(BrokerTest, MailMovesOnlyWhenItIsCertainlyUnsent) {
  auto broker = make();
  inproc.fail(core::unavailable("refused"), Sent::no);
  EXPECT_EQ(call(*broker, contract_request("mail")).value().way, "http;fallback-from=inproc");
  down(inproc, Sent::maybe);
  const auto before = calls();
  auto failed = call(*broker, contract_request("mail"));
  EXPECT_EQ(failed.error().kind, ErrorKind::unavailable);
  EXPECT_EQ(failed.error().sent, Sent::maybe);
  EXPECT_EQ(calls(), before + 1) << "neither moved nor tried again";
  EXPECT_EQ(call(*broker, contract_request("invoice")).error().sent, Sent::maybe);
  EXPECT_EQ(call(*broker, contract_request("log", Via::automatic, Ack::stored)).value().way, "http;fallback-from=inproc");
}

TEST_F(BrokerTest, MailThatItsQueueMayHaveWaitsForTheQueueAndGoesByNoOther) {
  ScriptedHandler straight, waiting;
  auto made = parts();
  for (auto& action : made.actions)
    for (auto& way : action.ways)
      if (way.via == Via::amqp) way.straight = &straight, way.waiting = &waiting;
  waiting.way = "amqp;queue=spool";
  options.mail.accepted_order = {"amqp", "inproc"};
  options.mail.stored_order = {"amqp", "inproc"};
  const auto broker = make_broker(std::move(made), options);
  straight.fail(core::deadline_exceeded("no confirm"), Sent::maybe);
  EXPECT_EQ(call(*broker, contract_request("mail", Via::automatic, Ack::accepted)).value().way, "amqp;queue=spool;fallback-from=amqp");
  EXPECT_EQ(waiting.requests.at(0).via, Via::amqp);
  straight.fail(core::unavailable("cut off"), Sent::maybe);
  const auto stored = call(*broker, contract_request("mail", Via::automatic, Ack::stored));
  ASSERT_FALSE(stored) << "what is to be stored waits for nothing";
  EXPECT_EQ(waiting.calls(), 1u);
  EXPECT_EQ(calls(), 0u);
  straight.fail(core::unavailable("down"));
  EXPECT_EQ(call(*broker, contract_request("mail", Via::automatic, Ack::accepted)).value().way, "inproc;fallback-from=amqp");
  // Where nothing else is left it waits.
  straight.fail(core::unavailable("down"));
  down(inproc);
  EXPECT_EQ(call(*broker, contract_request("mail", Via::automatic, Ack::accepted)).value().way, "amqp;queue=spool;fallback-from=amqp");
}

TEST_F(BrokerTest, ADeclaredIdempotentActionMovesAlsoWhenItMayHaveBeenSent) {
  options.custom.idempotent = true;
  auto broker = make();
  down(inproc, Sent::maybe);
  EXPECT_EQ(call(*broker, contract_request("invoice")).value().way, "http;fallback-from=inproc");
  EXPECT_FALSE(call(*broker, contract_request("mail")));
}

TEST_F(BrokerTest, AdministrationIsHandedOnUnchanged) {
  auto broker = make();
  auto request = request_of("logs.list", core::Json{R"({"limit":5})"});
  request.via = Via::http;
  admin.way = "whatever";
  auto listed = call(*broker, request, core::CallContext{.caller = "admin"});
  EXPECT_EQ(listed.value().message, "ok");
  EXPECT_EQ(listed.value().way, "whatever");
  auto& passed = admin.requests.at(0);
  EXPECT_EQ(passed.action, "logs.list");
  EXPECT_TRUE(core::same_payload(passed.payload, request.payload));
  EXPECT_EQ(passed.via, Via::http);
  EXPECT_FALSE(passed.ack.has_value());
  EXPECT_EQ(admin.contexts.at(0).caller, "admin");
  admin.fail(core::invalid_argument("limit must be 1 to 500"));
  EXPECT_EQ(call(*broker, request).error().message, "limit must be 1 to 500");
  EXPECT_TRUE(call(*broker, request_of("dlq.list")));
  EXPECT_EQ(call(*broker, request_of("dlq.get")).error().kind, ErrorKind::unimplemented);
  EXPECT_EQ(call(*broker, request_of("mails.list")).error().message, "mails.list is not available here");
}

TEST_F(BrokerTest, AMissingIdIsGivenAndAnEarlierAcceptanceIsKept) {
  auto broker = make();
  auto request = contract_request("log", Via::inproc);
  request.id = {};
  request.accepted_at = core::Timestamp(std::chrono::hours(1));
  EXPECT_TRUE(call(*broker, request));
  EXPECT_FALSE(inproc.requests.at(0).id.empty());
  EXPECT_EQ(inproc.requests.at(0).accepted_at, request.accepted_at);
}

TEST_F(BrokerTest, AnExpiredRequestReachesNobody) {
  auto broker = make();
  auto late = call(*broker, contract_request("log"), core::CallContext::with_timeout(std::chrono::milliseconds(-1)));
  EXPECT_EQ(late.error().kind, ErrorKind::deadline_exceeded);
  EXPECT_EQ(late.error().sent, Sent::no);
  EXPECT_EQ(calls(), 0u);
}

TEST_F(BrokerTest, WhereNoWayIsThereItSaysSo) {
  BrokerParts none{.metrics = metrics};
  none.actions.push_back({"log", {{Via::rpc, inproc}}});
  options.log.accepted_order = {"amqp"};
  auto broker = make_broker(std::move(none), options);
  auto failed = call(*broker, contract_request("log"));
  EXPECT_EQ(failed.error().kind, ErrorKind::unavailable);
  EXPECT_EQ(failed.error().message, "no transport to log is configured here");
}

TEST_F(BrokerTest, RoutingTwiceIsABug) {
  EXPECT_THROW(Broker(BrokerRoutes{.actions = {{.action = "log"}, {.action = "log"}}}), std::invalid_argument);
  EXPECT_THROW(Broker(BrokerRoutes{.actions = {{.action = "log", .ways = {{Via::http, http}, {Via::http, http}}}}}), std::invalid_argument);
}

}  // namespace
}  // namespace flexi::services::broker
