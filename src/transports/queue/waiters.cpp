// SPDX-License-Identifier: Apache-2.0
#include "transports/queue/waiters.hpp"

namespace flexi::transports::queue {

void Waiters::add(std::int64_t seq, Waiter waiter) {
  std::lock_guard lock(mutex_);
  waiters_[seq].push_back(std::move(waiter));
}

void Waiters::remove(std::int64_t seq, const Waiter& waiter) {
  std::lock_guard lock(mutex_);
  auto it = waiters_.find(seq);
  if (it == waiters_.end()) return;
  std::erase(it->second, waiter);
  if (it->second.empty()) waiters_.erase(it);
}

bool Waiters::has(std::int64_t seq) const {
  std::lock_guard lock(mutex_);
  return waiters_.contains(seq);
}

void Waiters::complete(const Waiter& waiter, const core::Result<core::Reply>& result) {
  if (!result) return waiter->complete(core::Result<core::Reply>(result.error()));
  core::Reply copy;  // a Reply can't be copied: it may hold a stream, which no queued action's has
  copy.message = result.value().message, copy.data = result.value().data, copy.next = result.value().next;
  copy.duplicate = result.value().duplicate, copy.way = result.value().way;
  waiter->complete(std::move(copy));
}

void Waiters::answer(std::int64_t seq, const core::Result<core::Reply>& result) {
  std::vector<Waiter> mine;
  {
    std::lock_guard lock(mutex_);
    auto it = waiters_.find(seq);
    if (it == waiters_.end()) return;
    mine = std::move(it->second);
    waiters_.erase(it);
  }
  for (auto& waiter : mine) complete(waiter, result);
}

void Waiters::answer_all(const core::Error& error) {
  decltype(waiters_) all;
  {
    std::lock_guard lock(mutex_);
    all.swap(waiters_);
  }
  for (auto& [seq, waiters] : all)
    for (auto& waiter : waiters) complete(waiter, core::Result<core::Reply>(error));
}

}  // namespace flexi::transports::queue
