// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "core/handler.hpp"

namespace flexi::services::broker {

/// Stands before what a token opens: administration, and the actions that are protected. Whose token it is, and whether he may still log
/// in, the authentication service says each time: a token of somebody who was disabled is worth nothing from that moment on.
/// Lifetime/threads: any thread; all that it is given outlives it
class TokenGate final : public core::Handler {
 public:
  /// @param accounts answers "me.get"
  TokenGate(core::Handler& inner, core::Handler& accounts, std::vector<std::string> protected_actions)
      : inner_(inner), accounts_(accounts), protected_(std::move(protected_actions)) {}

  /// @return unauthenticated where a token is missing or not valid; permission_denied where it is no administrator's; else as `inner`
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override;

 private:
  core::awaitable<core::Result<core::Reply>> admit(core::Request request, core::CallContext context);
  bool is_protected(const std::string& action) const;
  core::Handler& inner_;
  core::Handler& accounts_;
  const std::vector<std::string> protected_;
};

}  // namespace flexi::services::broker
