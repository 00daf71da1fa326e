// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/intrusive/list.hpp>
#include <chrono>
#include <memory>

#include "runtime/completion.hpp"

namespace flexi::transports::rpc {

/// The deadlines of a client's calls on one shard, looked at by its timer; a call's entry is part of its frame.
/// Lifetime/threads: the shard's thread
class Deadlines {
 public:
  using Clock = std::chrono::steady_clock;

  /// While it lives, `waiting` is answered with deadline_exceeded once `at` has passed.
  class Watch : public boost::intrusive::list_base_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {
   public:
    Watch(Deadlines& all, Clock::time_point at, core::Sent sent) : at_(at), sent_(sent) { all.entries_.push_back(*this); }
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;
    void wait_for(std::shared_ptr<runtime::Completion<void>> waiting) { waiting_ = std::move(waiting); }
    bool expired() const { return expired_; }

   private:
    friend class Deadlines;
    Clock::time_point at_;
    core::Sent sent_;
    std::shared_ptr<runtime::Completion<void>> waiting_;
    bool expired_ = false;
  };

  void expire(Clock::time_point now) {
    for (auto& entry : entries_) {
      if (entry.at_ > now || !entry.waiting_) continue;
      entry.expired_ = true;
      // Posted: whoever waits may end, and leave the list, when it is resolved.
      entry.waiting_->complete(runtime::cancelled_error(entry.sent_));
      entry.waiting_.reset();
    }
  }
  /// Every call that waits is over now.
  void expire_all() { expire(Clock::time_point::max()); }

 private:
  boost::intrusive::list<Watch, boost::intrusive::constant_time_size<false>> entries_;
};

}  // namespace flexi::transports::rpc
