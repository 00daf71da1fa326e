// SPDX-License-Identifier: Apache-2.0
#include "runtime/policies/instrumented.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <boost/asio/error.hpp>
#include <iterator>
#include <mutex>

namespace flexi::runtime::policies {

namespace {

constexpr std::string_view kWays[] = {"", "inproc", "http", "rpc", "grpc", "amqp"};
constexpr std::size_t kOk = std::size(core::kAllErrorKinds), kDuplicate = kOk + 1, kOutcomes = kOk + 2;

std::size_t way_of(std::string_view way) {
  const auto name = way.substr(0, way.find(';'));
  for (std::size_t i = 0; i < std::size(kWays); ++i)
    if (kWays[i] == name) return i;
  return 0;
}

std::string outcome_name(std::size_t outcome) {
  if (outcome == kOk) return "ok";
  if (outcome == kDuplicate) return "duplicate";
  return std::string(core::to_string(core::kAllErrorKinds[outcome]));
}

std::size_t outcome_of(core::ErrorKind kind) {
  return static_cast<std::size_t>(std::find(std::begin(core::kAllErrorKinds), std::end(core::kAllErrorKinds), kind) - std::begin(core::kAllErrorKinds));
}

}  // namespace

/// The figures of one action.
class Instrumented::Row {
 public:
  Row(std::string action, Metrics& metrics) : action_(std::move(action)), metrics_(metrics) {}
  const std::string& action() const { return action_; }

  void record(std::size_t way, std::size_t outcome, std::chrono::duration<double> seconds) {
    auto& cell = cells_[way * kOutcomes + outcome];
    // Not made at start: a hundred series that never move would only bury the others.
    if (!cell.made.load(std::memory_order_acquire)) make(cell, way, outcome);
    cell.counter.add();
    if (!duration_made_.load(std::memory_order_acquire)) make_duration();
    duration_.observe(seconds.count());
  }

 private:
  struct Cell {
    std::atomic<bool> made{false};
    Metrics::Counter counter;
  };
  void make(Cell& cell, std::size_t way, std::size_t outcome) {
    std::lock_guard lock(mutex_);
    if (cell.made.load(std::memory_order_relaxed)) return;
    cell.counter = metrics_.counter("flexi_requests_total", "Requests by action, transport and outcome",
                                    {{"action", action_}, {"way", std::string(kWays[way])}, {"outcome", outcome_name(outcome)}});
    cell.made.store(true, std::memory_order_release);
  }
  void make_duration() {
    std::lock_guard lock(mutex_);
    if (duration_made_.load(std::memory_order_relaxed)) return;
    duration_ = metrics_.histogram("flexi_request_duration_seconds", "Time from a request's arrival to its answer", {{"action", action_}});
    duration_made_.store(true, std::memory_order_release);
  }

  std::string action_;
  Metrics& metrics_;
  std::mutex mutex_;
  std::array<Cell, std::size(kWays) * kOutcomes> cells_;
  std::atomic<bool> duration_made_{false};
  Metrics::Histogram duration_;
};

Instrumented::Instrumented(core::Handler& inner, Metrics& metrics, std::vector<std::string> actions, Now now)
    : inner_(inner), metrics_(metrics), now_(std::move(now)) {
  for (auto& action : actions) rows_.push_back(std::make_unique<Row>(std::move(action), metrics_));
  rows_.push_back(std::make_unique<Row>("other", metrics_));
}

Instrumented::~Instrumented() = default;

Instrumented::Row& Instrumented::row_of(std::string_view action) {
  for (auto& row : rows_)
    if (row->action() == action) return *row;
  return *rows_.back();
}

core::awaitable<core::Result<core::Reply>> Instrumented::pass(core::Handler& inner, core::Request request, core::CallContext context) {
  auto& row = row_of(request.action);
  const auto began = now_();
  try {
    auto result = co_await inner.handle(std::move(request), std::move(context));
    if (result) row.record(way_of(result.value().way), result.value().duplicate ? kDuplicate : kOk, now_() - began);
    else row.record(0, outcome_of(result.error().kind), now_() - began);
    co_return result;
  } catch (const boost::system::system_error& e) {
    // A cancelled coroutine leaves by this exception: its caller went away, nothing is wrong.
    const bool left = e.code() == boost::asio::error::operation_aborted;
    row.record(0, outcome_of(left ? core::ErrorKind::cancelled : core::ErrorKind::internal), now_() - began);
    throw;
  } catch (...) {
    row.record(0, outcome_of(core::ErrorKind::internal), now_() - began);
    throw;
  }
}

}  // namespace flexi::runtime::policies
