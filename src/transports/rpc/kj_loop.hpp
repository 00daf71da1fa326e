// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <kj/async.h>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/io_context.hpp>
#include <memory>
#include <optional>
#include <vector>

#include "runtime/completion.hpp"
#include "runtime/log_sink.hpp"

namespace flexi::transports::rpc {

/// A thread's kj event loop, hosted in the io_context that the thread runs: kj's events run in handlers of the
/// io_context, so both worlds share one thread and nothing needs a lock. Servers and clients of one thread share it.
/// Lifetime/threads: one thread only, made and destroyed on it; whoever holds kj objects holds this, too
class KjLoop final : public std::enable_shared_from_this<KjLoop>, private kj::EventPort {
  struct Private {};

 public:
  /// Called after kj's events have run, once for each time it was asked for: what they did together is then written
  /// together.
  class AfterEvents {
   public:
    virtual void after_events() = 0;

   protected:
    ~AfterEvents() = default;
  };

  /// The calling thread's loop, made where there is none.
  /// @param executor an io_context's, which this thread runs
  /// @param log      outlives the loop
  static std::shared_ptr<KjLoop> here(const boost::asio::any_io_executor& executor, runtime::LogSink& log);

  KjLoop(Private, const boost::asio::any_io_executor& executor, runtime::LogSink& log);
  ~KjLoop() noexcept;

  /// `who` is told once kj's events have run; at the latest in the io_context's next turn. First those who asked for
  /// `answers` (they may cause more events), at last those who asked for `output`.
  enum class Order { answers, output };
  void call_after_events(AfterEvents& who, Order order);
  /// `who` is about to end.
  void forget(AfterEvents& who);
  /// Runs what is due now. Never from within a kj event.
  void run();

 private:
  bool wait() override;
  bool poll() override;
  void setRunnable(bool runnable) override;
  void schedule();
  void run_events();
  static bool take(std::vector<AfterEvents*>& list, AfterEvents*& who);

  boost::asio::io_context::executor_type executor_;
  runtime::LogSink& log_;
  kj::EventLoop loop_;
  std::optional<kj::WaitScope> scope_;
  std::vector<AfterEvents*> answers_, output_;
  bool scheduled_ = false, running_ = false;
};

/// What a kj exception means to a caller.
/// Source: capnp/rpc.capnp, Exception.Type
core::Error error_of(const kj::Exception& exception, core::Sent sent);

/// Runs `action`, which destroys kj objects: what their destructors throw is logged, never passed on.
template <class Action>
void destroy_quietly(runtime::LogSink& log, Action action) {
  auto failure = kj::runCatchingExceptions(std::move(action));
  KJ_IF_MAYBE(e, failure) log.warning("rpc: a destructor failed", {{"detail", std::string_view(e->getDescription().cStr())}});
}

/// Suspends the coroutine until the promise is done; the promise is dropped when the coroutine is cancelled.
inline boost::asio::awaitable<core::Result<void>> wait_for(kj::Promise<void> promise) {
  kj::Promise<void> pending = nullptr;
  auto start = [&](std::shared_ptr<runtime::Completion<void>> done) {
    // Posted, not resolved: a kj promise must not be destroyed by its own event.
    pending = promise.then([done] { done->complete(core::ok()); },
                           [done](kj::Exception&& e) { done->complete(error_of(e, core::Sent::maybe)); })
                  .eagerlyEvaluate(nullptr);
  };
  co_return co_await runtime::wait_for_completion<void>(std::move(start), runtime::cancelled_error(core::Sent::maybe));
}

}  // namespace flexi::transports::rpc
