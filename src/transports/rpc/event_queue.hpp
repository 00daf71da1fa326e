// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "core/handler.hpp"
#include "flexiconnect.capnp.h"
#include "runtime/completion.hpp"

namespace flexi::transports::rpc {

/// A tail as its reader's process keeps it: a few events, and what ends it. Full, it keeps the peer waiting.
/// Lifetime/threads: the shard's thread, but for closed()
class EventQueue {
 public:
  EventQueue(boost::asio::any_io_executor executor, std::size_t limit) : executor_(std::move(executor)), limit_(limit) {}

  /// The object that the peer calls.
  static ::flexiconnect::EventSink::Client make_sink(std::shared_ptr<EventQueue> queue);
  /// What core's Reply carries; its end gives the subscription up.
  static std::unique_ptr<core::EventStream> make_stream(std::shared_ptr<EventQueue> queue);

  /// Kept until the reader leaves.
  void subscribed(::flexiconnect::Subscription::Client subscription) {
    if (!ended_) subscription_ = kj::mv(subscription);
  }
  /// No more events come: the source has ended, or `failure`. Drops all kj objects.
  void end(std::optional<core::Error> failure);
  bool closed() const { return closed_; }

 private:
  class Sink;
  class Stream;
  kj::Promise<void> push(std::string event);
  core::awaitable<core::Result<std::optional<std::string>>> next(core::CallContext context);
  void wake();
  void make_room();

  const boost::asio::any_io_executor executor_;
  const std::size_t limit_;
  std::deque<std::string> events_;
  std::shared_ptr<runtime::Completion<void>> waiting_;
  kj::Maybe<kj::Own<kj::PromiseFulfiller<void>>> room_;  ///< somebody waits for the queue to shrink
  kj::Maybe<::flexiconnect::Subscription::Client> subscription_;
  std::optional<core::Error> failure_;
  bool ended_ = false;
  std::atomic<bool> closed_ = false;  ///< no kj object is left
};

}  // namespace flexi::transports::rpc
