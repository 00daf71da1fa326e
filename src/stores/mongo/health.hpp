// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <optional>

#include "core/error.hpp"

namespace flexi::stores::mongo {

/// Whether MongoDB can be used, and if not, why. While it can't, nobody waits for it in vain: one asks for all.
/// Lifetime/threads: any thread
class Health {
 public:
  explicit Health(std::function<void(const core::Error*)> on_change) : on_change_(std::move(on_change)) {}

  bool well() const { return well_; }
  core::Error why() const {
    std::lock_guard lock(mutex_);
    return why_;
  }
  void up() {
    std::lock_guard lock(mutex_);
    if (well_.exchange(true)) return;
    on_change_(nullptr);
  }
  /// @return whether that is news
  bool down(core::Error error) {
    std::lock_guard lock(mutex_);
    error.sent = core::Sent::no;  // of whoever is told so from now on
    const bool news = well_.exchange(false) || error.message != why_.message || !told_;
    why_ = std::move(error);
    told_ = true;
    if (news) on_change_(&why_);
    return news;
  }

 private:
  mutable std::mutex mutex_;
  std::atomic<bool> well_{false};
  bool told_ = false;
  core::Error why_ = core::unavailable("MongoDB has not been reached yet");
  const std::function<void(const core::Error*)> on_change_;
};

}  // namespace flexi::stores::mongo
