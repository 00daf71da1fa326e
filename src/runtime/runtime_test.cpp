// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <future>
#include <latch>

#include "runtime/blocking_pool.hpp"
#include "runtime/metrics.hpp"
#include "runtime/readiness.hpp"
#include "runtime/shards.hpp"
#include "runtime/task_scope.hpp"

namespace flexi::runtime {
namespace {

namespace asio = boost::asio;
using asio::use_awaitable;

asio::awaitable<void> wait_for_ever() {
  asio::steady_timer timer(co_await asio::this_coro::executor, asio::steady_timer::time_point::max());
  co_await timer.async_wait(use_awaitable);
}

TEST(Shards, EachRunsOnItsOwnThread) {
  Shards shards(3);
  for (unsigned i = 0; i < shards.size(); ++i) {
    auto on = asio::post(shards.executor(i), asio::use_future([] { return Shards::current(); }));
    EXPECT_EQ(on.get(), i);
  }
}

asio::awaitable<void> cancel_and_join(TaskScope& scope) {
  for (int i = 0; i < 100; ++i) scope.spawn(wait_for_ever());
  co_await asio::post(use_awaitable);
  EXPECT_EQ(scope.running(), 100u);
  scope.cancel();
  co_await scope.join();
  EXPECT_EQ(scope.running(), 0u);
}

TEST(TaskScope, CancelsAndJoinsEveryTask) {
  Shards shards(1);
  TaskScope scope(shards.executor(0), "test", LogSink::none());
  shards.run(cancel_and_join(scope));
}

TEST(TaskScopeDeathTest, DestroyedBusyIsABug) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        asio::io_context io;
        TaskScope scope(io.get_executor(), "busy", LogSink::none());
        scope.spawn(wait_for_ever());
      },
      "destroyed with 1 running");
}

asio::awaitable<void> fill_the_pool(BlockingPool& pool) {
  auto executor = co_await asio::this_coro::executor;
  std::promise<void> release;
  auto released = release.get_future().share();
  std::promise<void> started;
  auto job = [released, &started]() -> core::Result<int> {
    started.set_value();
    released.wait();
    return 1;
  };
  auto quick = []() -> core::Result<int> { return 2; };
  std::optional<core::Result<int>> first, second;
  auto run_into = [](BlockingPool& p, auto j, auto& out) -> asio::awaitable<void> { out.emplace(co_await p.run(j, {})); };
  auto a = asio::co_spawn(executor, run_into(pool, job, first), asio::use_future);
  co_await asio::post(use_awaitable);
  started.get_future().wait();
  auto b = asio::co_spawn(executor, run_into(pool, quick, second), asio::use_future);
  co_await asio::post(use_awaitable);
  // one runs, one waits: the queue of one is full
  auto third = co_await pool.run(quick, {});
  EXPECT_EQ(third.error().kind, core::ErrorKind::overloaded);
  EXPECT_TRUE(third.error().retry_after.has_value());
  auto late = co_await pool.run(quick, core::CallContext::with_timeout(std::chrono::milliseconds(0)));
  EXPECT_EQ(late.error().kind, core::ErrorKind::deadline_exceeded);
  release.set_value();
  while (!first || !second) co_await asio::post(use_awaitable);
  EXPECT_EQ(first->value(), 1);
  EXPECT_EQ(second->value(), 2);
}

TEST(BlockingPool, IsBoundedAndRefusesExpiredCalls) {
  Shards shards(1);
  BlockingPool pool({.name = "test", .threads = 1, .queue_limit = 1});
  shards.run(fill_the_pool(pool));
}

asio::awaitable<void> throw_in_the_pool(BlockingPool& pool) {
  auto job = []() -> core::Result<int> { throw std::runtime_error("secret detail"); };
  auto result = co_await pool.run(job, {});
  EXPECT_EQ(result.error().kind, core::ErrorKind::internal);
  EXPECT_EQ(result.error().message, "internal error");
  EXPECT_EQ(result.error().detail, "secret detail");
}

TEST(BlockingPool, AnExceptionIsInternalWithoutItsWords) {
  Shards shards(1);
  BlockingPool pool({.name = "test", .threads = 1});
  shards.run(throw_in_the_pool(pool));
}

asio::awaitable<void> leave_the_pool(BlockingPool& pool, std::atomic<int>& ran) {
  auto executor = co_await asio::this_coro::executor;
  std::promise<void> release;
  auto blocking = [released = release.get_future().share()]() -> core::Result<int> {
    released.wait();
    return 1;
  };
  auto counting = [&ran]() -> core::Result<int> { return ++ran; };
  bool first = false, second = false;
  auto run_into = [](BlockingPool& p, auto j, bool& done) -> asio::awaitable<void> {
    (void)co_await p.run(j, {});
    done = true;
  };
  asio::cancellation_signal signal;
  auto a = asio::co_spawn(executor, run_into(pool, blocking, first), asio::use_future);
  auto b = asio::co_spawn(executor, run_into(pool, counting, second), asio::bind_cancellation_slot(signal.slot(), asio::use_future));
  co_await asio::post(use_awaitable);
  signal.emit(asio::cancellation_type::terminal);
  while (!second) co_await asio::post(use_awaitable);
  release.set_value();
  while (!first) co_await asio::post(use_awaitable);
  (void)co_await pool.run([]() -> core::Result<int> { return 0; }, {});  // behind the one that was left
}

TEST(BlockingPool, AJobWhoseCallerLeftIsNotRun) {
  std::atomic<int> ran{0};
  Shards shards(1);
  BlockingPool pool({.name = "test", .threads = 1});
  shards.run(leave_the_pool(pool, ran));
  EXPECT_EQ(ran, 0);
}

asio::awaitable<void> leave_early() {
  auto executor = co_await asio::this_coro::executor;
  std::shared_ptr<Completion<int>> kept;
  std::optional<core::Result<int>> result;
  auto wait = [](std::shared_ptr<Completion<int>>& keep, std::optional<core::Result<int>>& out) -> asio::awaitable<void> {
    out.emplace(co_await wait_for_completion<int>([&keep](auto completion) { keep = completion; }, cancelled_error(core::Sent::maybe)));
  };
  asio::cancellation_signal signal;
  auto done = asio::co_spawn(executor, wait(kept, result), asio::bind_cancellation_slot(signal.slot(), asio::use_future));
  co_await asio::post(use_awaitable);
  EXPECT_TRUE(kept->waiting());
  signal.emit(asio::cancellation_type::terminal);
  while (!result) co_await asio::post(use_awaitable);
  EXPECT_EQ(result->error().kind, core::ErrorKind::deadline_exceeded);
  EXPECT_EQ(result->error().sent, core::Sent::maybe);
  EXPECT_FALSE(kept->waiting());
  kept->complete(7);  // too late, dropped
  co_await asio::post(use_awaitable);
}

TEST(Completion, ACancelledWaiterLeavesAndALateAnswerIsDropped) {
  Shards shards(1);
  shards.run(leave_early());
}

TEST(Readiness, SaysWhichPartIsNotReady) {
  Readiness readiness;
  EXPECT_TRUE(readiness.ready());
  readiness.set_unready("database", "can't be reached");
  readiness.set_ready("queue");
  EXPECT_FALSE(readiness.ready());
  EXPECT_EQ(readiness.to_json(), R"({"ready":false,"draining":false,"parts":{"database":"can't be reached","queue":"ok"}})");
  readiness.set_ready("database");
  EXPECT_TRUE(readiness.ready());
  readiness.drain();
  EXPECT_FALSE(readiness.ready());
}

TEST(Metrics, ExposesPrometheusText) {
  Metrics metrics;
  auto counter = metrics.counter("flexi_things_total", "Things", {{"kind", "a"}});
  counter.add();
  metrics.counter("flexi_things_total", "Things", {{"kind", "a"}}).add(2);
  metrics.histogram("flexi_time_seconds", "Time").observe(0.002);
  const auto text = metrics.expose();
  EXPECT_NE(text.find("flexi_things_total{kind=\"a\"} 3"), std::string::npos) << text;
  EXPECT_NE(text.find("flexi_time_seconds_bucket{le=\"0.0025\"} 1"), std::string::npos) << text;
}

}  // namespace
}  // namespace flexi::runtime
