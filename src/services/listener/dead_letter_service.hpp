// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/dead_letters.hpp"

namespace flexi::services::listener {

/// Actions dlq.list, dlq.get, dlq.replay and dlq.discard over a queue's dead letters. The last two take an id, or {"all": true},
/// optionally with the action and the time that core::DeadLetterSweep has.
/// Lifetime/threads: any thread; `letters` outlives it
class DeadLetterService final : public core::Handler {
 public:
  explicit DeadLetterService(core::DeadLetters& letters) : letters_(letters) {}
  /// @return invalid_argument that names the field; not_found; conflict where letters of several actions have the id; unimplemented for other actions
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override;

 private:
  core::awaitable<core::Result<core::Reply>> list(core::Request request, core::CallContext context);
  core::awaitable<core::Result<core::Reply>> one(core::Request request, core::CallContext context);
  core::awaitable<core::Result<core::Reply>> all(core::Request request, core::CallContext context);
  core::DeadLetters& letters_;
};

}  // namespace flexi::services::listener
