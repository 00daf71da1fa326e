// SPDX-License-Identifier: Apache-2.0
// The promises of DESIGN.md that the broker keeps by itself, by their numbers, against services in memory.
#include <boost/asio/bind_cancellation_slot.hpp>

#include <list>
#include <set>

#include "services/broker/broker_fixture.hpp"

namespace flexi::services::broker {
namespace {

namespace asio = boost::asio;
using PromisesTest = BrokerFixture;

core::Request keyed(std::string action, std::string key, core::Payload payload) {
  auto request = request_of(std::move(action), std::move(payload));
  request.id = core::MessageId::from_key(key, "").value();
  request.id_from_caller = true;
  return request;
}

// 1. A 202 is the truth.
TEST_F(PromisesTest, P1NoReplyWithoutADestinationThatHasIt) {
  auto broker = make();
  for (auto* handler : {&inproc, &http, &amqp}) down(*handler);
  for (auto action : {"log", "auth", "mail", "invoice"})
    for (auto via : {Via::automatic, Via::inproc, Via::http, Via::amqp}) EXPECT_FALSE(call(*broker, contract_request(action, via))) << action;
}

TEST_F(PromisesTest, P1StoredIsAskedOfTheQueueToo) {
  auto broker = make();
  EXPECT_TRUE(call(*broker, contract_request("log", Via::amqp, Ack::stored)));
  EXPECT_EQ(amqp.requests.at(0).ack, Ack::stored);
}

TEST_F(PromisesTest, P1APasswordLeavesNoTraceBesideItsService) {
  auto broker = make();
  auto request = keyed("auth", "k1", core::Credentials{"a@b.c", "secret"});
  EXPECT_TRUE(call(*broker, request));
  request.payload = core::Credentials{"a@b.c", "other"};
  EXPECT_TRUE(call(*broker, request));
  EXPECT_TRUE(keys.digests.empty());
}

// 2. Any action over any transport.
TEST_F(PromisesTest, P2EveryActionGoesEveryWayAndSaysWhich) {
  auto broker = make();
  for (auto action : {"log", "auth", "mail", "invoice"})
    for (auto via : {Via::inproc, Via::http, Via::amqp}) {
      auto answer = call(*broker, contract_request(action, via, Ack::stored));
      ASSERT_TRUE(answer) << action;
      EXPECT_TRUE(answer.value().way.starts_with(core::to_string(via))) << answer.value().way;
    }
}

TEST_F(PromisesTest, P2AutoSurvivesAnyOneWayThatIsLeft) {
  for (auto* up : {&inproc, &http, &amqp}) {
    auto broker = make();
    for (auto* handler : {&inproc, &http, &amqp}) down(*handler);
    up->heal();
    for (auto action : {"log", "auth", "mail", "invoice"}) EXPECT_TRUE(call(*broker, contract_request(action))) << action;
  }
}

// 3. Stored once.
struct StoredOnce : PromisesTest {
  std::unique_ptr<core::Handler> make_with_service() {
    BrokerParts p = parts();
    for (auto& action : p.actions) action.ways = {{Via::inproc, service}, {Via::http, service}};
    return make_broker(std::move(p), options);
  }
  MemoryService service;
};

TEST_F(StoredOnce, P3RetriesAndFallbacksKeepTheIdAndStoreOnce) {
  auto broker = make_with_service();
  service.lose_answers = 3;
  auto answer = call(*broker, contract_request("log", Via::automatic, Ack::stored));
  ASSERT_TRUE(answer);
  EXPECT_TRUE(answer.value().duplicate);
  EXPECT_EQ(service.calls, 4);
  EXPECT_EQ(service.stored.size(), 1u);
}

TEST_F(StoredOnce, P3MailWhoseAnswerWasLostIsNotSentAgain) {
  auto broker = make_with_service();
  service.lose_answers = 1;
  auto answer = call(*broker, contract_request("mail"));
  EXPECT_EQ(answer.error().kind, ErrorKind::unavailable);
  EXPECT_EQ(answer.error().sent, Sent::maybe);
  EXPECT_EQ(service.calls, 1);
}

TEST_F(StoredOnce, P3TheSameKeyIsADuplicateAndAnotherPayloadAConflict) {
  auto broker = make_with_service();
  EXPECT_FALSE(call(*broker, keyed("log", "k", core::LogEntry{"n", "d"})).value().duplicate);
  EXPECT_TRUE(call(*broker, keyed("log", "k", core::LogEntry{"n", "d"})).value().duplicate);
  auto other = call(*broker, keyed("log", "k", core::LogEntry{"n", "another"}));
  EXPECT_EQ(other.error().kind, ErrorKind::conflict);
  EXPECT_EQ(service.calls, 2) << "a conflict is found before anything is sent";
  EXPECT_EQ(keys.digests.size(), 1u);
}

TEST_F(StoredOnce, P3KeysAreScopedByAction) {
  auto broker = make();
  EXPECT_TRUE(call(*broker, keyed("log", "k", core::LogEntry{"n", "d"})));
  EXPECT_TRUE(call(*broker, keyed("mail", "k", core::Mail{"", "a@b.c", "s", "m"})));
}

TEST_F(StoredOnce, P3AKeyWhoseFirstRequestFailedMayBeUsedAgain) {
  auto broker = make();
  amqp.fail(core::unavailable("down"));
  inproc.fail(core::internal("broken"));
  EXPECT_FALSE(call(*broker, keyed("log", "k", core::LogEntry{"n", "d"})));
  EXPECT_TRUE(call(*broker, keyed("log", "k", core::LogEntry{"n", "d"})));
}

TEST_F(StoredOnce, P3WhereKeysCantBeKeptAKeyedRequestIsRefusedAndOthersGoOn) {
  auto broker = make();
  keys.down = true;
  EXPECT_EQ(call(*broker, keyed("log", "k", core::LogEntry{"n", "d"})).error().kind, ErrorKind::unavailable);
  EXPECT_EQ(calls(), 0u);
  EXPECT_TRUE(call(*broker, contract_request("log")));
}

TEST(PayloadDigest, FieldBoundariesActionsAndKindsCount) {
  const auto digest = [](std::string action, core::Payload payload) { return digest_of(request_of(std::move(action), std::move(payload))); };
  EXPECT_EQ(digest("log", core::LogEntry{"a", "b"}), digest("log", core::LogEntry{"a", "b"}));
  EXPECT_NE(digest("log", core::LogEntry{"ab", ""}), digest("log", core::LogEntry{"a", "b"}));
  EXPECT_NE(digest("log", core::LogEntry{"a", "b"}), digest("lox", core::LogEntry{"a", "b"}));
  EXPECT_NE(digest("mail", core::Mail{"", "a", "", ""}), digest("mail", core::Mail{"a", "", "", ""}));
  const auto mail = [&](auto change) {
    core::Mail made{"f", "t", "s", "m"};
    change(made);
    return digest("mail", made);
  };
  const std::set<core::PayloadDigest> mails = {mail([](auto&) {}),
                                               mail([](auto& m) { m.cc = "x"; }),
                                               mail([](auto& m) { m.bcc = "x"; }),
                                               mail([](auto& m) { m.data = "x"; }),
                                               mail([](auto& m) { m.attachments = {{"x"}}; }),
                                               mail([](auto& m) { m.attachments = {{"", "x"}}; }),
                                               mail([](auto& m) { m.attachments = {{"", "", "x"}}; }),
                                               mail([](auto& m) { m.attachments = {{}, {}}; })};
  EXPECT_EQ(mails.size(), 8u) << "all that goes with a mail counts";
  EXPECT_NE(digest("x", core::Json{"1"}), digest("x", core::Json{"2"}));
}

// 5. Nothing is unbounded, nothing hangs.
TEST_F(PromisesTest, P5AThousandCallersWhoLeaveLeaveNothingBehind) {
  auto broker = make();
  inproc.hang = true;
  asio::io_context io{1};
  std::list<asio::cancellation_signal> signals;
  int ended = 0;
  auto one = [](core::Handler& handler) -> core::awaitable<void> { (void)co_await handler.handle(contract_request("mail"), {}); };
  for (int i = 0; i < 1000; ++i)
    asio::co_spawn(io, one(*broker), asio::bind_cancellation_slot(signals.emplace_back().slot(), [&ended](std::exception_ptr) { ++ended; }));
  io.poll();
  EXPECT_EQ(static_cast<std::int64_t>(inproc.running), options.concurrency.initial);
  for (auto& signal : signals) signal.emit(asio::cancellation_type::terminal);
  io.restart();
  io.run();
  EXPECT_EQ(ended, 1000);
  EXPECT_EQ(inproc.running, 0);
  inproc.hang = false;
  EXPECT_TRUE(call(*broker, contract_request("mail")));
}

TEST_F(PromisesTest, P5AnOutageIsNotMultiplied) {
  auto broker = make();
  down(inproc);
  for (int i = 0; i < 1000; ++i) EXPECT_FALSE(call(*broker, contract_request("mail", Via::inproc)));
  EXPECT_LE(inproc.calls(), 1000u + 10u + 200u);
}

TEST_F(PromisesTest, P5TheDeadlineGoesAlongUnchanged) {
  auto broker = make();
  const auto context = core::CallContext::with_timeout(std::chrono::seconds(3));
  EXPECT_TRUE(call(*broker, contract_request("mail"), context));
  EXPECT_EQ(inproc.contexts.at(0).deadline, context.deadline);
}

}  // namespace
}  // namespace flexi::services::broker
