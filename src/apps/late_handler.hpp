// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>

#include "core/handler.hpp"

namespace flexi::apps {

/// A Handler that is known later: the broker is made before the server that its own loopback client calls.
/// Lifetime/threads: any thread
class LateHandler final : public core::Handler {
 public:
  void set(core::Handler& handler) { handler_.store(&handler); }
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override {
    if (auto* handler = handler_.load()) return handler->handle(std::move(request), std::move(context));
    return not_yet();
  }

 private:
  static core::awaitable<core::Result<core::Reply>> not_yet() { co_return core::unavailable("the process is starting"); }
  std::atomic<core::Handler*> handler_{nullptr};
};

}  // namespace flexi::apps
