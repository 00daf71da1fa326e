// SPDX-License-Identifier: Apache-2.0
#include "services/listener/listener.hpp"

#include <gtest/gtest.h>

#include "runtime/json.hpp"
#include "runtime/shards.hpp"
#include "services/listener/dead_letter_service.hpp"

namespace flexi::services::listener {
namespace {

using core::ErrorKind;
using core::Reply;
using core::Result;

class Echo final : public core::Handler {
 public:
  core::awaitable<Result<Reply>> handle(core::Request request, core::CallContext context) override {
    hops = context.hops;
    if (request.action == "broken") co_return core::conflict("broken as told");
    co_return Reply{.message = "did " + request.action};
  }
  std::string hops;
};

/// Two letters in memory, one of them with a payload that is no JSON.
class FakeLetters final : public core::DeadLetters {
 public:
  FakeLetters() {
    for (auto text : {"a", "b"}) {
      core::DeadLetter letter;
      letter.id = core::MessageId::parse(text).value();
      letter.action = "log";
      letter.payload = *text == 'a' ? R"({"name":"n","data":"d"})" : "{broken";
      letter.reason = "unavailable: down";
      letter.attempts = 3;
      letters.push_back(letter);
    }
  }
  core::awaitable<Result<core::DeadLetterPage>> list(unsigned limit, std::string cursor, core::CallContext) override {
    asked = std::to_string(limit) + "/" + cursor;
    co_return core::DeadLetterPage{letters, "more"};
  }
  core::awaitable<Result<core::DeadLetter>> get(core::DeadLetterKey key, core::CallContext) override {
    for (auto& letter : letters)
      if (letter.id == key.id && (key.action.empty() || letter.action == key.action)) co_return letter;
    co_return core::not_found("no dead letter with this id");
  }
  core::awaitable<Result<void>> replay(core::DeadLetterKey key, core::CallContext) override { return remove(std::move(key)); }
  core::awaitable<Result<void>> discard(core::DeadLetterKey key, core::CallContext) override { return remove(std::move(key)); }
  core::awaitable<Result<core::DeadLettersSwept>> sweep(core::DeadLetterSweep what, core::CallContext) override {
    swept = what;
    co_return core::DeadLettersSwept{.letters = 2, .more = true};
  }
  core::DeadLetterSweep swept;
  core::awaitable<Result<void>> remove(core::DeadLetterKey key) {
    if (std::erase_if(letters, [&](auto& letter) { return letter.id == key.id && (key.action.empty() || letter.action == key.action); }) == 0) co_return core::not_found("no dead letter with this id");
    co_return core::ok();
  }

  std::vector<core::DeadLetter> letters;
  std::string asked;
};

class ListenerTest : public testing::Test {
 protected:
  Result<Reply> call(core::Handler& handler, std::string action, std::string params = "{}") {
    core::Request request;
    request.id = core::MessageId::generate();
    request.action = std::move(action);
    request.payload = core::Json{std::move(params)};
    std::optional<Result<Reply>> result;
    auto work = [](core::Handler* h, core::Request r, std::optional<Result<Reply>>* out) -> core::awaitable<void> {
      out->emplace(co_await h->handle(std::move(r), {}));
    };
    shards_.run(work(&handler, std::move(request), &result));
    return std::move(*result);
  }
  runtime::Shards shards_{1};
};

TEST_F(ListenerTest, EachMessageGoesToTheServiceThatOwnsIt) {
  Echo echo;
  ListenerService listener([&](std::string_view action) -> core::Handler* { return action == "nobody's" ? nullptr : &echo; }, runtime::LogSink::none());
  EXPECT_EQ(call(listener, "log").value().message, "did log");
  EXPECT_TRUE(echo.hops.starts_with("listener@")) << echo.hops;
  EXPECT_EQ(call(listener, "broken").error().kind, ErrorKind::conflict);
  EXPECT_EQ(call(listener, "nobody's").error().kind, ErrorKind::unimplemented);
}

TEST_F(ListenerTest, DeadLettersAsJson) {
  FakeLetters letters;
  DeadLetterService service(letters);
  auto page = call(service, "dlq.list", R"({"limit":7,"cursor":"c"})");
  ASSERT_TRUE(page);
  EXPECT_EQ(letters.asked, "7/c");
  EXPECT_EQ(page.value().next, "more");
  EXPECT_TRUE(runtime::is_json(page.value().data)) << page.value().data;
  EXPECT_NE(page.value().data.find(R"("payload":"{broken")"), std::string::npos);
  EXPECT_TRUE(call(service, "dlq.list"));
  EXPECT_EQ(letters.asked, "50/");
  EXPECT_EQ(call(service, "dlq.get", R"({"id":"a"})").value().data,
            R"({"id":"a","action":"log","payload":{"name":"n","data":"d"},"reason":"unavailable: down","attempts":3,)"
            R"("accepted_at":"1970-01-01T00:00:00.000000Z","dead_at":"1970-01-01T00:00:00.000000Z"})");
  EXPECT_EQ(call(service, "dlq.replay", R"({"id":"a"})").value().message, "replayed");
  EXPECT_EQ(call(service, "dlq.replay", R"({"id":"a"})").error().kind, ErrorKind::not_found);
  EXPECT_EQ(call(service, "dlq.discard", R"({"id":"b"})").value().message, "discarded");
}

TEST_F(ListenerTest, AllDeadLettersAtOnce) {
  FakeLetters letters;
  DeadLetterService service(letters);
  const auto replayed = call(service, "dlq.replay", R"({"all":"true","action":"log","before":"2026-01-02T03:04:05Z"})");
  ASSERT_TRUE(replayed) << replayed.error().message;
  EXPECT_EQ(replayed.value().message, "replayed");
  EXPECT_EQ(replayed.value().data, R"({"letters":2,"more":true,"before":"2026-01-02T03:04:05.000000Z"})");
  EXPECT_EQ(letters.swept.fate, core::DeadLetterSweep::Fate::replay);
  EXPECT_EQ(letters.swept.action, "log");
  const auto earlier = std::chrono::system_clock::now();
  EXPECT_EQ(call(service, "dlq.discard", R"({"all":true})").value().message, "discarded");
  EXPECT_EQ(letters.swept.fate, core::DeadLetterSweep::Fate::discard);
  EXPECT_EQ(letters.swept.action, "");
  EXPECT_GE(letters.swept.before, earlier);
  for (auto params : {R"({"all":false})", R"({"all":true,"before":"yesterday"})", R"({"all":true,"id":"a"})", R"({"all":7})"})
    EXPECT_EQ(call(service, "dlq.discard", params).error().kind, ErrorKind::invalid_argument) << params;
}

TEST_F(ListenerTest, BadParametersAreNamed) {
  FakeLetters letters;
  DeadLetterService service(letters);
  for (auto params : {R"({"limit":0})", R"({"limit":501})", R"({"limit":"many"})"}) {
    auto refused = call(service, "dlq.list", params);
    ASSERT_FALSE(refused) << params;
    EXPECT_EQ(refused.error().kind, ErrorKind::invalid_argument);
    EXPECT_NE(refused.error().message.find("limit"), std::string::npos) << refused.error().message;
  }
  for (auto action : {"dlq.get", "dlq.replay", "dlq.discard"}) {
    for (auto params : {"{}", R"({"id":7})", R"({"id":""})", R"({"id":"with space"})"}) {
      auto refused = call(service, action, params);
      ASSERT_FALSE(refused) << params;
      EXPECT_EQ(refused.error().kind, ErrorKind::invalid_argument);
      EXPECT_NE(refused.error().message.find("id"), std::string::npos) << refused.error().message;
    }
    EXPECT_EQ(call(service, action, "[1]").error().kind, ErrorKind::invalid_argument);
  }
  EXPECT_EQ(call(service, "dlq.burn").error().kind, ErrorKind::unimplemented);
}

}  // namespace
}  // namespace flexi::services::listener
