// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string_view>

#include "core/handler.hpp"
#include "runtime/log_sink.hpp"

namespace flexi::services::listener {

/// The service that owns an action; null: none does.
using Route = std::function<core::Handler*(std::string_view action)>;

/// The broker's twin behind the queue: gives each consumed message to the service that owns it, once. The queue
/// decides, by the answer, whether the message is done, tried again or dead, and is the one that says so in the log.
/// Lifetime/threads: any thread; the routed handlers and `log` outlive it
class ListenerService final : public core::Handler {
 public:
  ListenerService(Route route, runtime::LogSink& log);
  /// @return the service's answer; unimplemented where no service owns the action
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override;

 private:
  Route route_;
  runtime::LogSink& log_;
};

}  // namespace flexi::services::listener
