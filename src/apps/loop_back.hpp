// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <mutex>
#include <string>
#include <unordered_map>

#include "core/handler.hpp"

namespace flexi::apps {

/// The ids of the process's own calls that are on their way through its own listeners. A stranger can't know the id of a
/// call that is under way, so the id is what tells them apart.
/// Lifetime/threads: any thread
class OwnCalls {
 public:
  /// Notes one call as long as it lives.
  class Note {
   public:
    Note(OwnCalls& calls, std::string id) : calls_(calls), id_(std::move(id)) {
      std::lock_guard lock(calls_.mutex_);
      ++calls_.ids_[id_];
      ++calls_.count_;
    }
    ~Note() {
      std::lock_guard lock(calls_.mutex_);
      if (auto it = calls_.ids_.find(id_); --it->second == 0) calls_.ids_.erase(it);
      --calls_.count_;
    }
    Note(const Note&) = delete;
    Note& operator=(const Note&) = delete;

   private:
    OwnCalls& calls_;
    std::string id_;
  };

  bool holds(const std::string& id) const {
    if (count_.load() == 0) return false;  // most processes never loop back: they take no lock
    std::lock_guard lock(mutex_);
    return ids_.contains(id);
  }

 private:
  mutable std::mutex mutex_;
  std::unordered_map<std::string, unsigned> ids_;  ///< one id may go twice: a second try, a caller's key
  std::atomic<std::size_t> count_{0};
};

/// A way out of the process and back into its own listener. The broker is made before the listener that this calls, so
/// the client is known later.
/// Lifetime/threads: any thread; `calls` outlives it
class LoopBack final : public core::Handler {
 public:
  explicit LoopBack(OwnCalls& calls) : calls_(calls) {}
  void set(core::Handler& client) { client_.store(&client); }
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override {
    auto* client = client_.load();
    if (!client) co_return core::unavailable("the process is starting");
    const OwnCalls::Note note(calls_, request.id.str());
    co_return co_await client->handle(std::move(request), std::move(context));
  }

 private:
  OwnCalls& calls_;
  std::atomic<core::Handler*> client_{nullptr};
};

/// What the listeners of a process with a broker serve as its services: the process's own calls passed the broker's
/// limits on their way out, and must not wait for room a second time.
/// Lifetime/threads: any thread; all that it is given outlives it
class ServicesDoor final : public core::Handler {
 public:
  ServicesDoor(const OwnCalls& calls, core::Handler& services, core::Handler& limited) : calls_(calls), services_(services), limited_(limited) {}
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override {
    auto& next = calls_.holds(request.id.str()) ? services_ : limited_;
    return next.handle(std::move(request), std::move(context));
  }

 private:
  const OwnCalls& calls_;
  core::Handler& services_;
  core::Handler& limited_;
};

}  // namespace flexi::apps
