// SPDX-License-Identifier: Apache-2.0
#include "services/logger/log_hub.hpp"

#include <gtest/gtest.h>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <future>
#include <thread>

#include "runtime/shards.hpp"

namespace flexi::services::logger {
namespace {

core::LogRecord record(std::string name, std::string data) {
  return {core::MessageId::generate(), std::move(name), std::move(data), core::Timestamp{}, core::Timestamp{}};
}

struct Hub : testing::Test {
  runtime::Shards shards{2};
  LogHub hub{{.subscribers = 2, .events = 3, .bytes = 10000}};

  /// The event's data, or how there is none.
  std::string next(core::EventStream& stream, core::CallContext context = core::CallContext::with_timeout(std::chrono::milliseconds(0))) {
    std::string result;
    shards.run([](core::EventStream& from, core::CallContext limit, std::string& out) -> core::awaitable<void> {
      auto event = co_await from.next(limit);
      if (!event) out = core::to_string(event.error().kind);
      else out = event.value() ? *event.value() : "end";
    }(stream, context, result));
    const auto at = result.find("\"data\":\"");
    return at == result.npos ? result : result.substr(at + 8, result.find('"', at + 8) - at - 8);
  }
};

TEST_F(Hub, GivesEachSubscriberWhatItAskedFor) {
  EXPECT_FALSE(hub.has_subscribers());
  auto all = hub.subscribe({}).value(), some = hub.subscribe({.name = "Shop", .q = "ORDER"}).value();
  EXPECT_TRUE(hub.has_subscribers());
  hub.publish(record("Shop", "an Order came"));
  hub.publish(record("shop", "order"));
  hub.publish(record("Shop", "nothing"));
  for (auto expected : {"an Order came", "order", "nothing", "deadline_exceeded"}) EXPECT_EQ(next(*all), expected);
  for (auto expected : {"an Order came", "deadline_exceeded", "deadline_exceeded"}) EXPECT_EQ(next(*some), expected);
  hub.publish(record("Shop", "order two"));
  EXPECT_EQ(next(*some), "order two");
  all.reset();
  some.reset();
  EXPECT_FALSE(hub.has_subscribers());
}

TEST_F(Hub, ASlowReaderLosesTheOldestAndIsToldSo) {
  auto stream = hub.subscribe({}).value();
  for (int i = 0; i < 5; ++i) hub.publish(record("n", std::to_string(i)));
  for (auto expected : {"{\"dropped\":2}", "2", "3", "4", "deadline_exceeded"}) EXPECT_EQ(next(*stream), expected);
  hub.publish(record("n", std::string(6000, 'x')));
  hub.publish(record("n", std::string(6000, 'y')));
  EXPECT_EQ(next(*stream), "{\"dropped\":1}");
  EXPECT_EQ(next(*stream), std::string(6000, 'y'));
}

TEST_F(Hub, RefusesOneReaderTooMany) {
  auto one = hub.subscribe({}).value(), two = hub.subscribe({}).value();
  auto three = hub.subscribe({});
  ASSERT_FALSE(three);
  EXPECT_EQ(three.error().kind, core::ErrorKind::overloaded);
  EXPECT_TRUE(three.error().retry_after);
  one.reset();
  EXPECT_TRUE(hub.subscribe({}));
}

TEST_F(Hub, ClosingEndsTheStreamsAfterWhatTheyHold) {
  auto stream = hub.subscribe({}).value();
  hub.publish(record("n", "last"));
  hub.close();
  EXPECT_EQ(next(*stream), "last");
  EXPECT_EQ(next(*stream), "end");
  EXPECT_EQ(next(*stream), "end");
  EXPECT_EQ(hub.subscribe({}).error().kind, core::ErrorKind::unavailable);
}

TEST_F(Hub, AWaitingReaderIsWokenByAnotherThreadAndByTheEnd) {
  auto stream = hub.subscribe({}).value();
  constexpr int kEvents = 2000;
  std::thread publisher([&] {
    for (int i = 0; i < kEvents; ++i) hub.publish(record("n", "e"));
    hub.close();
  });
  long seen = 0;
  for (;;) {
    auto event = next(*stream, core::CallContext{});
    if (event == "end") break;
    if (event == "e") ++seen;
    else seen += std::stol(event.substr(sizeof "{\"dropped\":" - 1));
  }
  publisher.join();
  EXPECT_EQ(seen, kEvents);
}

TEST_F(Hub, AWaitingReaderCanBeCancelledAndAsksAgain) {
  auto stream = hub.subscribe({}).value();
  boost::asio::cancellation_signal signal;
  std::promise<std::string> ended;
  auto read = [](core::EventStream& from, std::promise<std::string>& out) -> core::awaitable<void> {
    auto event = co_await from.next(core::CallContext{});
    out.set_value(event ? "event" : std::string(core::to_string(event.error().kind)));
  };
  // Both on one thread: the reader waits by the time the second task runs.
  boost::asio::co_spawn(shards.executor(0), read(*stream, ended), boost::asio::bind_cancellation_slot(signal.slot(), [](std::exception_ptr) {}));
  boost::asio::post(shards.executor(0), [&] { signal.emit(boost::asio::cancellation_type::terminal); });
  EXPECT_EQ(ended.get_future().get(), "cancelled");
  hub.publish(record("n", "later"));
  EXPECT_EQ(next(*stream), "later");
}

TEST_F(Hub, AStreamMayOutliveItsHub) {
  auto short_lived = std::make_unique<LogHub>(LogHubLimits{});
  auto stream = short_lived->subscribe({}).value();
  short_lived.reset();
  EXPECT_EQ(next(*stream), "end");
}

}  // namespace
}  // namespace flexi::services::logger
