// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "core/handler.hpp"

namespace flexi::core {

/// What stop() may take: refuse new work at once, let running work end within `grace`, then cancel and join.
struct StopOptions {
  std::chrono::milliseconds grace{5000};
};

/// One listening end of a transport. It serves the Handler it was made with until it is stopped.
class Server {
 public:
  virtual ~Server() = default;
  /// Where a client of the same transport finds it, e.g. "http://127.0.0.1:8080".
  virtual std::string endpoint() const = 0;
  /// After it returns, nothing of this server runs and the Handler is free. Called once.
  virtual awaitable<void> stop(StopOptions options) = 0;
};

/// A remote Handler. Reconnects by itself; never retries a request.
class Client : public Handler {
 public:
  /// Running calls end or are cancelled; later ones are `unavailable`. Called once.
  virtual awaitable<void> stop(StopOptions options) = 0;
};

/// One wire protocol: serves any Handler, and is a Handler to a remote one.
/// Lifetime/threads: outlives its servers and clients; serve() and connect() are called from any thread.
class Transport {
 public:
  virtual ~Transport() = default;
  virtual Via via() const = 0;
  std::string_view name() const { return to_string(via()); }
  /// Starts to serve where the transport's options say.
  /// @return unavailable with what, where and why (address in use, no permission)
  virtual Result<std::unique_ptr<Server>> serve(Handler& handler) = 0;
  /// A client of `endpoint`, which need not be up yet.
  /// @return invalid_argument where the endpoint can't be understood
  virtual Result<std::unique_ptr<Client>> connect(std::string endpoint) = 0;
};

}  // namespace flexi::core
