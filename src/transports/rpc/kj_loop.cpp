// SPDX-License-Identifier: Apache-2.0
#include "transports/rpc/kj_loop.hpp"

#include <kj/exception.h>

#include <algorithm>
#include <boost/asio/post.hpp>

namespace flexi::transports::rpc {

namespace asio = boost::asio;

namespace {

// kj itself allows one loop per thread and keeps it in a thread-local: this is its other half.
thread_local std::weak_ptr<KjLoop> this_threads_loop;

constexpr unsigned kEventsAtOnce = 10'000;  // then sockets and timers get their turn
constexpr int kRoundsAtOnce = 16;

/// While it lives kj's own log lines go to ours, and kj's exceptions cost no stack trace: strangers can cause many.
class KjLog final : public kj::ExceptionCallback {
 public:
  explicit KjLog(runtime::LogSink& log) : log_(log) {}
  void logMessage(kj::LogSeverity severity, const char*, int, int, kj::String&& text) override {
    if (severity >= kj::LogSeverity::ERROR) log_.warning("rpc", {{"detail", std::string_view(text.cStr(), text.size())}});
  }
  StackTraceMode stackTraceMode() override { return StackTraceMode::NONE; }

 private:
  runtime::LogSink& log_;
};

}  // namespace

std::shared_ptr<KjLoop> KjLoop::here(const asio::any_io_executor& executor, runtime::LogSink& log) {
  auto loop = this_threads_loop.lock();
  if (!loop) {
    loop = std::make_shared<KjLoop>(Private(), executor, log);
    this_threads_loop = loop;
  }
  return loop;
}

KjLoop::KjLoop(Private, const asio::any_io_executor& executor, runtime::LogSink& log)
    : executor_(*executor.target<asio::io_context::executor_type>()), log_(log), loop_(*this) {
  scope_.emplace(loop_);
}

KjLoop::~KjLoop() noexcept {
  // Calls that were cancelled as their connection ended are still on their way out.
  destroy_quietly(log_, [this] {
    while (loop_.isRunnable()) loop_.run();
  });
  destroy_quietly(log_, [this] { scope_.reset(); });
}

void KjLoop::call_after_events(AfterEvents& who, Order order) {
  (order == Order::answers ? answers_ : output_).push_back(&who);
  schedule();
}

void KjLoop::forget(AfterEvents& who) {
  std::erase(answers_, &who);
  std::erase(output_, &who);
}

// Nobody may wait() in a coroutine's thread.
bool KjLoop::wait() { return false; }
bool KjLoop::poll() { return false; }

void KjLoop::setRunnable(bool runnable) {
  if (runnable) schedule();
}

void KjLoop::schedule() {
  if (scheduled_ || running_) return;
  scheduled_ = true;
  asio::post(executor_, [self = shared_from_this()] {
    self->scheduled_ = false;
    self->run();
  });
}

bool KjLoop::take(std::vector<AfterEvents*>& list, AfterEvents*& who) {
  if (list.empty()) return false;
  who = list.back();
  list.pop_back();
  return true;
}

void KjLoop::run() {
  if (running_) return;
  const auto self = shared_from_this();
  running_ = true;
  AfterEvents* who = nullptr;
  for (int round = 0; round < kRoundsAtOnce && (loop_.isRunnable() || !answers_.empty()); ++round) {
    run_events();
    while (take(answers_, who)) who->after_events();
  }
  while (take(output_, who)) who->after_events();
  running_ = false;
  if (loop_.isRunnable() || !answers_.empty() || !output_.empty()) schedule();
}

// kj checks that a callback stands on the real stack, which AddressSanitizer would keep it from.
__attribute__((no_sanitize("address"), noinline)) void KjLoop::run_events() {
  KjLog log(log_);
  auto failure = kj::runCatchingExceptions([this] { loop_.run(kEventsAtOnce); });
  KJ_IF_MAYBE(e, failure) {
    log_.error("rpc: an event failed", {{"detail", std::string_view(e->getDescription().cStr())}});
    loop_.run(0);  // the loop was left in the middle: it must know again whether it is runnable
  }
}

core::Error error_of(const kj::Exception& exception, core::Sent sent) {
  const std::string detail(exception.getDescription().cStr());
  core::Error error;
  switch (exception.getType()) {
    case kj::Exception::Type::DISCONNECTED: error = core::unavailable("the connection to the service broke", detail); break;
    case kj::Exception::Type::OVERLOADED:
      error = core::overloaded("the service is overloaded", detail);
      error.retry_after = std::chrono::seconds(1);
      break;
    case kj::Exception::Type::UNIMPLEMENTED:
      error = core::unimplemented("the service has no such object or method", detail);
      error.answered = true;
      sent = core::Sent::no;
      break;
    case kj::Exception::Type::FAILED:
      error = core::internal("the service failed", detail);
      error.answered = true;
      break;
  }
  error.sent = sent;
  return error;
}

}  // namespace flexi::transports::rpc
