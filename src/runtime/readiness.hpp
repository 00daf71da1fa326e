// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <string>

namespace flexi::runtime {

/// Whether this process can do its work, and if not, why: what `GET /readyz` answers. Liveness (`/healthz`) never asks.
/// Lifetime/threads: any thread
class Readiness {
 public:
  /// A named part is well.
  void set_ready(const std::string& part);
  /// A named part is not; `why` may be shown to a stranger.
  void set_unready(const std::string& part, std::string why);
  /// The process is stopping: unready for good, whatever the parts say.
  void drain();

  bool ready() const;
  bool draining() const;
  /// Why a part is not well; empty: it is, or there is none of this name.
  std::string why(const std::string& part) const;
  /// {"ready":bool,"draining":bool,"parts":{"<part>":"ok"|"<why>"}}
  std::string to_json() const;

  /// While it lives, its function is called after each change of ready() or draining(), on the thread that makes it. The function
  /// posts to where the change matters: it must neither wait nor ask this Readiness.
  /// Lifetime/threads: any thread; after the destructor no call is made; goes before its Readiness
  class Subscription {
   public:
    Subscription(Readiness& readiness, std::function<void()> changed);
    ~Subscription();
    Subscription(const Subscription&) = delete;
    Subscription& operator=(const Subscription&) = delete;

   private:
    Readiness& readiness_;
    std::list<std::function<void()>>::iterator place_;
  };
  [[nodiscard]] Subscription subscribe(std::function<void()> changed) { return {*this, std::move(changed)}; }

 private:
  bool ready_locked() const;
  /// Makes a change under the lock and tells of it.
  template <class Change>
  void change(Change make);

  mutable std::mutex mutex_;
  std::list<std::function<void()>> subscribers_;
  std::map<std::string, std::string> parts_;  ///< empty text: well
  bool draining_ = false;
};

}  // namespace flexi::runtime
