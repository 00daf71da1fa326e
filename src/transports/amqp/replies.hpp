// SPDX-License-Identifier: Apache-2.0
// Private to this folder's sources.
#pragma once

#include <unordered_map>

#include "transports/amqp/publisher.hpp"

namespace flexi::transports::amqp {

/// Callers that wait for `stored`: the reply queue of one publisher's connection, and an eye on whether anybody consumes
/// the queues that they wait for.
/// Lifetime/threads: add(), remove() and has_listener() from any thread; the rest on the executor
class Replies final : public PublisherGuest, public ChannelUser {
 public:
  using Clock = core::CallContext::Clock;
  using Waiter = Publisher::Waiter;

  Replies(boost::asio::any_io_executor executor, Shared& shared);
  ~Replies() override;

  /// A correlation id that no other caller has.
  std::string next_correlation();
  void add(const std::string& correlation, Waiter waiter, std::shared_ptr<Fate> fate, const WorkQueue& work, Clock::time_point deadline);
  void remove(const std::string& correlation);
  /// Waits, for a moment, until somebody consumes the queue.
  /// @return unavailable where nobody does; ok where that can't be known now (publishing will tell)
  core::awaitable<core::Result<void>> has_listener(const WorkQueue& work, Clock::time_point deadline);
  core::awaitable<void> stop();

  core::awaitable<core::Result<void>> on_connected(Connection& connection) override;
  void on_down() override;
  void on_tick() override;
  bool busy() const override;
  const std::string& reply_queue() const override { return queue_; }
  void on_delivery(Delivery delivery) override;
  void on_consumer_cancelled(std::string) override;
  void on_channel_closed(const MethodReply& refusal) override;

 private:
  static constexpr std::uint16_t kChannel = 3, kWatchChannel = 4;
  struct Waiting {
    Waiter waiter;
    std::shared_ptr<Fate> fate;
    const WorkQueue* work;
    Clock::time_point deadline, since;
  };
  /// What was seen of one queue.
  struct Sight {
    std::atomic<Clock::rep> at{0};  ///< when there was a listener, last
    bool looking = false;
    Clock::time_point lonely_since{};  ///< messages and no listener
  };
  core::awaitable<void> look(const WorkQueue* work);
  core::awaitable<std::optional<MethodReply>> ask(const WorkQueue& work);
  core::awaitable<void> wait_for_listener(const WorkQueue* work, Clock::time_point until, core::Result<void>* result);
  Sight& sight_of(const WorkQueue& work);

  Shared& shared_;
  runtime::TaskScope scope_;
  Connection* connection_ = nullptr;
  std::string queue_;
  bool watch_open_ = false, asking_ = false, stopping_ = false;
  std::map<std::string, Sight, std::less<>> sights_;  ///< one for each queue, made at the start
  Clock::time_point looked_{};
  mutable std::mutex mutex_;
  std::unordered_map<std::string, Waiting> waiting_;
  std::atomic<std::uint64_t> counter_{0};
  const std::string salt_;
};

}  // namespace flexi::transports::amqp
