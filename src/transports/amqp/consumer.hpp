// SPDX-License-Identifier: Apache-2.0
// Private to this folder's sources.
#pragma once

#include <random>
#include <set>

#include "core/transport.hpp"
#include "runtime/shards.hpp"
#include "transports/amqp/acks.hpp"
#include "transports/amqp/codec.hpp"
#include "transports/amqp/publisher.hpp"

namespace flexi::transports::amqp {

/// One delivery in hand.
struct Taken {
  std::uint64_t epoch = 0;  ///< of the connection: a tag means nothing on another
  std::uint64_t tag = 0;
  const WorkQueue* work = nullptr;
  std::size_t lane = 0;     ///< the consumer's, of that queue
  Message message;
  std::int64_t attempt = 1;
  std::int64_t untaken = 0;  ///< attempts before it that nobody took: they don't count towards max_attempts
  bool told = false;        ///< its caller waits for the answer
  bool secret = false;      ///< it holds a password: never kept
};

/// Makes a job of a message.
using ReadJob = std::function<core::Result<Job>(const WorkQueue& work, Message& message)>;

class Hands;

/// Consumes queues and gives each message to the handler, at most `concurrency` of a queue at a time. A message is
/// acknowledged when its service has it, when it stands, confirmed, in a retry or dead-letter queue, or when its caller
/// waited and was told. Any number of these, in any number of processes, may share the queues.
///
/// Stop: no more deliveries; what is in hand is finished and acknowledged; what does not end in time is cancelled and stays
/// in its queue. A shutdown never dead-letters.
/// Lifetime/threads: on the executor except where told otherwise; stop() before it is destroyed
class Consumer final : public core::Server, public SessionUser {
 public:
  Consumer(runtime::Shards& shards, std::unique_ptr<Shared> shared, core::Handler& handler, std::vector<const WorkQueue*> works, std::string name,
           ReadJob read);
  ~Consumer() override;

  void start();
  std::string endpoint() const override { return shared_->endpoint.str(); }
  core::awaitable<void> stop(core::StopOptions options) override;
  /// Any thread: whether it consumes at the moment.
  bool consuming() const { return consuming_; }

  /// Any thread, from a hand: what became of a delivery.
  void finished(Taken taken, core::Result<core::Reply> result);
  /// Any thread, from a hand: it was not begun.
  void released(Taken taken);
  bool stopping() const { return stopping_; }
  const Shared& shared() const { return *shared_; }

 private:
  static constexpr std::uint16_t kFirstChannel = 2;
  /// One queue and its channel: what RabbitMQ refuses of one queue closes no other's.
  class Lane final : public ChannelUser {
   public:
    Lane(Consumer& c, const WorkQueue& w, std::size_t n) : work(w), index(n), channel(static_cast<std::uint16_t>(kFirstChannel + n)), consumer_(c) {}
    void on_delivery(Delivery delivery) override { consumer_.take(*this, std::move(delivery)); }
    void on_batch_end() override { consumer_.hand_out(); }
    void on_consumer_cancelled(std::string) override { consumer_.lost("RabbitMQ took a queue away", work.queue); }
    void on_channel_closed(const MethodReply& refusal) override;

    const WorkQueue& work;
    const std::size_t index;
    const std::uint16_t channel;
    Acks acks;
    enum class State { off, asking, on } state = State::off;
    std::string trouble;  ///< why its messages can't be put aside; empty: they can

   private:
    Consumer& consumer_;
  };
  core::awaitable<core::Result<void>> on_connected(Connection& connection, const Problems& problems) override;
  void on_up() override;
  void on_down(const core::Error& why, bool was_up) override;
  core::awaitable<void> on_problems(const Problems& problems) override;
  Problems own_problems() const override { return refused_; }

  void take(Lane& lane, Delivery delivery);
  void hand_out();
  void lost(const char* what, const std::string& why);
  core::awaitable<core::Result<void>> consume(Connection& connection, const Problems& problems);
  core::awaitable<core::Result<void>> consume(Connection& connection, Lane& lane);
  core::awaitable<void> cancel_consumers();
  void settle(Taken taken, core::Result<core::Reply> result);
  core::awaitable<void> put_aside(Taken taken, core::Error error);
  Publication aside(const Taken& taken, const core::Error& error, bool& dead);
  void bury(const Taken& taken, const std::string& reason);
  void say_dead(const Taken& taken, const std::string& reason);
  void say_trouble(const Taken& taken, const core::Error* failure);
  core::awaitable<void> pause(std::chrono::milliseconds time);
  void reply(const Taken& taken, const core::Result<core::Reply>& result);
  void done(const Taken& taken);
  void leave(const Taken& taken);
  void gone();
  void flush_acks();
  core::awaitable<void> drained(core::CallContext::Clock::time_point until);

  std::unique_ptr<Shared> shared_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  const ReadJob read_;
  std::vector<std::unique_ptr<Hands>> hands_;  ///< one for each shard
  runtime::TaskScope scope_;
  boost::asio::steady_timer drained_;
  std::atomic<bool> stopping_{false}, consuming_{false};
  bool hard_ = false;             ///< the grace is over
  Connection* connection_ = nullptr;
  std::uint64_t epoch_ = 0;
  Problems refused_;                         ///< queues that RabbitMQ lets us not consume
  std::set<boost::asio::steady_timer*> pauses_;
  std::minstd_rand random_{std::random_device{}()};
  std::vector<std::vector<Taken>> batches_;  ///< for each shard, until the end of what was read at once
  std::vector<std::pair<Taken, core::Result<core::Reply>>> results_;
  std::mutex results_mutex_;
  std::size_t next_hands_ = 0, in_hand_ = 0;
  bool flushing_ = false;
  Publisher publisher_;
  Session session_;  ///< last: it tells the rest
};

/// The consumer's hands on one shard: so many coroutines, each of which handles one message after the other.
/// Lifetime/threads: add() from any thread; the rest on its shard
class Hands {
 public:
  Hands(boost::asio::any_io_executor executor, Consumer& consumer, core::Handler& handler, ReadJob read, std::size_t slots);

  void add(std::vector<Taken> all);
  /// What has not begun goes back.
  void drop_queued();
  void cancel_running();
  core::awaitable<void> join();
  const boost::asio::any_io_executor& executor() const { return scope_.executor(); }

 private:
  struct Slot {
    explicit Slot(const boost::asio::any_io_executor& executor) : timer(executor) {}
    boost::asio::steady_timer timer;
    boost::asio::cancellation_signal cancel;
    std::uint64_t call = 0;
    bool running = false, timed_out = false;
  };
  core::awaitable<void> work(std::shared_ptr<Slot> slot, const WorkQueue* queue);
  core::awaitable<void> handle(std::shared_ptr<Slot> slot, Taken taken);
  core::awaitable<core::Result<core::Reply>> attempt(std::shared_ptr<Slot> slot, core::Request request, core::CallContext context);

  /// Of one queue: what waits, and how many are at it.
  struct Line {
    std::deque<Taken> waiting;
    std::size_t running = 0;
  };
  Consumer& consumer_;
  core::Handler& handler_;
  const ReadJob read_;
  const std::size_t slots_;
  runtime::TaskScope scope_;
  std::map<const WorkQueue*, Line> lines_;
  std::vector<std::shared_ptr<Slot>> all_, free_;
};

}  // namespace flexi::transports::amqp
