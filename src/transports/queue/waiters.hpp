// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/handler.hpp"
#include "runtime/completion.hpp"

namespace flexi::transports::queue {

/// Callers that wait until their message is stored, by message. In process only: after a restart nobody waits.
/// Lifetime/threads: any thread
class Waiters {
 public:
  using Waiter = std::shared_ptr<runtime::Completion<core::Reply>>;

  void add(std::int64_t seq, Waiter waiter);
  void remove(std::int64_t seq, const Waiter& waiter);
  bool has(std::int64_t seq) const;
  /// Answers all who wait for this message.
  void answer(std::int64_t seq, const core::Result<core::Reply>& result);
  void answer_all(const core::Error& error);

 private:
  static void complete(const Waiter& waiter, const core::Result<core::Reply>& result);
  mutable std::mutex mutex_;
  std::unordered_map<std::int64_t, std::vector<Waiter>> waiters_;
};

}  // namespace flexi::transports::queue
