// SPDX-License-Identifier: Apache-2.0
// What becomes of messages, against a real RabbitMQ.
#include "transports/amqp/amqp_test_support.hpp"

namespace flexi::transports::amqp {
namespace {

using core::Ack;
using core::ErrorKind;

TEST_F(AmqpTest, AcceptedIsConfirmedAndThenStoredWithAllThatGoesWithIt) {
  Store store;
  auto& t = transport();
  serve(t, store);
  auto request = log("one");
  request.id_from_caller = true;
  auto context = core::CallContext::with_timeout(10s);
  context.trace = core::TraceContext::from_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
  context.add_hop("broker");
  const auto reply = call(connect(t), request, context);
  ASSERT_TRUE(reply) << reply.error().message << reply.error().detail;
  EXPECT_EQ(reply.value().way, "amqp");
  eventually([&] { return store.size() == 1; });
  EXPECT_EQ(store.last_request.id, request.id);
  EXPECT_TRUE(store.last_request.id_from_caller);
  EXPECT_EQ(store.last_request.accepted_at, request.accepted_at);
  EXPECT_EQ(store.last_context.trace.trace_id, context.trace.trace_id);
  EXPECT_TRUE(store.last_context.hops.starts_with(context.hops + " rabbitmq@")) << store.last_context.hops;
  eventually([&] { return counted("acked") == 1; });
  EXPECT_EQ(counted("confirmed"), 1);
  EXPECT_EQ(counted("stored"), 1);
}

TEST_F(AmqpTest, StoredIsAnsweredByTheService) {
  Store store;
  auto& t = transport();
  serve(t, store);
  auto& client = connect(t);
  const auto request = log("one", Ack::stored);
  const auto reply = call(client, request);
  ASSERT_TRUE(reply) << reply.error().message << reply.error().detail;
  EXPECT_EQ(reply.value().message, "logged");
  EXPECT_FALSE(reply.value().duplicate);
  EXPECT_TRUE(call(client, request).value().duplicate);
  store.failures = 1;
  const auto failed = call(client, log("two", Ack::stored));
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().kind, ErrorKind::unavailable);
  EXPECT_EQ(failed.error().message, "as told");
  EXPECT_EQ(failed.error().detail, "");
  EXPECT_EQ(counted("discarded"), 1) << "its caller was told: it is over";
  EXPECT_EQ(counted("retried"), 0);
}

TEST_F(AmqpTest, WhatAnybodyPublishesIsConsumedWhateverItsContentType) {
  Store store;
  serve(transport(), store);
  auto other = foreigner();
  const std::string types[] = {"", "text/plain", "application/jsson", "\xff"};
  int n = 0;
  for (auto& type : types)
    for (const char* key : {"log.INFO", "log.WARNING", "log.ERROR"}) {
      amqp_basic_properties_t p{};
      if (!type.empty()) p.content_type = Foreigner::bytes(type), p._flags = AMQP_BASIC_CONTENT_TYPE_FLAG;
      other.publish("logs_topic", key, R"({"name":"foreign","data":")" + std::to_string(n++) + "\"}", p);
    }
  eventually([&] { return store.size() == 12; });
  EXPECT_EQ(store.arrived().size(), 12u);
  eventually([&] { return counted("acked") == 12; });
  EXPECT_EQ(other.count("flexi.log.dlq"), 0);
}

TEST_F(AmqpTest, WhatIsNoMessageIsDeadLetteredWithTheReason) {
  Store store;
  options.max_body_bytes = 2'000;
  auto& t = transport();
  serve(t, store);
  auto other = foreigner();
  const std::pair<std::string, const char*> bad[] = {{"no json", "JSON"},          {R"({"name":"n"})", "data"}, {"", "empty"},
                                                     {R"({"name":1,"data":"d"})", "name"}, {"[1]", "object"},   {"{\"name\":\"\xff\"}", "UTF-8"}};
  for (auto& [body, word] : bad) {
    other.publish("logs_topic", "log.INFO", body);
    eventually([&] { return other.count("flexi.log.dlq") == 1; });
    const auto letter = other.get("flexi.log.dlq");
    EXPECT_EQ(letter.headers.at("x-flexi-error"), "invalid_argument");
    EXPECT_NE(letter.headers.at("x-flexi-reason").find(word), std::string::npos) << letter.headers.at("x-flexi-reason");
    EXPECT_EQ(letter.headers.at("x-flexi-attempts"), "1");
    EXPECT_FALSE(letter.message_id.empty());
    EXPECT_TRUE(letter.headers.contains("x-flexi-dead-at") && letter.headers.contains("x-flexi-first-at"));
    EXPECT_EQ(letter.body, body);
  }
  EXPECT_EQ(store.calls.size(), 0u);
  other.publish("logs_topic", "log.INFO", R"({"name":"n","data":"after it"})");
  eventually([&] { return store.size() == 1; });
}

TEST_F(AmqpTest, WhatIsTooLargeIsDeadLetteredWhole) {
  Store store;
  options.max_body_bytes = 2'000;
  auto& t = transport();
  serve(t, store);
  auto other = foreigner();
  const auto body = R"({"name":"n","data":")" + std::string(300'000, 'x') + "\"}";
  other.publish("logs_topic", "log.INFO", body);
  eventually([&] { return other.count("flexi.log.dlq") == 1; });
  eventually([&] { return counted("dead_lettered") == 1; });
  const auto seen = letters(t).value();
  ASSERT_EQ(seen.letters.size(), 1u);
  EXPECT_EQ(seen.letters[0].reason, "invalid_argument: rejected, its body has " + std::to_string(body.size()) + " bytes");
  const auto refused = end_letter(t, seen.letters[0].id, End::replay);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::invalid_argument);
  EXPECT_EQ(other.get("flexi.log.dlq").body, body);
  EXPECT_EQ(store.calls.size(), 0u);
}

TEST_F(AmqpTest, AnOutageCountsNoAttempt) {
  Store store;
  store.sent = core::Sent::no;
  store.failures = 12;  // three times max_attempts
  auto& t = transport();
  serve(t, store);
  const auto request = log("patient");
  ASSERT_TRUE(call(connect(t), request));
  eventually([&] { return store.size() == 1; });
  EXPECT_EQ(store.calls.at(request.id.str()), 13);
  EXPECT_EQ(counted("retried"), 12);
  EXPECT_EQ(counted("dead_lettered"), 0);
  // What the service itself answers counts, however long an outage there was before.
  store.kind = ErrorKind::deadline_exceeded;
  store.failures = 4;
  ASSERT_TRUE(call(connect(t), log("failing")));
  eventually([&] { return counted("dead_lettered") == 1; });
  EXPECT_EQ(letters(t).value().letters.at(0).attempts, 4u);
}

TEST_F(AmqpTest, ARetryWaitsAsLongAsTheServiceAsksForAndWithJitter) {
  Store store;
  options.retry_delay = 200ms;
  options.retry_factor = 100;
  options.retry_steps = 2;
  auto& t = transport();
  serve(t, store);
  auto& client = connect(t);
  auto other = foreigner();
  store.failures = 1;
  store.retry_after = 5'000ms;
  ASSERT_TRUE(call(client, log("later")));
  eventually([&] { return other.count("flexi.log.retry.20000ms") == 1; });
  const auto asked = other.get("flexi.log.retry.20000ms");
  EXPECT_GE(std::stoi(asked.expiration), 16'000);
  EXPECT_LE(std::stoi(asked.expiration), 20'000);
  store.failures = 1;
  store.retry_after = 19'999ms;
  ASSERT_TRUE(call(client, log("not before")));
  eventually([&] { return other.count("flexi.log.retry.20000ms") == 1; });
  EXPECT_GE(std::stoi(other.get("flexi.log.retry.20000ms").expiration), 19'999);
  store.failures = 1;
  store.retry_after.reset();
  ASSERT_TRUE(call(client, log("soon")));
  eventually([&] { return store.size() == 1; }, 10s);
}

TEST_F(AmqpTest, AQueueThatSomebodyElseConsumesAloneIsSaidAndTheOthersAreConsumed) {
  Store store;
  auto& t = transport();
  auto& client = connect(t);
  ASSERT_TRUE(call(client, log("declared")));
  auto other = foreigner();
  other.consume_exclusively("flexi.logins");  // of quorum queues RabbitMQ lets nobody do so
  serve(t, store);
  EXPECT_TRUE(call(client, log("works", Ack::stored)));
  eventually([&] { return readiness_.to_json().find("queue flexi.logins can't be consumed") != std::string::npos; });
  EXPECT_NE(readiness_.to_json().find("exclusive"), std::string::npos) << readiness_.to_json();
  other.stop_consuming();
  eventually([&] { return readiness_.ready(); });
  EXPECT_TRUE(call(client, log("works on", Ack::stored)));
  auto log_in = log("", Ack::stored);
  log_in.action = core::actions::kAuth;
  log_in.payload = core::Credentials{"a", "b"};
  EXPECT_TRUE(call(client, log_in));
  EXPECT_EQ(counted("reconnected"), 0);
}

TEST_F(AmqpTest, AFailureThatMayPassIsRetriedWithGrowingDelay) {
  Store store;
  store.failures = 3;
  auto& t = transport();
  serve(t, store);
  const auto request = log("again");
  const auto start = std::chrono::steady_clock::now();
  ASSERT_TRUE(call(connect(t), request));
  eventually([&] { return store.size() == 1; });
  EXPECT_GE(std::chrono::steady_clock::now() - start, 200ms) << "at least four fifths of 50 ms, then of 100, then of 100";
  EXPECT_EQ(store.calls.at(request.id.str()), 4);
  EXPECT_EQ(store.last_request.accepted_at, request.accepted_at);
  EXPECT_EQ(counted("retried"), 3);
  EXPECT_EQ(foreigner().count("flexi.log.dlq"), 0);
}

TEST_F(AmqpTest, AfterTheLastAttemptItIsADeadLetterThatCanBeReplayedOrDiscarded) {
  Store store;
  store.failures = 8;
  auto& t = transport();
  serve(t, store);
  auto& client = connect(t);
  const auto first = log("first"), second = log("second");
  ASSERT_TRUE(call(client, first));
  ASSERT_TRUE(call(client, second));
  auto other = foreigner();
  eventually([&] { return other.count("flexi.log.dlq") == 2; });
  auto page = letters(t);
  ASSERT_TRUE(page) << page.error().message << page.error().detail;
  ASSERT_EQ(page.value().letters.size(), 2u);
  for (auto& letter : page.value().letters) {
    EXPECT_EQ(letter.action, "log");
    EXPECT_EQ(letter.reason, "unavailable: as told");
    EXPECT_EQ(letter.attempts, 4u);
    EXPECT_EQ(letter.accepted_at, first.accepted_at);
    EXPECT_GT(letter.dead_at, letter.accepted_at);
  }
  EXPECT_GE(page.value().letters[0].dead_at, page.value().letters[1].dead_at);
  // Looking changes nothing, however often; pages meet without gap.
  auto one = letters(t, 1).value();
  ASSERT_FALSE(one.next.empty());
  auto two = letters(t, 1, one.next).value();
  EXPECT_TRUE(two.next.empty());
  EXPECT_NE(one.letters.at(0).id, two.letters.at(0).id);
  EXPECT_FALSE(letters(t, 1, "nonsense"));
  EXPECT_TRUE(end_letter(t, first.id, End::replay));
  eventually([&] { return store.size() == 1; });
  EXPECT_TRUE(store.stored.contains(first.id.str()));
  EXPECT_EQ(end_letter(t, first.id, End::replay).error().kind, ErrorKind::not_found);
  EXPECT_TRUE(end_letter(t, second.id, End::discard));
  EXPECT_EQ(letters(t).value().letters.size(), 0u);
  EXPECT_EQ(other.count("flexi.log.dlq"), 0);
  EXPECT_EQ(store.size(), 1u);
}

TEST_F(AmqpTest, DeadLettersOfSeveralActionsUnderOneIdAreToldApart) {
  Store store;
  store.failures = 2;
  store.kind = ErrorKind::conflict;
  auto& t = transport();
  serve(t, store);
  const auto request = log("two");
  auto mail = request;
  mail.action = "mail";
  mail.payload = core::Mail{"", "you@example.com", "s", "m"};
  mail.ack = core::Ack::accepted;
  auto& client = connect(t);
  ASSERT_TRUE(call(client, request));
  ASSERT_TRUE(call(client, mail));
  auto other = foreigner();
  eventually([&] { return other.count("flexi.log.dlq") == 1 && other.count("flexi.mail.dlq") == 1; });
  for (auto how : {End::replay, End::discard}) {
    const auto refused = end_letter(t, request.id, how);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::conflict) << refused.error().message;
  }
  EXPECT_EQ(letters(t).value().letters.size(), 2u) << "nobody guessed";
  EXPECT_TRUE(end_letter(t, {request.id, "mail"}, End::discard));
  EXPECT_EQ(other.count("flexi.mail.dlq"), 0);
  EXPECT_EQ(end_letter(t, {request.id, "mail"}, End::discard).error().kind, ErrorKind::not_found);
  EXPECT_TRUE(end_letter(t, request.id, End::replay)) << "one is left, so the id says it";
  eventually([&] { return store.size() == 1; });
}

TEST_F(AmqpTest, MoreDeadLettersThanAreLookedAtAreSweptAtOnceAndNoneIsSaidNotToExist) {
  Store store;
  options.browse_messages = 20;
  options.concurrency = 1;  // failures are counted exactly
  store.kind = ErrorKind::conflict;
  store.failures = 300;
  auto& t = transport();
  serve(t, store);
  auto& client = connect(t);
  core::MessageId newest;
  for (int i = 0; i < 300; ++i) {
    const auto request = log(std::to_string(i));
    newest = request.id;
    ASSERT_TRUE(call(client, request));
  }
  auto other = foreigner();
  eventually([&] { return other.count("flexi.log.dlq") == 300; });
  for (auto how : {End::replay, End::discard}) {
    const auto unseen = end_letter(t, newest, how);
    ASSERT_FALSE(unseen);
    EXPECT_EQ(unseen.error().kind, ErrorKind::unavailable) << unseen.error().message;
    EXPECT_NE(unseen.error().message.find("more than 20 dead letters"), std::string::npos) << unseen.error().message;
  }
  const core::DeadLetterSweep replay{.action = "log", .before = std::chrono::system_clock::now()};
  EXPECT_EQ(sweep(t, {.action = "mail", .before = replay.before}).value().letters, 0u);
  store.failures = 10;  // so many die again
  const auto swept = sweep(t, replay);
  ASSERT_TRUE(swept) << swept.error().message << swept.error().detail;
  EXPECT_EQ(swept.value().letters, 300u);
  EXPECT_FALSE(swept.value().more);
  eventually([&] { return store.size() == 290 && other.count("flexi.log.dlq") == 10; });
  EXPECT_EQ(sweep(t, replay).value().letters, 0u) << "they died after it";
  eventually([&] { return other.count("flexi.log.dlq") == 10; });
  EXPECT_EQ(sweep(t, {.fate = core::DeadLetterSweep::Fate::discard, .before = std::chrono::system_clock::now()}).value().letters, 10u);
  eventually([&] { return other.count("flexi.log.dlq") == 0; });
  EXPECT_EQ(counted("replayed"), 300);
  EXPECT_EQ(end_letter(t, newest, End::replay).error().kind, ErrorKind::not_found);
}

TEST_F(AmqpTest, LettersThatLookAlikeAreReplayedAsMessagesApart) {
  // Foreign, without ids, alike, and dead-lettered by RabbitMQ itself within one second.
  options.delivery_limit = 1;
  auto& t = transport();
  ASSERT_TRUE(call(connect(t), log("declared")));
  auto other = foreigner();
  ASSERT_TRUE(other.get("flexi.log").found);
  for (int i = 0; i < 3; ++i) other.publish("logs_topic", "log.INFO", R"({"name":"n","data":"alike"})");
  eventually([&] { return other.count("flexi.log") == 3; });
  for (int i = 0; i < 3; ++i) {
    {
      auto victim = foreigner();
      for (int one = 0; one < 3; ++one) victim.get("flexi.log", true);
    }
    eventually([&] { return other.count("flexi.log") + other.count("flexi.log.dlq") == 3; });
  }
  ASSERT_EQ(other.count("flexi.log.dlq"), 3);
  const auto seen = letters(t).value().letters;
  ASSERT_TRUE(end_letter(t, seen.at(0).id, End::replay));
  if (other.count("flexi.log.dlq") > 0) EXPECT_TRUE(sweep(t, {.before = std::chrono::system_clock::now()}));  // not all within one second
  Store store;
  serve(t, store);
  eventually([&] { return store.size() == 3; });
}

TEST_F(AmqpTest, WhatRetryingCannotHelpIsDeadAtOnce) {
  Store store;
  store.failures = 1;
  store.kind = ErrorKind::conflict;
  auto& t = transport();
  serve(t, store);
  ASSERT_TRUE(call(connect(t), log("x")));
  eventually([&] { return counted("dead_lettered") == 1; });
  EXPECT_EQ(counted("retried"), 0);
  EXPECT_EQ(letters(t).value().letters.at(0).reason, "conflict: as told");
  EXPECT_EQ(letters(t).value().letters.at(0).attempts, 1u);
}

TEST_F(AmqpTest, TwoListenersShareTheQueues) {
  Store store;
  auto& a = transport();
  auto& b = transport();
  serve(a, store), serve(b, store);
  auto& client = connect(a);
  for (int i = 0; i < 200; ++i) ASSERT_TRUE(call(client, log(std::to_string(i))));
  eventually([&] { return counted("acked") == 200; });
  EXPECT_EQ(store.size(), 200u);
  EXPECT_EQ(store.arrived().size(), 200u) << "none was given to both";
}

TEST_F(AmqpTest, AStopFinishesWhatItCanAndLeavesTheRestInItsQueue) {
  Store store;
  store.hold = true;
  auto& t = transport();
  auto& first = serve(t, store);
  auto& client = connect(t);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(call(client, log(std::to_string(i))));
  eventually([&] { return store.held == 5; });
  stop_now(first, 50ms);  // all are cancelled
  auto other = foreigner();
  eventually([&] { return other.count("flexi.log") == 5; });
  EXPECT_EQ(other.count("flexi.log.dlq"), 0) << "a shutdown never dead-letters";
  store.hold = false;
  auto& second = serve(t, store);
  eventually([&] { return store.size() == 5; });
  store.hold = true;
  ASSERT_TRUE(call(client, log("last")));
  eventually([&] { return store.held == 6; });
  std::thread release([&] {
    std::this_thread::sleep_for(100ms);
    store.hold = false;
  });
  stop_now(second, 20s);  // it ends within the grace
  release.join();
  EXPECT_EQ(store.size(), 6u);
  EXPECT_EQ(counted("acked"), 6);
  EXPECT_EQ(other.count("flexi.log"), 0);
}

TEST_F(AmqpTest, ExpiredMessagesAreDroppedAndCounted) {
  Store store;
  serve(transport(), store);
  auto other = foreigner();
  other.publish("logs_topic", "log.INFO", R"({"name":"n","data":"late"})", {}, {{"x-flexi-deadline", "1700000000000000"}});
  other.publish("logs_topic", "log.INFO", R"({"name":"n","data":"in time"})");
  eventually([&] { return counted("acked") == 2; });
  EXPECT_EQ(counted("expired"), 1);
  EXPECT_EQ(store.arrived(), std::vector<std::string>{"in time"});
  EXPECT_EQ(other.count("flexi.log.dlq"), 0);
}

TEST_F(AmqpTest, LogInsAreTransientAndNeverKept) {
  Store store;
  auto& t = transport();
  serve(t, store);
  auto& client = connect(t);
  core::Request request = log("");
  request.action = core::actions::kAuth;
  request.payload = core::Credentials{"a@example.com", "verysecret"};
  EXPECT_EQ(call(client, request).error().kind, ErrorKind::invalid_argument) << "accepted";
  request.ack = Ack::stored;
  EXPECT_TRUE(call(client, request));
  EXPECT_EQ(std::get<core::Credentials>(store.last_request.payload).password, "verysecret");
  store.failures = 1;
  store.kind = ErrorKind::unauthenticated;
  EXPECT_EQ(call(client, request).error().kind, ErrorKind::unauthenticated);
  store.failures = 1;
  store.kind = ErrorKind::unavailable;
  EXPECT_EQ(call(client, request).error().kind, ErrorKind::unavailable);
  auto other = foreigner();
  other.publish("logs_topic", "auth.request", R"({"email":"a","password":"b"})");  // nobody waits for it
  other.publish("logs_topic", "auth.request", "no json, verysecret");
  eventually([&] { return counted("acked") == 5; });
  EXPECT_EQ(counted("dead_lettered") + counted("retried"), 0);
  EXPECT_EQ(letters(t).value().letters.size(), 0u);
}

TEST_F(AmqpTest, CustomActionsHaveQueuesOfTheirOwnAndMayBeConsumedElsewhere) {
  Store store;
  options.actions = {"resize", "theirs"};
  options.consumed_elsewhere = {"theirs"};
  auto& t = transport();
  serve(t, store);
  auto& client = connect(t);
  auto request = log("");
  request.payload = core::Json{R"({"width":3})"};
  for (auto action : {"resize", "theirs"}) {
    request.action = action;
    EXPECT_TRUE(call(client, request)) << action;
  }
  eventually([&] { return store.size() == 1; });
  EXPECT_EQ(store.last_request.action, "resize");
  auto other = foreigner();
  eventually([&] { return other.count("flexi.action.theirs") == 1; });
  EXPECT_EQ(other.get("flexi.action.theirs").body, R"({"width":3})");
  request.action = "nobody's";
  EXPECT_EQ(call(client, request).error().kind, ErrorKind::unimplemented);
}

TEST_F(AmqpTest, CrashLoopsEndInTheDeadLettersWithAReason) {
  // Who takes it and dies of it, again and again: a connection that is cut under it.
  options.delivery_limit = 2;
  auto& t = transport();
  auto& client = connect(t);
  const auto poison = log("poison");
  ASSERT_TRUE(call(client, poison));
  for (int i = 0; i < 3; ++i) {
    auto victim = foreigner();
    eventually([&] { return victim.get("flexi.log", true).found; });
  }
  auto other = foreigner();
  eventually([&] { return other.count("flexi.log.dlq") == 1; });
  const auto page = letters(t).value();
  ASSERT_EQ(page.letters.size(), 1u);
  EXPECT_EQ(page.letters[0].id, poison.id);
  EXPECT_NE(page.letters[0].reason.find("delivery_limit"), std::string::npos) << page.letters[0].reason;
  EXPECT_GT(core::to_unix_micros(page.letters[0].dead_at), 1'700'000'000'000'000);
}

}  // namespace
}  // namespace flexi::transports::amqp
