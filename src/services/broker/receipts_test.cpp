// SPDX-License-Identifier: Apache-2.0
#include "services/broker/receipts.hpp"

#include <gmock/gmock.h>

#include "services/broker/broker_fixture.hpp"
#include "services/broker/remote_sources.hpp"

namespace flexi::services::broker {
namespace {

using core::Receipt;
using testing::HasSubstr;
using testing::Not;

struct MemorySource final : core::ReceiptSource {
  core::awaitable<core::Result<std::optional<Receipt>>> find_receipt(core::MessageId id, core::CallContext) override {
    asked.push_back(id.str());
    if (down) co_return core::unavailable("it is down");
    const auto found = receipts.find(id.str());
    co_return found == receipts.end() ? std::optional<Receipt>() : found->second;
  }
  void put(std::string id, Receipt::State state, std::string action = "log") {
    Receipt receipt{.id = core::MessageId::parse(id).value(), .action = std::move(action), .state = state};
    receipt.where = std::string(core::to_string(state)) + "-place";
    receipts.insert_or_assign(id, receipt);
  }
  std::map<std::string, Receipt> receipts;
  std::vector<std::string> asked;
  bool down = false;
};

struct ReceiptServiceTest : testing::Test {
  core::Result<core::Reply> ask(std::string id, std::string caller = {}, std::string more = {}) {
    core::CallContext context;
    context.caller = std::move(caller);
    return call(service, request_of("receipts.get", core::Json{R"({"id":")" + id + "\"" + more + "}"}), context);
  }
  std::string state_of(std::string id, std::string caller = {}, std::string more = {}) {
    auto answer = ask(std::move(id), std::move(caller), std::move(more));
    return answer ? answer.value().data : std::string(core::to_string(answer.error().kind)) + ": " + answer.error().message;
  }
  MemorySource logger, mail, queue;
  ReceiptService service{{{"logger", logger}, {"mail", mail}, {"queue", queue}}};
};

TEST_F(ReceiptServiceTest, WhoHasItSaysWhereItIs) {
  EXPECT_EQ(state_of("never-seen"), R"({"id":"never-seen","state":"unknown"})");
  queue.put("q", Receipt::State::queued);
  EXPECT_EQ(state_of("q"), R"({"id":"q","state":"queued","action":"log","where":"queued-place","attempts":0})");
  auto& dead = queue.receipts["d"];
  queue.put("d", Receipt::State::dead_lettered, "mail");
  dead.reason = "unavailable: the \"server\" is down";
  dead.attempts = 8;
  dead.accepted_at = core::Timestamp(std::chrono::seconds(1'795'000'000));
  dead.at = dead.accepted_at + std::chrono::seconds(1);
  EXPECT_EQ(state_of("d"), R"({"id":"d","state":"dead_lettered","action":"mail","where":"dead_lettered-place","reason":"unavailable: the \"server\" is down","attempts":8,)"
                           R"("accepted_at":"2026-11-18T11:06:40.000000Z","at":"2026-11-18T11:06:41.000000Z"})");
}

TEST_F(ReceiptServiceTest, TheFurthestHoldsAndTheOthersCompleteIt) {
  using State = Receipt::State;
  const State order[] = {State::stored, State::queued, State::spooled, State::dead_lettered, State::expired, State::discarded, State::unknown};
  for (std::size_t i = 0; i + 1 < std::size(order); ++i)
    for (auto* further : {&logger, &queue}) {
      auto& other = further == &logger ? queue : logger;
      further->put("x", order[i]);
      other.put("x", order[i + 1]);
      EXPECT_THAT(state_of("x"), HasSubstr("\"state\":\"" + std::string(core::to_string(order[i])) + "\""));
    }
  logger.put("x", State::stored);
  logger.receipts["x"].trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
  logger.receipts["x"].hops = "broker@1795000000000000 logger@1795000000000001";
  queue.put("x", State::queued);
  queue.receipts["x"].attempts = 2;
  EXPECT_EQ(state_of("x"), R"({"id":"x","state":"stored","action":"log","where":"stored-place","attempts":2,"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736",)"
                           R"("hops":[{"at":"broker","time":"2026-11-18T11:06:40.000000Z"},{"at":"logger","time":"2026-11-18T11:06:40.000001Z"}]})");
}

TEST_F(ReceiptServiceTest, AnIdIsOneMessagePerAction) {
  logger.put("x", Receipt::State::stored, "log");
  queue.put("x", Receipt::State::dead_lettered, "mail");
  EXPECT_THAT(state_of("x"), HasSubstr("\"action\":\"log\""));
  EXPECT_THAT(state_of("x", {}, R"(,"action":"mail")"), HasSubstr("dead_lettered"));
  EXPECT_EQ(state_of("x", {}, R"(,"action":"auth")"), R"({"id":"x","state":"unknown","action":"auth"})");
}

TEST_F(ReceiptServiceTest, ACallersOwnKeyIsFoundAsTheCallerKnowsIt) {
  logger.put("~admin~order-17", Receipt::State::stored);
  EXPECT_THAT(state_of("order-17", "admin"), HasSubstr(R"("id":"~admin~order-17","state":"stored")"));
  EXPECT_THAT(state_of("~admin~order-17", "admin"), HasSubstr("stored"));
  EXPECT_THAT(state_of("order-17"), HasSubstr("unknown"));
  queue.put("order-17", Receipt::State::dead_lettered);
  EXPECT_THAT(state_of("order-17", "admin"), HasSubstr("stored")) << "the caller's own, not a stranger's";
  queue.put("order-18", Receipt::State::queued);
  EXPECT_THAT(state_of("order-18", "admin"), HasSubstr(R"("id":"order-18","state":"queued")"));
}

TEST_F(ReceiptServiceTest, WhoCannotBeAskedIsNamed) {
  logger.down = true;
  EXPECT_EQ(state_of("x"), "unavailable: the logger can't be asked: it is down");
  EXPECT_EQ(state_of("x", "admin"), "unavailable: the logger can't be asked: it is down");
  queue.put("x", Receipt::State::queued);
  EXPECT_THAT(state_of("x"), HasSubstr(R"("not_asked":["logger"])"));
  EXPECT_EQ(queue.asked.size(), 4u) << "the others are asked all the same";
}

TEST_F(ReceiptServiceTest, BadInputIsNamed) {
  for (auto text : {"{}", R"({"id":""})", R"({"id":7})", R"({"id":"a b"})", R"({"id":"a","extra":1})", "[]", R"({"id":"a","action":1})"})
    EXPECT_EQ(call(service, request_of("receipts.get", core::Json{text})).error().kind, ErrorKind::invalid_argument) << text;
  EXPECT_EQ(call(service, request_of("receipts.list")).error().kind, ErrorKind::unimplemented);
}

/// A service that answers one JSON text.
struct TextService final : core::Handler {
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext) override {
    asked = std::get<core::Json>(request.payload).text;
    action = request.action;
    if (failure) co_return *failure;
    co_return core::Reply{.message = "ok", .data = data};
  }
  std::string data, asked, action;
  std::optional<core::Error> failure;
};

core::Result<std::optional<Receipt>> find(core::ReceiptSource& source, std::string id) {
  std::optional<core::Result<std::optional<Receipt>>> found;
  auto test = [](core::ReceiptSource& s, std::string i, std::optional<core::Result<std::optional<Receipt>>>& out) -> core::awaitable<void> {
    out.emplace(co_await s.find_receipt(core::MessageId::parse(i).value(), {}));
  };
  run_test(test(source, std::move(id), found));
  return std::move(*found);
}

TEST_F(ReceiptServiceTest, WhoIsCostlyIsAskedWhereNobodyElseHasIt) {
  ReceiptService frugal{{{"logger", logger}, {"queue", queue, true}}};
  auto ask_frugal = [&](std::string id) { return call(frugal, request_of("receipts.get", core::Json{R"({"id":")" + id + "\"}"})).value().data; };
  logger.put("x", Receipt::State::stored);
  queue.put("y", Receipt::State::dead_lettered);
  EXPECT_THAT(ask_frugal("x"), HasSubstr("stored"));
  EXPECT_TRUE(queue.asked.empty());
  EXPECT_THAT(ask_frugal("y"), HasSubstr("dead_lettered"));
}

struct OneLetter final : core::DeadLetters {
  core::awaitable<core::Result<core::DeadLetterPage>> list(unsigned, std::string, core::CallContext) override { co_return core::DeadLetterPage(); }
  core::awaitable<core::Result<core::DeadLetter>> get(core::DeadLetterKey key, core::CallContext) override {
    if (down) co_return core::unavailable("down");
    if (key.id != letter.id) co_return core::not_found("no dead letter with this id");
    co_return letter;
  }
  core::awaitable<core::Result<void>> replay(core::DeadLetterKey, core::CallContext) override { co_return core::ok(); }
  core::awaitable<core::Result<void>> discard(core::DeadLetterKey, core::CallContext) override { co_return core::ok(); }
  core::awaitable<core::Result<core::DeadLettersSwept>> sweep(core::DeadLetterSweep, core::CallContext) override { co_return core::DeadLettersSwept(); }
  core::DeadLetter letter{.id = core::MessageId::parse("d").value(), .action = "mail", .payload = "{}", .reason = "unavailable: no SMTP", .attempts = 8};
  bool down = false;
};

TEST(DeadLetterReceiptsTest, ALetterIsAReceipt) {
  OneLetter letters;
  letters.letter.accepted_at = core::Timestamp(std::chrono::seconds(1));
  letters.letter.dead_at = core::Timestamp(std::chrono::seconds(2));
  DeadLetterReceipts receipts(letters, "rabbitmq");
  auto found = find(receipts, "d").value();
  ASSERT_TRUE(found);
  EXPECT_EQ(found->state, Receipt::State::dead_lettered);
  EXPECT_EQ(found->action, "mail");
  EXPECT_EQ(found->where, "rabbitmq");
  EXPECT_EQ(found->reason, "unavailable: no SMTP");
  EXPECT_EQ(found->attempts, 8u);
  EXPECT_EQ(found->at - found->accepted_at, std::chrono::seconds(1));
  EXPECT_FALSE(find(receipts, "other").value());
  letters.down = true;
  EXPECT_EQ(find(receipts, "d").error().kind, ErrorKind::unavailable);
}

TEST(AskKnownTest, AsksOnceForAll) {
  TextService service;
  service.data = R"({"known":["b"]})";
  auto asked = [&] {
    std::optional<core::Result<core::KnownIds>> known;
    auto test = [](TextService& s, std::optional<core::Result<core::KnownIds>>& out) -> core::awaitable<void> {
      std::vector<core::MessageId> ids{core::MessageId::parse("a").value(), core::MessageId::parse("b").value()};
      out.emplace(co_await ask_known(s, "logs.known", std::move(ids), {}));
    };
    run_test(test(service, known));
    return std::move(*known);
  };
  EXPECT_EQ(asked().value().ids.at(0).str(), "b");
  EXPECT_EQ(service.action, "logs.known");
  EXPECT_EQ(service.asked, R"({"ids":["a","b"]})");
  service.data = "{}";
  EXPECT_EQ(asked().error().kind, ErrorKind::internal);
  service.failure = core::unavailable("down");
  EXPECT_EQ(asked().error().kind, ErrorKind::unavailable);
}

TEST(ServiceReceiptsTest, ReadsWhatAServiceAnswers) {
  TextService service;
  ServiceReceipts logs(service, "logs.get", "log", "logger"), mails(service, "mails.get", "mail", "mail");
  service.data = R"({"id":"x","name":"n","data":"d","created_at":"2026-11-18T10:26:40Z","updated_at":"2026-11-18T10:26:42Z","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736",)"
                 R"("hops":[{"at":"broker","time":"2026-11-18T10:26:40Z"},{"at":"mail","time":"2026-11-18T10:26:41.000007Z"}],"way":"amqp","duplicates":3})";
  auto found = find(logs, "x").value();
  ASSERT_TRUE(found);
  EXPECT_EQ(service.action, "logs.get");
  EXPECT_EQ(service.asked, R"({"id":"x"})");
  EXPECT_EQ(found->state, Receipt::State::stored);
  EXPECT_EQ(found->action, "log");
  EXPECT_EQ(found->where, "logger");
  EXPECT_EQ(found->duplicates, 3u);
  EXPECT_EQ(found->way, "amqp");
  EXPECT_EQ(found->hops, "broker@1794997600000000 mail@1794997601000007");
  EXPECT_EQ(found->at - found->accepted_at, std::chrono::seconds(2));
  service.data = R"({"id":"x","created_at":"2026-11-18T10:26:40Z","hops":[{"at":"mail","time":"2026-11-18T10:26:41Z"}]})";
  found = find(mails, "x").value();
  EXPECT_EQ(service.asked, R"({"id":"x","brief":true})");
  EXPECT_FALSE(found->duplicates);
  EXPECT_EQ(found->at - found->accepted_at, std::chrono::seconds(1));
  service.failure = core::not_found("no such log entry");
  EXPECT_FALSE(find(logs, "x").value());
  service.failure = core::unimplemented("this mail service keeps no mails");
  EXPECT_FALSE(find(mails, "x").value());
  service.failure = core::unavailable("down");
  EXPECT_EQ(find(logs, "x").error().kind, ErrorKind::unavailable);
  service.failure.reset();
  for (auto odd : {"", "[]", "{", "7"}) {
    service.data = odd;
    EXPECT_EQ(find(logs, "x").error().kind, ErrorKind::internal) << odd;
  }
  for (auto odd : {"{}", R"({"created_at":7,"hops":{},"duplicates":"x","trace_id":[]})", R"({"hops":[1,{}],"duplicates":-1})"}) {
    service.data = odd;
    EXPECT_TRUE(find(logs, "x").value()) << odd;
  }
}

}  // namespace
}  // namespace flexi::services::broker
