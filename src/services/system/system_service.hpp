// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/handler.hpp"
#include "runtime/readiness.hpp"

namespace flexi::services::system {

/// Something that the process can tell of itself: the queue, the ways, the stores, the peers.
struct SystemPart {
  std::string name;  ///< its field in the answer
  /// @return JSON text
  std::function<core::awaitable<core::Result<std::string>>(core::CallContext context)> describe;
};

struct SystemOptions {
  std::string version;
  std::string role;  ///< "all-in-one", or the service's command
  std::chrono::milliseconds part_timeout{1'000};  ///< what one part may take; then the others are told without it
};

/// Action system.get: everything that this process knows of its health, in one answer.
/// Lifetime/threads: any thread; `readiness` and what the parts refer to outlive it
class SystemService final : public core::Handler {
 public:
  SystemService(SystemOptions options, const runtime::Readiness& readiness, std::vector<SystemPart> parts);
  /// @return Reply with {"version","role","pid","started_at","uptime_seconds","readiness",…}; a part that fails is {"error":"…"} in its
  ///         place; unimplemented for other actions
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override;

 private:
  const SystemOptions options_;
  const runtime::Readiness& readiness_;
  const std::vector<SystemPart> parts_;
  const core::Timestamp started_;
  const std::chrono::steady_clock::time_point began_;
};

}  // namespace flexi::services::system
