// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <functional>
#include <list>
#include <memory>

#include "runtime/task_scope.hpp"

namespace flexi::transports::http {

/// The deadlines of a client's calls on one shard, looked at every 20 ms by one timer that sleeps while there are none.
/// Lifetime/threads: the shard's thread
class Deadlines {
 public:
  using Clock = std::chrono::steady_clock;
  struct Entry {
    Clock::time_point at;
    std::function<void()> expire;
    bool expired = false;
  };

  explicit Deadlines(boost::asio::any_io_executor executor) : ticker_(executor) {}

  boost::asio::awaitable<void> run() {
    while (!stopped_) {
      ticker_.expires_after(entries_.empty() ? std::chrono::milliseconds(std::chrono::hours(1)) : std::chrono::milliseconds(20));
      boost::system::error_code ec;
      co_await ticker_.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ec));
      expire(Clock::now());
    }
  }
  void stop() {
    stopped_ = true;
    ticker_.cancel();
  }
  bool stopped() const { return stopped_; }
  /// Every call that waits is over now.
  void expire_all() { expire(Clock::time_point::max()); }

  /// While it lives `expire` is called, once, when `at` has passed.
  class Watch {
   public:
    Watch(Deadlines& all, Clock::time_point at, std::function<void()> expire) : all_(all) {
      if (all_.entries_.empty()) all_.ticker_.cancel();
      where_ = all_.entries_.insert(all_.entries_.end(), std::make_shared<Entry>(Entry{at, std::move(expire)}));
    }
    ~Watch() {
      (*where_)->expire = nullptr;
      all_.entries_.erase(where_);
    }
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;
    bool expired() const { return (*where_)->expired; }

   private:
    Deadlines& all_;
    std::list<std::shared_ptr<Entry>>::iterator where_;
  };

 private:
  void expire(Clock::time_point now) {
    // Entries come and go while they are told: a copy of those that are due.
    std::vector<std::shared_ptr<Entry>> due;
    for (auto& entry : entries_)
      if (entry->at <= now && !entry->expired) due.push_back(entry);
    for (auto& entry : due) {
      if (!entry->expire) continue;
      entry->expired = true;
      auto tell = entry->expire;
      tell();
    }
  }

  boost::asio::steady_timer ticker_;
  std::list<std::shared_ptr<Entry>> entries_;
  bool stopped_ = false;
};

}  // namespace flexi::transports::http
