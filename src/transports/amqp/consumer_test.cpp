// SPDX-License-Identifier: Apache-2.0
// How the listener meets a server that misbehaves. What a real RabbitMQ does is in consume_amqptest.cpp.
#include <boost/asio/use_awaitable.hpp>

#include "transports/amqp/amqp.hpp"
#include "transports/amqp/fake_rabbitmq.hpp"

namespace flexi::transports::amqp {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;

/// A service that is away.
class Away final : public core::Handler {
 public:
  core::awaitable<core::Result<core::Reply>> handle(core::Request, core::CallContext) override {
    ++calls;
    co_return core::unavailable("the logger can't be reached");
  }
  std::atomic<int> calls{0};
};

template <class Condition>
bool eventually(Condition condition) {
  for (const auto until = std::chrono::steady_clock::now() + 20s; std::chrono::steady_clock::now() < until; std::this_thread::yield())
    if (condition()) return true;
  return false;
}

TEST(AmqpConsumer, AnAlarmHoldsWhatFailedHoweverLongItLasts) {
  FakeRabbitMq server({.delivers_to = "flexi.log", .delivers = R"({"name":"n","data":"d"})"});
  server.answer = FakeRabbitMq::Answer::block;
  runtime::Metrics metrics;
  runtime::Readiness readiness;
  runtime::Shards shards(1);
  AmqpOptions options;
  options.url = server.url();
  options.aside_pause = 1ms;
  options.reconnect_patience = 0ms;
  Away service;
  auto transport = std::move(make_transport(options, {metrics, readiness, runtime::LogSink::none(), shards})).value();
  auto listener = std::move(transport->serve(service)).value();
  ASSERT_TRUE(eventually([&] { return server.blocked(); }));
  // Many times twenty tries long.
  const auto until = std::chrono::steady_clock::now() + 500ms;
  EXPECT_TRUE(eventually([&] { return std::chrono::steady_clock::now() > until; }));
  EXPECT_TRUE(server.rejected().empty()) << "it would be delivered again, and be buried after some such rounds";
  EXPECT_TRUE(server.acked().empty());
  EXPECT_EQ(service.calls, 1);
  server.unblock();
  EXPECT_TRUE(eventually([&] { return server.acked() == std::vector<std::uint64_t>{1}; })) << "it waits, confirmed, in a retry queue";
  EXPECT_EQ(service.calls, 1);
  EXPECT_TRUE(server.rejected().empty());
  auto work = [](core::Server* s, AmqpTransport* t) -> asio::awaitable<void> {
    co_await s->stop({.grace = 1s});
    co_await t->stop();
  };
  shards.run(work(listener.get(), transport.get()));
  listener.reset();
  transport.reset();
  shards.join();
}

}  // namespace
}  // namespace flexi::transports::amqp
