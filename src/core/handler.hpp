// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/call_context.hpp"
#include "core/reply.hpp"
#include "core/request.hpp"

namespace flexi::core {

/// The one shape of everything that answers: each service is one, each transport serves any one and is one to a remote
/// one, and deadline, retry, fallback, limits and metrics are Handlers that wrap Handlers.
class Handler {
 public:
  virtual ~Handler() = default;
  /// @return Reply; unimplemented where the action is not this handler's
  /// Cancellation: honoured wherever the call waits
  /// Lifetime/threads: any thread that runs an io_context; the handler outlives the call
  virtual awaitable<Result<Reply>> handle(Request request, CallContext context) = 0;
};

}  // namespace flexi::core
