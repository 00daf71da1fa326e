// SPDX-License-Identifier: Apache-2.0
// Publishing, connections that break, topology that differs, the broker's ingress: against a real RabbitMQ.
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/write.hpp>

#include "runtime/task_scope.hpp"
#include "transports/amqp/amqp_test_support.hpp"

namespace flexi::transports::amqp {
namespace {

using core::Ack;
using core::ErrorKind;

TEST_F(AmqpTest, WhatNoQueueTakesIsNoSuccess) {
  auto& t = transport();
  auto& client = connect(t);
  ASSERT_TRUE(call(client, log("routed")));
  foreigner().unbind("flexi.log", "logs_topic", "log.INFO");
  const auto lost = call(client, log("not routed"));
  ASSERT_FALSE(lost);
  EXPECT_EQ(lost.error().kind, ErrorKind::unavailable);
  EXPECT_EQ(lost.error().message, "no queue takes it");
  EXPECT_EQ(lost.error().sent, core::Sent::no);
  EXPECT_EQ(counted("returned"), 1);
  EXPECT_EQ(counted("confirmed"), 1);
  eventually([&] { return bool(call(client, log("routed again"))); });
  auto other = foreigner();
  other.remove("flexi.log");
  EXPECT_FALSE(call(client, log("no queue")));
  eventually([&] { return bool(call(client, log("declared again"))); });
  eventually([&] { return other.count("flexi.log") == 1; });
}

TEST_F(AmqpTest, WhatRabbitMqRefusesIsNoSuccess) {
  options.max_transient = 1;
  auto& t = transport();
  auto& client = connect(t);
  ASSERT_TRUE(call(client, log("connected")));
  auto other = foreigner();
  other.publish("", "flexi.logins", "x");
  eventually([&] { return other.count("flexi.logins") == 1; });
  core::Request request = log("");
  request.action = core::actions::kAuth;
  request.payload = core::Credentials{"a", "b"};
  request.ack = Ack::stored;
  const auto start = std::chrono::steady_clock::now();
  const auto refused = call(client, request);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::unavailable) << refused.error().message;
  EXPECT_LT(std::chrono::steady_clock::now() - start, 5s);
}

asio::awaitable<void> publish_many(core::Client* client, int first, int count, std::set<std::string>* confirmed, std::atomic<bool>* stop) {
  for (int i = first; i < first + count && !*stop; ++i) {
    core::Request request;
    request.id = core::MessageId::generate();
    request.action = core::actions::kLog;
    request.payload = core::LogEntry{"test", std::to_string(i)};
    request.ack = Ack::accepted;
    const auto id = request.id.str();
    const auto reply = co_await client->handle(std::move(request), core::CallContext::with_timeout(20s));
    if (reply) confirmed->insert(id);
  }
}

asio::awaitable<void> publish_side_by_side(core::Client* client, std::set<std::string>* confirmed, std::atomic<bool>* stop) {
  runtime::TaskScope scope(co_await asio::this_coro::executor, "publishers", runtime::LogSink::none());
  for (int i = 0; i < 50; ++i) scope.spawn(publish_many(client, i * 1'000'000, 1'000'000, confirmed, stop));
  co_await scope.join();
}

TEST_F(AmqpTest, WhatWasConfirmedSurvivesConnectionsThatAreCut) {
  Store store;
  auto& t = transport();
  serve(t, store);
  auto& client = connect(t);
  std::set<std::string> confirmed;
  std::atomic<bool> stop{false};
  std::thread cutter([&] {
    for (int i = 0; i < 4; ++i) {
      std::this_thread::sleep_for(300ms);
      cut_connections();
    }
    std::this_thread::sleep_for(300ms);
    stop = true;
  });
  run(publish_side_by_side(&client, &confirmed, &stop));
  cutter.join();
  EXPECT_GT(confirmed.size(), 500u);
  EXPECT_GE(counted("reconnected"), 4);
  auto other = foreigner();
  eventually([&] {
    std::lock_guard lock(store.mutex);
    return std::includes(store.stored.begin(), store.stored.end(), confirmed.begin(), confirmed.end());
  });
  EXPECT_EQ(counted("dead_lettered"), 0);
  eventually([&] { return t.consuming() && other.count("flexi.log") == 0; });
}

TEST_F(AmqpTest, AQueueWithOtherArgumentsIsSaidAndTheOthersWork) {
  Store store;
  auto other = foreigner();
  ASSERT_TRUE(other.declare_classic("flexi.mail"));
  auto& t = transport();
  auto& client = connect(t);
  serve(t, store);
  EXPECT_TRUE(call(client, log("works", Ack::stored)));
  eventually([&] { return readiness_.to_json().find("flexi.mail") != std::string::npos; });
  const auto said = readiness_.to_json();
  for (auto word : {"inequivalent arg", "for queue 'flexi.mail'", "but current is none", "x-queue-type=quorum, x-delivery-limit=20", "rabbitmqctl delete_queue"})
    EXPECT_NE(said.find(word), std::string::npos) << word << ": " << said;
  auto mail = log("", Ack::stored);
  mail.action = core::actions::kMail;
  mail.payload = core::Mail{"", "a@example.com", "s", "m"};
  const auto refused = call(client, mail);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::unavailable);
  EXPECT_EQ(refused.error().sent, core::Sent::no);
  EXPECT_EQ(counted("reconnected"), 0) << "looking again costs no connection";
  other.remove("flexi.mail");  // migrated
  eventually([&] { return readiness_.ready(); });
  eventually([&] { return bool(call(client, mail)); });
}

TEST_F(AmqpTest, AnExchangeWithAnotherTypeIsSaid) {
  auto other = foreigner();
  ASSERT_TRUE(other.declare_exchange("logs_topic", "fanout"));
  auto& client = connect(transport());
  const auto refused = call(client, log("x"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::unavailable);
  eventually([&] { return readiness_.to_json().find("exchange logs_topic exists with other arguments") != std::string::npos; });
}

TEST_F(AmqpTest, StartsWithoutRabbitMqSaysSoAndRecovers) {
  // A port that was free a moment ago, where a way to RabbitMQ opens later.
  asio::io_context io;
  asio::ip::tcp::acceptor acceptor(io, {asio::ip::make_address("127.0.0.1"), 0});
  const auto port = acceptor.local_endpoint().port();
  acceptor.close();
  auto url = options.url;
  const auto real = ":" + std::to_string(server_->port());
  url.replace(url.find(real), real.size(), ":" + std::to_string(port));
  options.url = url;
  Store store;
  auto& t = transport();
  servers_.push_back(std::move(t.serve(store).value()));
  auto& client = connect(t);
  const auto start = std::chrono::steady_clock::now();
  for (auto ack : {Ack::accepted, Ack::stored}) {
    const auto refused = call(client, log("x", ack));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::unavailable);
    EXPECT_EQ(refused.error().sent, core::Sent::no);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, 3s);
  EXPECT_FALSE(readiness_.ready());
  EXPECT_NE(readiness_.to_json().find("RabbitMQ can't be reached"), std::string::npos) << readiness_.to_json();
  EXPECT_EQ(readiness_.to_json().find("guest"), std::string::npos) << "no password, no user";
  // The way opens: a byte pump in a thread of the test's own.
  asio::ip::tcp::acceptor opened(io, {asio::ip::make_address("127.0.0.1"), port});
  std::function<void()> accept = [&] {
    opened.async_accept([&](boost::system::error_code ec, asio::ip::tcp::socket near) {
      if (ec) return;
      auto a = std::make_shared<asio::ip::tcp::socket>(std::move(near));
      auto b = std::make_shared<asio::ip::tcp::socket>(io);
      b->connect({asio::ip::make_address("127.0.0.1"), server_->port()});
      const auto pump = [](auto from, auto to) {
        auto buffer = std::make_shared<std::array<char, 65536>>();
        auto step = std::make_shared<std::function<void()>>();
        *step = [from, to, buffer, step] {
          from->async_read_some(asio::buffer(*buffer), [from, to, buffer, step](boost::system::error_code e, std::size_t n) {
            boost::system::error_code ignored;
            if (!e) asio::write(*to, asio::buffer(buffer->data(), n), e);
            if (!e) return (*step)();
            to->shutdown(asio::ip::tcp::socket::shutdown_both, ignored);
            *step = {};
          });
        };
        (*step)();
      };
      pump(a, b), pump(b, a);
      accept();
    });
  };
  accept();
  std::thread pumping([&] { io.run(); });
  eventually([&] { return readiness_.ready(); });
  EXPECT_TRUE(call(client, log("now", Ack::stored)));
  EXPECT_EQ(store.size(), 1u);
  for (auto& c : clients_) run(stop(c.get()));
  for (auto& s : servers_) run(stop(s.get()));
  clients_.clear(), servers_.clear();
  for (auto& one : transports_) run(end(one.get()));
  transports_.clear();
  asio::post(io, [&] { opened.close(); });
  pumping.join();
}

TEST_F(AmqpTest, AWrongPasswordIsSaid) {
  options.url.replace(options.url.find(":guest@"), 7, ":wrong@");
  auto& client = connect(transport());
  const auto refused = call(client, log("x"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::unavailable);
  EXPECT_NE(readiness_.to_json().find("refuses the user name or password"), std::string::npos) << readiness_.to_json();
  EXPECT_EQ(readiness_.to_json().find("wrong"), std::string::npos);
}

TEST_F(AmqpTest, WithoutAListenerStoredIsUnavailableSoonAndCertainlyNotSent) {
  auto& client = connect(transport());
  ASSERT_TRUE(call(client, log("connected")));
  const auto start = std::chrono::steady_clock::now();
  const auto refused = call(client, log("x", Ack::stored));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::unavailable);
  EXPECT_EQ(refused.error().sent, core::Sent::no);
  EXPECT_LT(std::chrono::steady_clock::now() - start, 5s);
  EXPECT_EQ(foreigner().count("flexi.log"), 1);
}

TEST_F(AmqpTest, TheIngressTakesRequestsAndAnswers) {
  Store store;
  auto& t = transport();
  serve_requests(t, store);
  auto other = foreigner();
  const auto answers = other.declare_own();
  const std::string correlation = "c-1", id = "order-17";
  amqp_basic_properties_t p{};
  p._flags = AMQP_BASIC_REPLY_TO_FLAG | AMQP_BASIC_CORRELATION_ID_FLAG;
  p.reply_to = Foreigner::bytes(answers);
  p.correlation_id = Foreigner::bytes(correlation);
  const auto ask = [&](const std::string& body, const Foreigner::Headers& headers = {}) {
    other.publish("", "flexi.requests", body, p, headers);
    eventually([&] { return other.count(answers) == 1; });
    return other.get(answers);
  };
  auto answer = ask(R"({"action":"log","log":{"name":"n","data":"asked"},"id":"order-17","via":"http"})", {{"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}});
  EXPECT_EQ(answer.correlation_id, correlation);
  EXPECT_NE(answer.body.find(R"("error":false,"message":"logged")"), std::string::npos) << answer.body;
  EXPECT_EQ(store.last_request.id.str(), id);
  EXPECT_TRUE(store.last_request.id_from_caller);
  EXPECT_EQ(store.last_request.via, core::Via::http);
  EXPECT_TRUE(store.last_context.trace.valid());
  EXPECT_TRUE(store.last_context.caller.empty());
  answer = ask(R"({"action":"users.list"})");
  EXPECT_EQ(answer.headers.at("x-flexi-error"), "permission_denied");
  answer = ask(R"({"action":"users.list"})", {{"authorization", "Bearer wrong"}});
  EXPECT_EQ(answer.headers.at("x-flexi-error"), "unauthenticated");
  answer = ask(R"({"action":"users.list"})", {{"authorization", "Bearer token"}});
  EXPECT_NE(answer.body.find("\"error\":false"), std::string::npos) << answer.body;
  answer = ask("no json");
  EXPECT_EQ(answer.headers.at("x-flexi-error"), "invalid_argument");
  EXPECT_EQ(counted("dead_lettered"), 0) << "its sender was told";
  // Without a place for the answer: the failure rules.
  other.publish("", "flexi.requests", "no json");
  other.publish("", "flexi.requests", R"({"action":"auth","auth":{"email":"a","password":"verysecret"})");  // a brace is missing
  eventually([&] { return other.count("flexi.requests.dlq") == 2; });
  const auto page = letters(t).value();
  for (auto& letter : page.letters) EXPECT_EQ(letter.payload.find("verysecret"), std::string::npos) << letter.payload;
  for (int i = 0; i < 2; ++i) EXPECT_EQ(other.get("flexi.requests.dlq").body.find("verysecret"), std::string::npos);
  store.failures = 100;
  other.publish("", "flexi.requests", R"({"action":"auth","auth":{"email":"a","password":"verysecret"}})");
  eventually([&] { return counted("discarded") >= 4; });
  store.failures = 1;
  other.publish("", "flexi.requests", R"({"action":"log","log":{"name":"n","data":"retried"}})");
  eventually([&] { return store.arrived().back() == "retried"; });
  // An answer never becomes a request.
  const std::string ours = "flexi.requests";
  p.reply_to = Foreigner::bytes(ours);
  other.publish("", "flexi.requests", R"({"action":"log","log":{"name":"n","data":"looped"}})", p);
  eventually([&] { return store.arrived().back() == "looped"; });
  eventually([&] { return other.count("flexi.requests") == 0; });
  EXPECT_EQ(other.count("flexi.requests.dlq"), 0);
}

TEST_F(AmqpTest, ManyLookAtTheDeadLettersAtOnceAndEachSeesAll) {
  auto& a = transport();
  auto& b = transport();
  auto& client = connect(a);
  ASSERT_TRUE(call(client, log("connected")));
  auto other = foreigner();
  for (int i = 0; i < 150; ++i) other.publish("flexi.dead", "flexi.log", R"({"name":"n","data":"d"})");
  eventually([&] { return other.count("flexi.log.dlq") == 150; });
  int right = 0;
  auto look = [](AmqpTransport* x, AmqpTransport* y, int* r) -> asio::awaitable<void> {
    runtime::TaskScope scope(co_await asio::this_coro::executor, "lookers", runtime::LogSink::none());
    auto one = [](AmqpTransport* t, int* r2) -> asio::awaitable<void> {
      for (int i = 0; i < 3; ++i) {
        const auto page = co_await t->list(500, "", core::CallContext::with_timeout(25s));
        EXPECT_TRUE(page) << page.error().message << page.error().detail;
        if (page && page.value().letters.size() == 150) ++*r2;
      }
    };
    for (auto* t : {x, y, x}) scope.spawn(one(t, r));
    co_await scope.join();
  };
  run(look(&a, &b, &right));
  EXPECT_EQ(right, 9);
  EXPECT_EQ(other.count("flexi.log.dlq"), 150);
  other.publish("", "flexi.log", R"({"name":"n","data":"d"})");
  std::optional<core::Result<std::vector<QueueDepth>>> depths;
  auto ask = [](AmqpTransport* t, std::optional<core::Result<std::vector<QueueDepth>>>* out) -> asio::awaitable<void> {
    out->emplace(co_await t->depths(core::CallContext::with_timeout(10s)));
  };
  run(ask(&a, &depths));
  ASSERT_TRUE(*depths);
  std::map<std::string, std::uint32_t> messages;
  for (auto& depth : depths->value()) messages[depth.queue] = depth.messages;
  EXPECT_EQ(messages.at("flexi.log.dlq"), 150u);
  EXPECT_EQ(messages.at("flexi.log"), 2u);
  EXPECT_TRUE(messages.contains("flexi.log.retry.50ms") && messages.contains("flexi.logins") && messages.contains("flexi.requests"));
}

}  // namespace
}  // namespace flexi::transports::amqp
