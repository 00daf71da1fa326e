// SPDX-License-Identifier: Apache-2.0
// Private to this folder's sources.
#pragma once

#include "core/dead_letters.hpp"
#include "transports/amqp/amqp.hpp"
#include "transports/amqp/session.hpp"

namespace flexi::transports::amqp {

/// Looks at queues from outside, over a connection of its own for each operation: dead letters and depths.
///
/// Dead letters are taken with basic.get, unacknowledged, and given back. Who does so holds a lock, an exclusive queue, so
/// that each sees all of them; a process that dies gives back both.
/// Lifetime/threads: on the executor
class Desk {
 public:
  Desk(boost::asio::any_io_executor executor, const Shared& shared) : executor_(std::move(executor)), shared_(shared) {}

  core::awaitable<core::Result<core::DeadLetterPage>> list(unsigned limit, std::string cursor, core::CallContext context);
  core::awaitable<core::Result<core::DeadLetter>> get(core::DeadLetterKey key, core::CallContext context);
  enum class Fate { replay, discard };
  /// Every dead letter that `key` means.
  core::awaitable<core::Result<void>> end(core::DeadLetterKey key, Fate fate, core::CallContext context);
  core::awaitable<core::Result<core::DeadLettersSwept>> sweep(core::DeadLetterSweep what, core::CallContext context);
  core::awaitable<core::Result<std::vector<QueueDepth>>> depths(core::CallContext context);
  /// As depths() was told; empty: it did not get so far.
  const std::string& server_version() const { return server_version_; }

 private:
  boost::asio::any_io_executor executor_;
  const Shared& shared_;
  std::string server_version_;
};

}  // namespace flexi::transports::amqp
