// SPDX-License-Identifier: Apache-2.0
// How a publisher meets a server that misbehaves. What a real RabbitMQ does is in publish_amqptest.cpp.
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "runtime/task_scope.hpp"
#include "transports/amqp/amqp.hpp"
#include "transports/amqp/fake_rabbitmq.hpp"

namespace flexi::transports::amqp {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using core::ErrorKind;
using core::Sent;
using Answer = FakeRabbitMq::Answer;

class AmqpPublisher : public ::testing::Test {
 protected:
  void connect(const std::string& url) {
    options.url = url;
    options.retry_steps = 0;
    options.reconnect_patience = 200ms;
    transport_ = std::move(make_transport(options, {metrics, readiness, runtime::LogSink::none(), shards})).value();
    client_ = std::move(transport_->connect()).value();
  }
  void TearDown() override {
    auto work = [](core::Client* c, AmqpTransport* t) -> asio::awaitable<void> {
      co_await c->stop({.grace = 10ms});
      co_await t->stop();
    };
    shards.run(work(client_.get(), transport_.get()));
    client_.reset();
    transport_.reset();
    shards.join();
  }
  core::Client* client() { return client_.get(); }
  core::Result<core::Reply> publish(std::chrono::milliseconds timeout = 10s, std::string id = core::MessageId::generate().str()) {
    core::Request request;
    request.id = core::MessageId::parse(id).value();
    request.action = "log";
    request.payload = core::LogEntry{"n", "d"};
    request.ack = core::Ack::accepted;
    return publish(std::move(request), timeout);
  }
  core::Result<core::Reply> publish(core::Request request, std::chrono::milliseconds timeout = 10s) {
    std::optional<core::Result<core::Reply>> result;
    auto work = [](core::Client* c, core::Request r, std::chrono::milliseconds t, std::optional<core::Result<core::Reply>>* out) -> asio::awaitable<void> {
      out->emplace(co_await c->handle(std::move(r), core::CallContext::with_timeout(t)));
    };
    const auto start = std::chrono::steady_clock::now();
    shards.run(work(client_.get(), std::move(request), timeout, &result));
    took = std::chrono::steady_clock::now() - start;
    return std::move(*result);
  }

  runtime::Metrics metrics;
  runtime::Readiness readiness;
  runtime::Shards shards{2};
  AmqpOptions options;
  std::chrono::steady_clock::duration took{};

 private:
  std::unique_ptr<AmqpTransport> transport_;
  std::unique_ptr<core::Client> client_;
};

TEST_F(AmqpPublisher, AnOldRabbitMqIsSaid) {
  FakeRabbitMq old({.version = "3.9.27"});
  connect(old.url());
  const auto refused = publish();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::unavailable);
  EXPECT_EQ(refused.error().sent, Sent::no);
  EXPECT_NE(readiness.to_json().find("RabbitMQ 3.10 or later is needed, there is RabbitMQ 3.9.27"), std::string::npos) << readiness.to_json();
}

TEST_F(AmqpPublisher, AQueueThatRabbitMqClosesTheConnectionForIsLeftOutAndTheOthersWork) {
  FakeRabbitMq server({.version = "4.3.0", .fatal_queue = "flexi.logins"});
  options.recheck = 3s;
  connect(server.url());
  const auto works = publish();
  ASSERT_TRUE(works) << works.error().message << works.error().detail;
  EXPECT_NE(readiness.to_json().find("queue flexi.logins can't be declared: INTERNAL_ERROR - Feature `transient_nonexcl_queues`"), std::string::npos) << readiness.to_json();
  core::Request log_in;
  log_in.id = core::MessageId::generate();
  log_in.action = core::actions::kAuth;
  log_in.payload = core::Credentials{"a", "b"};
  log_in.ack = core::Ack::stored;
  const auto refused = publish(std::move(log_in));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::unavailable);
  EXPECT_EQ(refused.error().sent, Sent::no);
  EXPECT_EQ(server.connections(), 2);
  server.mended = true;
  for (const auto until = std::chrono::steady_clock::now() + 20s; !readiness.ready() && std::chrono::steady_clock::now() < until;) ASSERT_TRUE(publish());
  EXPECT_TRUE(readiness.ready()) << readiness.to_json();
  EXPECT_EQ(server.connections(), 3) << "tried over a connection of its own";
}

TEST_F(AmqpPublisher, AnythingElseIsSaid) {
  FakeRabbitMq web({.says = "HTTP/1.1 400 Bad Request\r\n\r\n"});
  connect(web.url());
  EXPECT_EQ(publish().error().kind, ErrorKind::unavailable);
  EXPECT_NE(readiness.to_json().find("what answers is not RabbitMQ"), std::string::npos) << readiness.to_json();
}

TEST_F(AmqpPublisher, AServerThatSaysNothingIsGivenUp) {
  options.handshake_timeout = 100ms;
  FakeRabbitMq dumb({.dumb = true});
  connect(dumb.url());
  EXPECT_EQ(publish().error().kind, ErrorKind::unavailable);
  EXPECT_LT(took, 5s);
  EXPECT_NE(readiness.to_json().find("does not answer"), std::string::npos) << readiness.to_json();
}

TEST_F(AmqpPublisher, ANackIsNoSuccess) {
  FakeRabbitMq server;
  connect(server.url());
  ASSERT_TRUE(publish());
  server.answer = Answer::nack;
  EXPECT_EQ(publish().error().kind, ErrorKind::unavailable);
  server.answer = Answer::ack;
  EXPECT_TRUE(publish());
}

TEST_F(AmqpPublisher, WithoutAConfirmTheDeadlineHolds) {
  FakeRabbitMq server;
  connect(server.url());
  ASSERT_TRUE(publish());
  server.answer = Answer::nothing;
  const auto late = publish(150ms);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().kind, ErrorKind::deadline_exceeded);
  EXPECT_EQ(late.error().sent, Sent::maybe);
  EXPECT_LT(took, 3s);
}

TEST_F(AmqpPublisher, AnAlarmIsUnavailableSoonAndHeals) {
  FakeRabbitMq server;
  connect(server.url());
  ASSERT_TRUE(publish());
  server.answer = Answer::block;
  const auto first = publish();
  ASSERT_FALSE(first);
  EXPECT_EQ(first.error().kind, ErrorKind::unavailable);
  EXPECT_EQ(first.error().sent, Sent::maybe) << "it was on its way already";
  EXPECT_LT(took, 3s);
  const auto second = publish();
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().message, "RabbitMQ takes no messages at the moment");
  EXPECT_EQ(second.error().sent, Sent::no);
  EXPECT_LT(took, 1s);
  server.unblock();
  for (int i = 0; i < 1000; ++i)
    if (publish()) return;
  FAIL() << "it does not heal";
}

TEST_F(AmqpPublisher, WhatWasNotConfirmedIsPublishedAgain) {
  FakeRabbitMq server;
  options.reconnect_delay = 1ms;
  connect(server.url());
  ASSERT_TRUE(publish());
  server.answer = Answer::cut;
  EXPECT_TRUE(publish(10s, "twice"));
  const auto all = server.published();
  EXPECT_EQ(std::count(all.begin(), all.end(), "twice"), 2);
}

core::awaitable<void> publish_a_hundred(core::Client* client, int* overloaded, int* late) {
  runtime::TaskScope scope(co_await asio::this_coro::executor, "publishers", runtime::LogSink::none());
  auto one = [](core::Client* c, int* o, int* l) -> core::awaitable<void> {
    core::Request request;
    request.id = core::MessageId::generate();
    request.action = "log";
    request.payload = core::LogEntry{"n", "d"};
    const auto reply = co_await c->handle(std::move(request), core::CallContext::with_timeout(200ms));
    if (!reply && reply.error().kind == ErrorKind::overloaded && reply.error().retry_after) ++*o;
    if (!reply && reply.error().kind == ErrorKind::deadline_exceeded) ++*l;
  };
  for (int i = 0; i < 100; ++i) scope.spawn(one(client, overloaded, late));
  co_await scope.join();
}

TEST_F(AmqpPublisher, WhatIsUnderWayIsLimited) {
  FakeRabbitMq server;
  options.max_waiting = options.confirm_window = 10;
  connect(server.url());
  ASSERT_TRUE(publish());
  server.answer = Answer::nothing;
  int overloaded = 0, late = 0;
  shards.run(publish_a_hundred(client(), &overloaded, &late));
  EXPECT_EQ(overloaded, 90);
  EXPECT_EQ(late, 10);
}

}  // namespace
}  // namespace flexi::transports::amqp
