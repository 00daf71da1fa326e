// SPDX-License-Identifier: Apache-2.0
#include "services/broker/ledger_service.hpp"

#include <gmock/gmock.h>

#include <future>

#include "runtime/shards.hpp"
#include "services/broker/broker_fixture.hpp"
#include "services/broker/remote_sources.hpp"

namespace flexi::services::broker {
namespace {

using core::LedgerLine;
using testing::HasSubstr;

struct MemoryBook final : core::LedgerSource {
  explicit MemoryBook(std::string name) : name(std::move(name)) {}
  std::string_view source_name() const override { return name; }
  core::awaitable<core::Result<std::vector<core::Account>>> accounts(core::CallContext) override {
    ++asked;
    if (on_asked) on_asked();
    if (down) co_return core::unavailable("down");
    std::vector<core::Account> all;
    all.push_back({.book = name, .lines = lines});
    co_return all;
  }
  core::awaitable<core::Result<std::vector<core::Doubt>>> doubts(unsigned, core::CallContext) override { co_return unsure; }
  core::awaitable<core::Result<void>> resolve(core::Doubt doubt, bool stored, core::CallContext) override {
    std::erase_if(unsure, [&](auto& one) { return one.id == doubt.id; });
    if (stored) lines.at(0).discarded -= 1;
    co_return core::ok();
  }
  std::vector<core::Doubt> unsure;
  std::string name;
  std::vector<LedgerLine> lines;
  std::function<void()> on_asked;
  int asked = 0;
  bool down = false;
};

struct LedgerServiceTest : testing::Test {
  std::string ask() {
    auto answer = call(service, request_of("ledger.get"));
    return answer ? answer.value().data : std::string(core::to_string(answer.error().kind));
  }
  MemoryBook queue{"queue"}, store{"store"};
  runtime::Metrics metrics;
  LedgerService service{{queue, store}, metrics};
};

TEST_F(LedgerServiceTest, SumsWhatEachCountsForItself) {
  EXPECT_THAT(ask(), HasSubstr(R"("unaccounted":0,"adds_up":true,"moving":false,"lines":[])"));
  queue.lines = {{.action = "log", .way = "amqp", .accepted = 10, .dead_lettered = 1, .discarded = 2, .expired = 1, .in_flight = 2, .redelivered = 7}};
  store.lines = {{.action = "log", .way = "amqp", .stored = 4, .duplicates = 3}, {.action = "log", .way = "http", .accepted = 5, .stored = 5}};
  const auto data = ask();
  EXPECT_THAT(data, HasSubstr(R"({"accepted":15,"stored":9,"dead_lettered":1,"discarded":2,"expired":1,"in_flight":2,"duplicates":3,"redelivered":7,"unaccounted":0,"adds_up":true)"));
  EXPECT_THAT(data, HasSubstr(R"({"action":"log","way":"amqp","accepted":10,"stored":4,"dead_lettered":1)"));
  EXPECT_EQ(queue.asked, 2) << "what adds up is read once";
  EXPECT_THAT(metrics.expose(), HasSubstr("flexiconnect_ledger_unaccounted 0"));
  EXPECT_THAT(metrics.expose(), HasSubstr(R"(flexiconnect_ledger_messages{action="log",state="accepted",way="http"} 5)"));
}

TEST_F(LedgerServiceTest, WhatIsLostShows) {
  queue.lines = {{.action = "log", .way = "amqp", .accepted = 10, .in_flight = 3}};
  store.lines = {{.action = "log", .way = "amqp", .stored = 6}};
  EXPECT_THAT(ask(), HasSubstr(R"("unaccounted":1,"adds_up":false,"moving":false)"));
  EXPECT_THAT(metrics.expose(), HasSubstr("flexiconnect_ledger_unaccounted 1"));
}

TEST_F(LedgerServiceTest, TwoActionsThatAreWrongTheOtherWayRoundDoNotAddUp) {
  queue.lines = {{.action = "log", .way = "amqp", .accepted = 2}};
  store.lines = {{.action = "log", .way = "amqp", .stored = 1}, {.action = "mail", .way = "amqp", .stored = 1}};
  EXPECT_THAT(ask(), HasSubstr(R"("unaccounted":0,"adds_up":false)"));
}

TEST_F(LedgerServiceTest, WhatMovesIsReadAgainUntilItHasSettled) {
  queue.lines = {{.action = "log", .way = "amqp", .accepted = 1, .in_flight = 1}};
  store.lines = {{.action = "log", .way = "amqp", .stored = 1}};  // stored, and the queue has not heard yet
  queue.on_asked = [this] {
    if (queue.asked == 3) queue.lines[0].in_flight = 0;
  };
  EXPECT_THAT(ask(), HasSubstr(R"("unaccounted":0,"adds_up":true)"));
  EXPECT_EQ(queue.asked, 3);
  // Movement that never rests is told, and is no alarm.
  queue.on_asked = [this] { queue.lines[0].accepted += 1, queue.lines[0].in_flight += 1, store.lines[0].stored += 1; };
  EXPECT_THAT(ask(), HasSubstr(R"("moving":true)"));
  EXPECT_THAT(metrics.expose(), HasSubstr("flexiconnect_ledger_unaccounted 0"));
}

struct MemoryStore final : core::ReceiptSource {
  core::awaitable<core::Result<std::optional<core::Receipt>>> find_receipt(core::MessageId id, core::CallContext) override {
    if (down) co_return core::unavailable("down");
    if (id.str() == "lost") co_return std::optional<core::Receipt>();
    core::Receipt receipt{.id = id, .action = "log", .state = core::Receipt::State::stored};
    receipt.accepted_at = core::Timestamp(std::chrono::seconds(id.str() == "other-time" ? 1 : 1'795'000'000));
    receipt.way = id.str() == "other-way" ? "http" : "amqp";
    co_return std::optional(std::move(receipt));
  }
  bool down = false;
};

TEST_F(LedgerServiceTest, AnEndInDoubtIsWhatItsStoreSays) {
  // Both callers were told that it failed; one of the two is stored all the same.
  queue.lines = {{.action = "log", .way = "amqp", .accepted = 2, .discarded = 2}};
  store.lines = {{.action = "log", .way = "amqp", .stored = 1}};
  const auto now = std::chrono::system_clock::now();
  const auto accepted = core::Timestamp(std::chrono::seconds(1'795'000'000));
  queue.unsure = {{core::MessageId::parse("lost").value(), "log", "amqp", accepted, now - std::chrono::minutes(2)},
                  {core::MessageId::parse("stored").value(), "log", "amqp", accepted, now},
                  {core::MessageId::parse("other-way").value(), "log", "amqp", accepted, now},
                  {core::MessageId::parse("other-time").value(), "log", "amqp", accepted, now}};
  MemoryStore logger;
  logger.down = true;
  LedgerService asking({queue, store}, metrics, {{"log", logger}});
  auto data = call(asking, request_of("ledger.get")).value().data;
  EXPECT_THAT(data, HasSubstr(R"("unaccounted":-1)"));
  EXPECT_EQ(queue.unsure.size(), 4u);
  logger.down = false;
  data = call(asking, request_of("ledger.get")).value().data;
  EXPECT_THAT(data, HasSubstr(R"("accepted":2,"stored":1,"dead_lettered":0,"discarded":1,"expired":0,"in_flight":0)"));
  EXPECT_THAT(data, HasSubstr(R"("unaccounted":0,"adds_up":true)"));
  EXPECT_EQ(queue.unsure.size(), 2u) << "what ended a moment ago may still be on its way; the id alone says nothing";
}

TEST_F(LedgerServiceTest, WhoCannotBeAskedIsNamedAndNothingLooksLost) {
  queue.lines = {{.action = "log", .way = "amqp", .accepted = 10}};
  store.down = true;
  const auto data = ask();
  EXPECT_THAT(data, HasSubstr(R"("adds_up":false)"));
  EXPECT_THAT(data, HasSubstr(R"("not_asked":["store"])"));
  EXPECT_THAT(metrics.expose(), HasSubstr("flexiconnect_ledger_not_asked 1"));
  EXPECT_THAT(metrics.expose(), HasSubstr("flexiconnect_ledger_unaccounted 0"));
}

TEST_F(LedgerServiceTest, AnotherProcessIsAskedOverItsServiceAndCountedOnce) {
  queue.lines = {{.action = "log", .way = "amqp", .accepted = 3, .in_flight = 1}};
  store.lines = {{.action = "log", .way = "amqp", .stored = 2, .duplicates = 9}};
  LedgerService logger({store});
  RemoteLedger by_http(logger, "logger"), by_grpc(logger, "mail");
  runtime::Metrics own;
  LedgerService broker({queue, by_http, by_grpc}, own);
  auto data = call(broker, request_of("ledger.get")).value().data;
  EXPECT_THAT(data, HasSubstr(R"({"accepted":3,"stored":2,"dead_lettered":0,"discarded":0,"expired":0,"in_flight":1,"duplicates":9,"redelivered":0,"unaccounted":0,"adds_up":true)"));
  EXPECT_EQ(store.asked, 2) << "a part need not add up";
  EXPECT_THAT(metrics.expose(), testing::Not(HasSubstr("flexiconnect_ledger_messages")));
  for (auto odd : {"", "[]", R"({"books":7})", R"({"books":[{"book":"b"}]})"}) {
    ScriptedHandler other;
    RemoteLedger remote(other, "logger");
    LedgerService asking({remote}, own);
    EXPECT_THAT(call(asking, request_of("ledger.get")).value().data, HasSubstr(R"("not_asked":["logger"])")) << odd;
  }
}

TEST_F(LedgerServiceTest, ShowsItsMetricsByItselfUntilItIsStopped) {
  runtime::Shards shards(1);
  LedgerService own({queue, store}, metrics);  // its timer goes before the shards do
  queue.lines = {{.action = "log", .way = "amqp", .accepted = 4}};
  std::promise<void> twice;
  queue.on_asked = [&] {
    if (queue.asked == 12) twice.set_value();  // two times five readings, for it never adds up
  };
  own.start(shards.executor(0), runtime::LogSink::none(), std::chrono::milliseconds(1));
  twice.get_future().wait();
  shards.run(own.stop());
  EXPECT_THAT(metrics.expose(), HasSubstr("flexiconnect_ledger_unaccounted 4"));
  EXPECT_EQ(call(own, request_of("ledger.list")).error().kind, ErrorKind::unimplemented);
  EXPECT_EQ(call(own, request_of("ledger.get", core::Json{R"({"x":1})"})).error().kind, ErrorKind::invalid_argument);
}

}  // namespace
}  // namespace flexi::services::broker
