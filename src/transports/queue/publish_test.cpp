// SPDX-License-Identifier: Apache-2.0
#include <fstream>

#include "core/timestamp.hpp"
#include "transports/queue/queue_test_support.hpp"

namespace flexi::transports::queue::testing {
namespace {

using core::ErrorKind;

TEST_F(QueueTest, AcceptedIsCommittedBeforeTheAnswerAndSurvivesAReopen) {
  open();
  auto reply = publish(log_request("a"));
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply.value().message, "queued");
  EXPECT_FALSE(reply.value().duplicate);
  reopen();
  ScriptedHandler handler;
  serve(handler);
  ASSERT_TRUE(eventually([&] { return ledger().stored == 1; }));
  EXPECT_EQ(handler.seen(), std::vector<std::string>{"a"});
}

TEST_F(QueueTest, TheSameIdIsADuplicateOrAConflictAlsoAfterConsumption) {
  open();
  ScriptedHandler handler;
  ASSERT_TRUE(publish(log_request("a")));
  auto check = [&] {
    auto again = publish(log_request("a"));
    ASSERT_TRUE(again);
    EXPECT_TRUE(again.value().duplicate);
    auto other = publish(log_request("a", "another"));
    ASSERT_FALSE(other);
    EXPECT_EQ(other.error().kind, ErrorKind::conflict);
  };
  check();
  serve(handler);
  ASSERT_TRUE(eventually([&] { return ledger().stored == 1; }));
  check();
  auto stored = publish(log_request("a", "data", Ack::stored));
  ASSERT_TRUE(stored);
  EXPECT_TRUE(stored.value().duplicate);
  reopen();
  check();
  EXPECT_EQ(ledger().accepted, 1);
  EXPECT_EQ(ledger().duplicates, 4) << "a conflict is no duplicate";
  EXPECT_EQ(handler.seen().size(), 1u);
}

TEST_F(QueueTest, FinishedIdsAreForgottenByAgeAndPendingOnesNever) {
  options_.keep_ids = std::chrono::hours(1);
  open();
  ScriptedHandler handler;
  serve(handler);
  ASSERT_TRUE(publish(log_request("done")));
  ASSERT_TRUE(eventually([&] { return ledger().stored == 1; }));
  stop_server();
  ASSERT_TRUE(publish(log_request("pending")));
  auto purge = [this] {
    ASSERT_TRUE(database_->write_now([this](runtime::sqlite::Connection& c) -> Result<void> {
      while (queue_->purge_some(c)) {
      }
      return core::ok();
    }));
  };
  purge();
  EXPECT_EQ(rows("queue_ids"), 2);
  shift_ = std::chrono::hours(2);
  purge();
  EXPECT_EQ(rows("queue_ids"), 1);
  EXPECT_TRUE(publish(log_request("pending")).value().duplicate);
  EXPECT_FALSE(publish(log_request("done")).value().duplicate);
}

TEST_F(QueueTest, FinishedIdsAreForgottenByCount) {
  options_.max_kept_ids = 10;
  open();
  ScriptedHandler handler;
  serve(handler);
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(publish(log_request("id" + std::to_string(i))));
  ASSERT_TRUE(eventually([&] { return ledger().stored == 50; }));
  ASSERT_TRUE(database_->write_now([this](runtime::sqlite::Connection& c) -> Result<void> {
    while (queue_->purge_some(c)) {
    }
    return core::ok();
  }));
  EXPECT_EQ(rows("queue_ids"), 10);
  EXPECT_TRUE(publish(log_request("id49")).value().duplicate) << "the newest are kept";
}

TEST_F(QueueTest, StoredWaitsForTheHandlersReplyOrError) {
  open();
  ScriptedHandler handler([](const Request& request, unsigned) -> Result<Reply> {
    if (request.id.str() == "bad") return core::invalid_argument("name must not be empty", "secret detail");
    if (request.id.str() == "busy") return core::overloaded("come back later");
    Reply reply;
    reply.message = "logged";
    reply.data = R"({"n":1})";
    return reply;
  });
  serve(handler);
  auto good = publish(log_request("good", "data", Ack::stored));
  ASSERT_TRUE(good);
  EXPECT_EQ(good.value().message, "logged");
  EXPECT_EQ(good.value().data, R"({"n":1})");
  EXPECT_EQ(publish(log_request("bad", "data", Ack::stored)).error().kind, ErrorKind::invalid_argument);
  EXPECT_EQ(publish(log_request("busy", "data", Ack::stored)).error().kind, ErrorKind::overloaded);
  EXPECT_EQ(ledger().discarded, 2) << "a failure that the caller was told is over";
  EXPECT_EQ(ledger().dead_lettered, 0);
  EXPECT_FALSE(publish(log_request("bad", "mended", Ack::stored)).error().message.empty()) << "the id is free again";
  EXPECT_EQ(handler.seen().size(), 4u);
}

TEST_F(QueueTest, BytesThatWaitForACommitHaveALimit) {
  options_.max_waiting_bytes = 1000;
  open();
  std::promise<void> blocked, release;
  auto block = [](runtime::sqlite::Database* database, std::promise<void>* entered, std::shared_future<void> end) -> asio::awaitable<void> {
    auto job = [entered, end](runtime::sqlite::Connection&) -> Result<bool> {
      entered->set_value();
      end.wait();
      return true;
    };
    EXPECT_TRUE(co_await database->write(runtime::sqlite::Atomicity::single_statement, std::move(job), {}));
  };
  auto blocker = asio::co_spawn(shards_.executor(1), block(database_.get(), &blocked, release.get_future().share()), asio::use_future);
  blocked.get_future().wait();
  auto put = [](EmbeddedQueue* queue, std::string id, std::optional<Result<Reply>>* out) -> asio::awaitable<void> {
    out->emplace(co_await queue->publish(log_request(id, std::string(600, 'x')), {}));
  };
  // One shard, so the first waits before the second is asked, and both before the writer goes on.
  std::optional<Result<Reply>> first, second;
  auto waits = asio::co_spawn(shards_.executor(0), put(queue_.get(), "a", &first), asio::use_future);
  auto over = asio::co_spawn(shards_.executor(0), put(queue_.get(), "b", &second), asio::use_future);
  std::promise<void> asked;
  asio::post(shards_.executor(0), [&asked] { asked.set_value(); });
  asked.get_future().wait();
  release.set_value();
  for (auto* caller : {&blocker, &waits, &over}) caller->get();
  EXPECT_TRUE(*first);
  ASSERT_FALSE(*second);
  EXPECT_EQ(second->error().kind, ErrorKind::overloaded);
  EXPECT_TRUE(second->error().retry_after);
  EXPECT_TRUE(publish(log_request("b", std::string(600, 'x')))) << "what is committed waits no more";
  EXPECT_EQ(ledger().accepted, 2);
}

TEST_F(QueueTest, StoredWithoutAConsumerIsUnavailable) {
  open();
  auto result = publish(log_request("a", "data", Ack::stored));
  EXPECT_EQ(result.error().kind, ErrorKind::unavailable);
  EXPECT_EQ(result.error().sent, core::Sent::no);
  EXPECT_EQ(ledger().accepted, 0);
}

TEST_F(QueueTest, TheWaitersDeadlineEndsTheWaitAndTheMessageExpires) {
  options_.concurrency = 1;
  open();
  ScriptedHandler handler;
  handler.hold(true);
  serve(handler);
  // The first message keeps the only hand busy, so the second is never dispatched in time.
  ASSERT_TRUE(publish(log_request("first")));
  ASSERT_TRUE(handler.wait_for_calls(1));
  auto late = publish(log_request("second", "data", Ack::stored), core::CallContext::with_timeout(std::chrono::milliseconds(20)));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().kind, ErrorKind::deadline_exceeded);
  EXPECT_EQ(late.error().sent, core::Sent::maybe);
  stop_server(std::chrono::milliseconds(0));
  handler.hold(false);
  serve(handler);
  ASSERT_TRUE(eventually([&] { return ledger().stored == 1 && ledger().expired == 1; }));
  EXPECT_EQ(handler.seen(), (std::vector<std::string>{"first", "first"})) << "expired, so never dispatched";
  EXPECT_TRUE(ledger().adds_up());
}

TEST_F(QueueTest, WhatWasAnsweredAcceptedNeverExpiresThoughAnotherCallerWaited) {
  options_.concurrency = 1;
  open();
  ScriptedHandler handler;
  handler.hold(true);
  serve(handler);
  ASSERT_TRUE(publish(log_request("first")));
  ASSERT_TRUE(handler.wait_for_calls(1));
  ASSERT_FALSE(publish(log_request("second", "data", Ack::stored), core::CallContext::with_timeout(std::chrono::milliseconds(20))));
  ASSERT_TRUE(publish(log_request("second")).value().duplicate);
  stop_server(std::chrono::milliseconds(0));
  handler.hold(false);
  serve(handler);
  ASSERT_TRUE(eventually([&] { return ledger().stored == 2; }));
  EXPECT_EQ(ledger().expired, 0);
}

TEST_F(QueueTest, ExpiredContextsAdministrationAndForeignCredentialsAreRefused) {
  open();
  auto context = core::CallContext::with_timeout(std::chrono::milliseconds(-1));
  EXPECT_EQ(publish(log_request("a"), context).error().kind, ErrorKind::deadline_exceeded);
  auto admin = log_request("b");
  admin.action = "dlq.list";
  EXPECT_EQ(publish(admin).error().kind, ErrorKind::invalid_argument);
  auto secret = log_request("c");
  secret.payload = core::Credentials{"a@b", "verysecretpassword"};
  EXPECT_EQ(publish(secret).error().kind, ErrorKind::invalid_argument);
  EXPECT_EQ(ledger().accepted, 0);
}

TEST_F(QueueTest, AFullQueueIsOverloadedAndNeverAccepts) {
  options_.max_messages = 3;
  open();
  for (auto id : {"a", "b", "c"}) ASSERT_TRUE(publish(log_request(id)));
  auto refused = publish(log_request("d"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::overloaded);
  EXPECT_EQ(refused.error().message, "the queue is full");
  EXPECT_TRUE(refused.error().retry_after.has_value());
  reopen();
  EXPECT_FALSE(publish(log_request("d"))) << "the limit counts what an earlier run left";
  ScriptedHandler handler;
  serve(handler);
  ASSERT_TRUE(eventually([&] { return ledger().stored == 3; }));
  // Committed is seen a moment before the room is given back.
  EXPECT_TRUE(eventually([&] { return publish(log_request("d")).has_value(); }));
  EXPECT_EQ(ledger().accepted, 4);
}

TEST_F(QueueTest, AFullQueueCountsBytes) {
  options_.max_bytes = 1'048'576;
  open();
  ASSERT_TRUE(publish(log_request("a", std::string(1'000'000, 'x'))));
  EXPECT_EQ(publish(log_request("b", std::string(100'000, 'x'))).error().kind, ErrorKind::overloaded);
  EXPECT_TRUE(publish(log_request("c")));
}

TEST_F(QueueTest, AFullDiskIsUnavailableAndHeals) {
  open();
  auto pages = [this](const char* pragma) {
    ASSERT_TRUE(database_->write_now([pragma](runtime::sqlite::Connection& c) { return c.execute(pragma); }));
  };
  ASSERT_TRUE(publish(log_request("before")));
  pages("PRAGMA max_page_count=10");
  auto refused = publish(log_request("a", std::string(500'000, 'x')));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::unavailable);
  pages("PRAGMA max_page_count=1000000");
  auto healed = publish(log_request("a", std::string(500'000, 'x')));
  ASSERT_TRUE(healed);
  EXPECT_FALSE(healed.value().duplicate) << "the refused one left nothing behind";
  EXPECT_EQ(ledger().accepted, 2);
}

Request login(std::optional<Ack> ack) {
  Request request;
  request.id = core::MessageId::generate();
  request.action = "auth";
  request.payload = core::Credentials{"admin@example.com", "Pa55word-on-no-disk"};
  request.ack = ack;
  return request;
}

TEST_F(QueueTest, LogInsGoThroughMemoryOnly) {
  open();
  EXPECT_EQ(publish(login({})).error().kind, ErrorKind::unavailable) << "nobody consumes";
  ScriptedHandler handler([](const Request& request, unsigned) -> Result<Reply> {
    EXPECT_EQ(std::get<core::Credentials>(request.payload).password, "Pa55word-on-no-disk");
    EXPECT_EQ(request.ack, Ack::stored);
    return core::unauthenticated("invalid credentials");
  });
  serve(handler);
  auto accepted = publish(login(Ack::accepted));
  EXPECT_EQ(accepted.error().kind, ErrorKind::invalid_argument);
  EXPECT_EQ(accepted.error().message, "authentication can't be acknowledged with accepted: use stored");
  EXPECT_EQ(publish(login(Ack::stored)).error().kind, ErrorKind::unauthenticated);
  EXPECT_EQ(publish(login({})).error().kind, ErrorKind::unauthenticated);
  handler.hold(true);
  auto late = publish(login({}), core::CallContext::with_timeout(std::chrono::milliseconds(20)));
  EXPECT_EQ(late.error().kind, ErrorKind::deadline_exceeded);
  EXPECT_EQ(dead().letters.size(), 0u);
  EXPECT_EQ(ledger().accepted, 0);
  close();
  for (auto& entry : std::filesystem::directory_iterator(folder_)) {
    std::ifstream stream(entry.path(), std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(stream), {}};
    EXPECT_EQ(bytes.find("Pa55word"), bytes.npos) << entry.path();
  }
}

TEST_F(QueueTest, LogInsDoNotWaitBehindMessages) {
  options_.concurrency = 2;
  open();
  ScriptedHandler handler;
  serve(handler);
  handler.hold(true);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(publish(log_request("m" + std::to_string(i))));
  ASSERT_TRUE(handler.wait_for_calls(2));  // every slot is busy
  handler.hold(false);                     // for later calls only
  EXPECT_TRUE(publish(login({}), core::CallContext::with_timeout(std::chrono::seconds(20))));
  EXPECT_EQ(ledger().in_flight, 5) << "no message has given way";
  stop_server(std::chrono::milliseconds(1));
}

TEST_F(QueueTest, ALogInThatRunsEndsWithTheConsumer) {
  open();
  ScriptedHandler handler;
  serve(handler);
  handler.hold(true);
  bool refused = false;
  auto call = [](EmbeddedQueue* queue, bool* out) -> asio::awaitable<void> {
    auto answer = co_await queue->publish(login({}), core::CallContext::with_timeout(std::chrono::seconds(60)));
    *out = !answer;
  };
  auto running = asio::co_spawn(shards_.executor(1), call(queue_.get(), &refused), asio::use_future);
  ASSERT_TRUE(handler.wait_for_calls(1));
  stop_server(std::chrono::milliseconds(1));
  running.get();
  EXPECT_TRUE(refused);
}

TEST_F(QueueTest, WhatTheCallerSaidReachesTheHandler) {
  open();
  auto request = log_request("a", std::string("umlaut ü, quote \", line\n"));
  request.id_from_caller = true;
  request.accepted_at = core::from_unix_micros(1'700'000'000'123'456);
  auto context = core::CallContext::with_timeout(std::chrono::seconds(30));
  context.caller = "alice";
  context.trace = core::TraceContext::from_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
  ASSERT_TRUE(publish(request, context));
  ScriptedHandler handler;
  serve(handler);
  ASSERT_TRUE(handler.wait_for_calls(1));
  stop_server();  // the call may still be on its way out of the handler
  const auto last = handler.last();
  EXPECT_TRUE(core::same_payload(last.payload, request.payload));
  EXPECT_EQ(last.accepted_at, request.accepted_at);
  EXPECT_TRUE(last.id_from_caller);
  EXPECT_EQ(last.via, core::Via::amqp);
  EXPECT_EQ(last.ack, Ack::stored);
}

}  // namespace
}  // namespace flexi::transports::queue::testing
