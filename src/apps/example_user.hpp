// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "apps/process.hpp"
#include "core/user_store.hpp"
#include "runtime/task_scope.hpp"

namespace flexi::apps {

/// Sees to it that an empty user store gets the contract's example user, at the start or as soon as its database is there.
/// Lifetime/threads: add() and stop() on shard 0; stop() before the store goes
class ExampleUser {
 public:
  explicit ExampleUser(Process& process) : log_(process.log), later_(process.shards.executor(0), "example user", process.log) {}
  enum class When { now, once_it_can };  ///< once_it_can: returns at once, the database may be away
  core::awaitable<void> add(core::UserStore& users, When when);
  core::awaitable<void> stop();

 private:
  /// @return false: it is worth another try
  core::awaitable<bool> try_to_add(core::UserStore& users);
  core::awaitable<void> keep_trying(core::UserStore& users);
  runtime::LogSink& log_;
  runtime::TaskScope later_;
};

}  // namespace flexi::apps
