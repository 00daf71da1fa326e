// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transports/queue/queue_state.hpp"

namespace flexi::transports::queue {

/// Checks and commits messages, and lets callers of `stored` wait.
class Publisher {
 public:
  explicit Publisher(QueueState& state) : state_(state) {}
  /// @param consumed whether a consumer runs: without one nobody would answer `stored`
  core::awaitable<core::Result<core::Reply>> publish(core::Request request, core::CallContext context, bool consumed);

 private:
  core::Result<void> reserve(std::int64_t bytes);
  QueueState& state_;
};

}  // namespace flexi::transports::queue
