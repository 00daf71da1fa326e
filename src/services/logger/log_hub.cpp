// SPDX-License-Identifier: Apache-2.0
#include "services/logger/log_hub.hpp"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <deque>
#include <mutex>
#include <vector>

#include "core/timestamp.hpp"
#include "runtime/json.hpp"
#include "runtime/trace_json.hpp"

namespace flexi::services::logger {

namespace asio = boost::asio;

namespace {

std::string fold_case(std::string_view text) {
  std::string folded(text);
  for (char& c : folded)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return folded;
}

/// One entry on its way to many subscribers: what costs is done once, and only if one of them needs it.
class Event {
 public:
  explicit Event(const core::LogRecord& record) : record_(record) {}

  bool passes(const TailFilter& filter) {
    if (!filter.name.empty() && filter.name != record_.name) return false;
    if (filter.q.empty()) return true;
    if (!folded_) folded_ = std::pair(fold_case(record_.name), fold_case(record_.data));
    return folded_->first.find(filter.q) != std::string::npos || folded_->second.find(filter.q) != std::string::npos;
  }
  const std::shared_ptr<const std::string>& text() {
    if (!text_) text_ = std::make_shared<const std::string>(to_json(record_));
    return text_;
  }

 private:
  const core::LogRecord& record_;
  std::optional<std::pair<std::string, std::string>> folded_;
  std::shared_ptr<const std::string> text_;
};

/// What waits for one reader.
class Subscriber {
 public:
  Subscriber(TailFilter wanted, const LogHubLimits& limits) : filter(std::move(wanted)), limits_(limits) {}

  void push(const std::shared_ptr<const std::string>& text) {
    std::lock_guard lock(mutex_);
    events_.push_back(text);
    bytes_ += text->size();
    while (events_.size() > limits_.events || (bytes_ > limits_.bytes && events_.size() > 1)) {
      bytes_ -= events_.front()->size();
      events_.pop_front();
      ++dropped_;
    }
    wake();
  }
  void close() {
    std::lock_guard lock(mutex_);
    closed_ = true;
    wake();
  }

  struct Taken {
    std::optional<std::string> event{};
    bool ended = false;
  };
  /// The next event; where there is none, `waiter` is cancelled when there is.
  Taken take_or_wait(const std::shared_ptr<asio::steady_timer>& waiter) {
    std::lock_guard lock(mutex_);
    if (dropped_ > 0) return {.event = "{\"dropped\":" + std::to_string(std::exchange(dropped_, 0)) + "}"};
    if (!events_.empty()) {
      auto text = std::move(events_.front());
      events_.pop_front();
      bytes_ -= text->size();
      return {.event = *text};
    }
    if (closed_) return {.ended = true};
    waiter_ = waiter;
    return {};
  }
  void stop_waiting() {
    std::lock_guard lock(mutex_);
    waiter_.reset();
  }

  const TailFilter filter;

 private:
  void wake() {
    if (!waiter_) return;
    // On the reader's thread: a timer is nobody else's to touch.
    asio::post(waiter_->get_executor(), [waiter = waiter_] { waiter->cancel(); });
    waiter_.reset();
  }

  const LogHubLimits& limits_;  ///< of the hub's state, which the stream keeps alive
  std::mutex mutex_;
  std::deque<std::shared_ptr<const std::string>> events_;
  std::size_t bytes_ = 0;
  std::uint64_t dropped_ = 0;
  bool closed_ = false;
  std::shared_ptr<asio::steady_timer> waiter_;  ///< of a reader that waits
};

}  // namespace

struct LogHub::State {
  LogHubLimits limits;
  std::atomic<std::size_t> count{0};
  std::mutex mutex;
  std::vector<std::shared_ptr<Subscriber>> subscribers;
  bool closed = false;
};

namespace {

class TailStream final : public core::EventStream {
 public:
  TailStream(std::shared_ptr<LogHub::State> hub, std::shared_ptr<Subscriber> subscriber) : hub_(std::move(hub)), subscriber_(std::move(subscriber)) {}
  ~TailStream() override {
    std::lock_guard lock(hub_->mutex);
    std::erase(hub_->subscribers, subscriber_);
    hub_->count.store(hub_->subscribers.size(), std::memory_order_relaxed);
  }

  core::awaitable<core::Result<std::optional<std::string>>> next(core::CallContext context) override {
    using Next = core::Result<std::optional<std::string>>;
    auto timer = std::make_shared<asio::steady_timer>(co_await asio::this_coro::executor, context.deadline);
    for (;;) {
      auto taken = subscriber_->take_or_wait(timer);
      if (taken.event) co_return Next(std::move(taken.event));
      if (taken.ended) co_return Next(std::optional<std::string>());
      boost::system::error_code ended;
      if (!context.expired()) co_await timer->async_wait(asio::redirect_error(asio::use_awaitable, ended));
      subscriber_->stop_waiting();
      auto cancellation = co_await asio::this_coro::cancellation_state;
      if (cancellation.cancelled() != asio::cancellation_type::none) co_return core::cancelled("the reader went away");
      if (context.expired()) co_return core::deadline_exceeded("no new log entry in time");
    }
  }

 private:
  std::shared_ptr<LogHub::State> hub_;
  std::shared_ptr<Subscriber> subscriber_;
};

}  // namespace

std::string to_json(const core::LogRecord& record) {
  runtime::JsonWriter json;
  json.begin_object().field("id", record.id.str()).field("name", record.name).field("data", record.data);
  json.field("created_at", core::to_rfc3339(record.created_at)).field("updated_at", core::to_rfc3339(record.updated_at));
  if (record.via != core::Via::automatic) json.field("way", core::to_string(record.via));
  runtime::write_trace(json, core::to_string(record.trace_id), record.hops);
  json.end_object();
  return json.take();
}

LogHub::LogHub(LogHubLimits limits) : state_(std::make_shared<State>()) { state_->limits = limits; }

LogHub::~LogHub() { close(); }

bool LogHub::has_subscribers() const { return state_->count.load(std::memory_order_relaxed) != 0; }

void LogHub::publish(const core::LogRecord& record) {
  if (!has_subscribers()) return;
  Event event(record);
  std::lock_guard lock(state_->mutex);
  for (auto& subscriber : state_->subscribers)
    if (event.passes(subscriber->filter)) subscriber->push(event.text());
}

core::Result<std::unique_ptr<core::EventStream>> LogHub::subscribe(TailFilter filter) {
  filter.q = fold_case(filter.q);
  std::lock_guard lock(state_->mutex);
  if (state_->closed) return core::unavailable("the logger is stopping");
  if (state_->subscribers.size() >= state_->limits.subscribers) {
    auto error = core::overloaded("too many readers follow the log already");
    error.retry_after = std::chrono::seconds(10);
    return error;
  }
  auto subscriber = std::make_shared<Subscriber>(std::move(filter), state_->limits);
  state_->subscribers.push_back(subscriber);
  state_->count.store(state_->subscribers.size(), std::memory_order_relaxed);
  return std::unique_ptr<core::EventStream>(std::make_unique<TailStream>(state_, std::move(subscriber)));
}

void LogHub::close() {
  std::lock_guard lock(state_->mutex);
  state_->closed = true;
  for (auto& subscriber : state_->subscribers) subscriber->close();
}

}  // namespace flexi::services::logger
