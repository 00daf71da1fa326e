// SPDX-License-Identifier: Apache-2.0
#include "transports/queue/write_batcher.hpp"

#include <boost/asio/redirect_error.hpp>

namespace flexi::transports::queue {

namespace asio = boost::asio;
using core::Result;
using runtime::sqlite::Connection;

namespace {
constexpr std::size_t kMaxBatch = 2048;  ///< bounds how long one transaction holds up the database's other writers
}

WriteBatcher::WriteBatcher(runtime::sqlite::Database& database, QueueTable& table, asio::any_io_executor executor, runtime::LogSink& log)
    : database_(database), table_(table), executor_(executor), scope_(executor, "queue writes", log), lanes_{Lane(executor), Lane(executor)} {}

void WriteBatcher::start(std::function<void()> on_work) {
  on_work_ = std::move(on_work);
  for (auto& lane : lanes_) scope_.spawn(run(lane));
}

void WriteBatcher::submit(std::unique_ptr<WriteOp> op) {
  std::lock_guard lock(mutex_);
  waiting_.push_back(std::move(op));
  wake_lane();
}

std::size_t WriteBatcher::waiting() const {
  std::lock_guard lock(mutex_);
  return waiting_.size();
}

/// With mutex_ held.
void WriteBatcher::wake_lane() {
  for (auto& lane : lanes_) {
    if (!lane.parked) continue;
    lane.parked = false;
    asio::post(executor_, [&lane] { lane.wake.cancel(); });
    return;
  }
}

WriteBatcher::Ops WriteBatcher::take() {
  std::lock_guard lock(mutex_);
  Ops ops;
  while (!waiting_.empty() && ops.size() < kMaxBatch) {
    ops.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
  return ops;
}

asio::awaitable<void> WriteBatcher::run(Lane& lane) {
  for (;;) {
    bool idle;
    {
      std::lock_guard lock(mutex_);
      idle = waiting_.empty();
      if (idle && stopping_) break;
      lane.parked = idle;
    }
    if (idle) {  // whoever unparks this lane from now on posts the wake-up behind us
      boost::system::error_code woken;
      co_await lane.wake.async_wait(asio::redirect_error(asio::use_awaitable, woken));
      continue;
    }
    auto ops = std::make_shared<Ops>();
    auto job = [this, ops](Connection& c) -> Result<void> {
      *ops = take();  // now, not when the job was submitted: all that came while the last commit ran
      table_.begin();
      for (auto& op : *ops) {
        FLEXI_TRY(op->run(c, table_));
      }
      return table_.flush(c);
    };
    auto written = co_await database_.write(runtime::sqlite::Atomicity::many_statements, job, {});
    if (!written && ops->empty()) *ops = take();  // the database did not even take the job
    answer(std::move(*ops), written ? nullptr : &written.error());
  }
}

/// Each executor gets one post for all its answers.
void WriteBatcher::answer(Ops ops, const core::Error* failure) {
  const bool work = !failure && std::any_of(ops.begin(), ops.end(), [](auto& op) { return op->brings_work(); });
  std::vector<std::pair<asio::any_io_executor, Ops>> groups;
  for (auto& op : ops) {
    auto executor = op->executor();
    auto group = std::find_if(groups.begin(), groups.end(), [&](auto& g) { return g.first == executor; });
    if (group == groups.end()) group = groups.insert(groups.end(), {executor, Ops{}});
    group->second.push_back(std::move(op));
  }
  for (auto& [executor, mine] : groups) {
    asio::post(executor, [mine = std::move(mine), failure = failure ? std::optional(*failure) : std::nullopt] {
      for (auto& op : mine) op->answer(failure ? &*failure : nullptr);
    });
  }
  if (work) on_work_();
}

asio::awaitable<void> WriteBatcher::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    wake_lane();
    wake_lane();
  }
  co_await scope_.join();
}

}  // namespace flexi::transports::queue
