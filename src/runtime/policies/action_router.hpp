// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "core/handler.hpp"

namespace flexi::runtime::policies {

struct ActionRoute {
  std::string action;  ///< "log"; or a prefix that ends with a dot: "logs." stands for "logs.list", "logs.tail", …
  core::Handler& handler;
};

/// Hands each request to the handler of its action; an exact action wins over a prefix, a longer prefix over a shorter.
/// Costs a comparison per route and no coroutine of its own.
/// Lifetime/threads: any thread; the handlers outlive it
class ActionRouter final : public core::Handler {
 public:
  /// @param otherwise for all other actions; none: they are unimplemented `unknown action`
  /// Throws std::invalid_argument for an action that is routed twice: a bug of the composition, found at start-up.
  explicit ActionRouter(std::vector<ActionRoute> routes, core::Handler* otherwise = nullptr);
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override;

 private:
  struct Known {
    std::string action;
    core::Handler* handler;
  };
  core::Handler* find(std::string_view action) const;
  std::vector<Known> exact_;
  std::vector<Known> prefixes_;  ///< longest first
  core::Handler* otherwise_;
};

}  // namespace flexi::runtime::policies
