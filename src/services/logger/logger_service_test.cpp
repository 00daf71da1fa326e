// SPDX-License-Identifier: Apache-2.0
#include "services/logger/logger_service.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/timestamp.hpp"
#include "runtime/json.hpp"
#include "stores/sqlite/store_fixture.hpp"

namespace flexi::services::logger {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

struct Logger : testing::Test, stores::sqlite::StoreFixture {
  std::unique_ptr<LoggerService> service;
  void SetUp() override {
    open();
    service = std::make_unique<LoggerService>(logs(), LoggerOptions{});
  }
  core::Result<core::Reply> call(std::string action, core::Payload payload, core::MessageId id = core::MessageId::generate(), core::Timestamp accepted = {}) {
    core::Request request;
    request.id = std::move(id);
    request.action = std::move(action);
    request.payload = std::move(payload);
    request.accepted_at = accepted;
    return wait(service->handle(std::move(request), {}));
  }
  std::string complaint(std::string action, core::Payload payload) {
    auto reply = call(std::move(action), std::move(payload));
    if (reply) return "accepted";
    return reply.error().kind == core::ErrorKind::invalid_argument ? reply.error().message : std::string(core::to_string(reply.error().kind));
  }
};

TEST_F(Logger, StoresOnceWithTheTimeOfAcceptance) {
  const auto id = core::MessageId::generate();
  const auto accepted = core::parse_rfc3339("2026-01-02T03:04:05.678901Z").value();
  auto first = call("log", core::LogEntry{"event", "some \"data\"\n"}, id, accepted);
  ASSERT_TRUE(first);
  EXPECT_EQ(first.value().message, "logged");
  EXPECT_TRUE(first.value().data.empty());
  EXPECT_FALSE(first.value().duplicate);
  EXPECT_TRUE(call("log", core::LogEntry{"event", "some \"data\"\n"}, id).value().duplicate);
  EXPECT_EQ(call("log", core::LogEntry{"event", "other"}, id).error().kind, core::ErrorKind::conflict);
  auto list = call("logs.list", core::Json{});
  ASSERT_TRUE(list);
  EXPECT_THAT(list.value().data, StartsWith("[{\"id\":\"" + id.str() + R"(","name":"event","data":"some \"data\"\n","created_at":"2026-01-02T03:04:05.678901Z","updated_at":")"));
  EXPECT_TRUE(runtime::is_json(list.value().data));
  EXPECT_TRUE(list.value().next.empty());
}

TEST_F(Logger, KeepsTraceAndHopsAndShowsThem) {
  core::Request request;
  request.id = core::MessageId::parse("traced").value();
  request.action = "log";
  request.payload = core::LogEntry{"n", "d"};
  request.accepted_at = core::parse_rfc3339("2026-01-02T03:04:05Z").value();
  request.via = core::Via::http;
  core::CallContext context;
  context.trace = core::TraceContext::from_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
  context.hops = "broker@1767323045000001 broker>amqp@1767323045000002";
  ASSERT_TRUE(wait(service->handle(request, context)));
  ASSERT_TRUE(call("log", core::LogEntry{"n", "another"}));
  auto stored = wait(logs().find(request.id, {})).value().record;
  EXPECT_EQ(stored.via, core::Via::amqp) << "what the broker says, whichever transport the last part of the way took";
  EXPECT_THAT(stored.hops, StartsWith(context.hops + " logger@"));
  const auto shown = HasSubstr(R"("way":"amqp","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","hops":[{"at":"broker","time":"2026-01-02T03:04:05.000001Z"},)"
                               R"({"at":"broker>amqp","time":"2026-01-02T03:04:05.000002Z"},{"at":"logger","time":")");
  EXPECT_THAT(call("logs.list", core::Json{R"({"trace":"4bf92f3577b34da6a3ce929d0e0e4736"})"}).value().data, shown);
  EXPECT_EQ(call("logs.list", core::Json{R"({"trace":"4bf92f3577b34da6a3ce929d0e0e4737"})"}).value().data, "[]");
  auto one = call("logs.get", core::Json{R"({"id":"traced"})"});
  ASSERT_TRUE(one);
  EXPECT_THAT(one.value().data, shown);
  EXPECT_THAT(one.value().data, StartsWith(R"({"id":"traced","name":"n")"));
  EXPECT_EQ(call("logs.get", core::Json{R"({"id":"nobody"})"}).error().kind, core::ErrorKind::not_found);
  for (auto params : {"{}", R"({"id":""})", R"({"id":"a b"})"}) EXPECT_THAT(complaint("logs.get", core::Json{params}), StartsWith("id")) << params;
  for (auto params : {R"({"trace":"4BF92F3577B34DA6A3CE929D0E0E4736"})", R"({"trace":"abc"})", R"({"trace":"00000000000000000000000000000000"})"})
    EXPECT_THAT(complaint("logs.list", core::Json{params}), StartsWith("trace")) << params;
}

TEST_F(Logger, AnEntryWithoutTimeIsNow) {
  const auto before = std::chrono::system_clock::now() - std::chrono::milliseconds(1);
  ASSERT_TRUE(call("log", core::LogEntry{"n", ""}));
  auto record = wait(logs().list({}, {})).value().records.at(0);
  EXPECT_GE(record.created_at, before);
  EXPECT_LE(record.created_at, std::chrono::system_clock::now());
}

TEST_F(Logger, SaysWhichEntriesItHas) {
  ASSERT_TRUE(call("log", core::LogEntry{"n", "d"}, core::MessageId::parse("a").value()));
  EXPECT_EQ(call("logs.known", core::Json{R"({"ids":["b","a"]})"}).value().data, R"({"known":["a"]})");
  EXPECT_THAT(complaint("logs.known", core::Json{"{}"}), StartsWith("ids"));
  EXPECT_THAT(complaint("logs.known", core::LogEntry{}), HasSubstr("JSON object"));
}

TEST_F(Logger, SaysWhatIsWrongWithAnEntry) {
  EXPECT_THAT(complaint("log", core::LogEntry{"", "x"}), StartsWith("name"));
  EXPECT_THAT(complaint("log", core::LogEntry{std::string(1025, 'x'), "x"}), StartsWith("name"));
  EXPECT_THAT(complaint("log", core::LogEntry{"\xff", "x"}), StartsWith("name"));
  EXPECT_THAT(complaint("log", core::LogEntry{"x", "\xc3("}), StartsWith("data"));
  EXPECT_THAT(complaint("log", core::Json{}), HasSubstr("name and data"));
  EXPECT_EQ(complaint("log", core::LogEntry{std::string(1024, 'x'), std::string("a\0b", 3)}), "accepted");
  // What was stored must be readable by every transport: what counts is the length that it has in an answer.
  EXPECT_EQ(complaint("log", core::LogEntry{"x", std::string((3 << 20) - 2, 'x')}), "accepted");
  EXPECT_EQ(complaint("log", core::LogEntry{"x", std::string(500'000, '\x01')}), "accepted");
  EXPECT_THAT(complaint("log", core::LogEntry{"x", std::string((3 << 20) - 1, 'x')}), StartsWith("data"));
  EXPECT_THAT(complaint("log", core::LogEntry{"x", std::string(600'000, '\x01')}), StartsWith("data"));
}

TEST_F(Logger, ListsByItsParametersAndNamesTheWrongOnes) {
  for (int i = 0; i < 5; ++i)
    ASSERT_TRUE(call("log", core::LogEntry{i % 2 ? "odd" : "even", "entry number " + std::to_string(i)}, core::MessageId::generate(),
                     core::from_unix_micros(1'700'000'000'000'000 + i * 1'000'000)));
  const auto count = [&](std::string params) {
    auto reply = call("logs.list", core::Json{std::move(params)});
    if (!reply) return -1;
    int found = 0;
    for (auto at = reply.value().data.find("\"id\""); at != std::string::npos; at = reply.value().data.find("\"id\"", at + 1)) ++found;
    return found;
  };
  EXPECT_EQ(count("{}"), 5);
  EXPECT_EQ(count(R"({"name":"odd"})"), 2);
  EXPECT_EQ(count(R"({"name":"","q":"","since":"","cursor":""})"), 5);
  EXPECT_EQ(count(R"({"q":"number 3"})"), 1);
  EXPECT_EQ(count(R"({"since":"2023-11-14T22:13:21Z","until":"2023-11-14T22:13:23Z"})"), 2);
  EXPECT_EQ(count(R"({"limit":"2"})"), 2);
  auto page = call("logs.list", core::Json{R"({"limit":3})"});
  ASSERT_FALSE(page.value().next.empty());
  EXPECT_EQ(count(R"({"limit":3,"cursor":")" + page.value().next + "\"}"), 2);

  EXPECT_THAT(complaint("logs.list", core::Json{R"({"limit":0})"}), StartsWith("limit"));
  EXPECT_THAT(complaint("logs.list", core::Json{R"({"limit":501})"}), StartsWith("limit"));
  EXPECT_THAT(complaint("logs.list", core::Json{R"({"limit":"many"})"}), StartsWith("limit"));
  EXPECT_THAT(complaint("logs.list", core::Json{R"({"since":"yesterday"})"}), StartsWith("since"));
  EXPECT_THAT(complaint("logs.list", core::Json{R"({"until":7})"}), StartsWith("until"));
  EXPECT_THAT(complaint("logs.list", core::Json{R"({"cursor":"abc"})"}), StartsWith("cursor"));
  EXPECT_THAT(complaint("logs.list", core::Json{R"({"q":")" + std::string(1025, 'x') + "\"}"}), StartsWith("q"));
  EXPECT_THAT(complaint("logs.list", core::Json{"[]"}), HasSubstr("JSON object"));
}

TEST_F(Logger, ATailShowsNewEntriesOnceAndEndsAtTheStop) {
  auto tail = call("logs.tail", core::Json{R"({"name":"event","q":"WORLD"})"});
  ASSERT_TRUE(tail);
  ASSERT_TRUE(tail.value().events);
  const auto id = core::MessageId::generate();
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(call("log", core::LogEntry{"event", "hello world"}, id));
  ASSERT_TRUE(call("log", core::LogEntry{"event", "hello"}));
  const auto next = [&] { return wait(tail.value().events->next(core::CallContext::with_timeout(std::chrono::milliseconds(0)))); };
  auto event = next();
  ASSERT_TRUE(event && event.value());
  EXPECT_THAT(*event.value(), StartsWith("{\"id\":\"" + id.str()));
  EXPECT_EQ(next().error().kind, core::ErrorKind::deadline_exceeded);
  service->stop_tails();
  EXPECT_FALSE(next().value());
}

/// Between an entry's commit and its answer a reader begins to follow `logger`.
class FollowedMeanwhile final : public core::LogStore {
 public:
  FollowedMeanwhile(core::LogStore& inner, std::unique_ptr<LoggerService>& logger) : inner_(inner), logger_(logger) {}
  core::awaitable<core::Result<core::Appended>> append(core::LogRecord record, core::CallContext context) override {
    auto appended = co_await inner_.append(std::move(record), std::move(context));
    core::Request request;
    request.action = "logs.tail";
    tail = std::move((co_await logger_->handle(std::move(request), {})).value());
    co_return appended;
  }
  core::awaitable<core::Result<core::LogPage>> list(core::LogQuery query, core::CallContext context) override { return inner_.list(std::move(query), std::move(context)); }
  core::awaitable<core::Result<core::FoundLog>> find(core::MessageId id, core::CallContext context) override { return inner_.find(std::move(id), std::move(context)); }
  core::awaitable<core::Result<core::KnownIds>> known(std::vector<core::MessageId> ids, core::CallContext context) override {
    return inner_.known(std::move(ids), std::move(context));
  }
  core::Reply tail;

 private:
  core::LogStore& inner_;
  std::unique_ptr<LoggerService>& logger_;
};

TEST_F(Logger, AnEntryThatIsBeingStoredWhenAReaderComesIsShown) {
  FollowedMeanwhile store(logs(), service);
  service = std::make_unique<LoggerService>(store, LoggerOptions{});
  const auto id = core::MessageId::generate();
  ASSERT_TRUE(call("log", core::LogEntry{"event", "hello"}, id));
  const auto next = [&] { return wait(store.tail.events->next(core::CallContext::with_timeout(std::chrono::milliseconds(0)))); };
  auto event = next();
  ASSERT_TRUE(event && event.value()) << "who lists the log now may have begun before it was stored";
  EXPECT_THAT(*event.value(), StartsWith("{\"id\":\"" + id.str()));
  EXPECT_EQ(next().error().kind, core::ErrorKind::deadline_exceeded) << "once";
}

TEST_F(Logger, KnowsNoOtherAction) {
  EXPECT_EQ(complaint("mail", core::Mail{}), "unimplemented");
  EXPECT_EQ(complaint("logs.drop", core::Json{}), "unimplemented");
}

TEST(LoggerOptions, NamesEveryProblem) {
  EXPECT_TRUE(LoggerOptions{}.validate().empty());
  EXPECT_EQ((LoggerOptions{-1, 0, 0}.validate().size()), 3u);
}

}  // namespace
}  // namespace flexi::services::logger
