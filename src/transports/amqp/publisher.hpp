// SPDX-License-Identifier: Apache-2.0
// Private to this folder's sources.
#pragma once

#include <atomic>

#include "core/handler.hpp"
#include "transports/amqp/session.hpp"

namespace flexi::transports::amqp {

/// What one publish and the wait for its answer know of each other.
struct Fate {
  std::atomic<bool> left{false};       ///< the caller does not wait any more
  std::atomic<bool> confirmed{false};  ///< RabbitMQ has the message
};

/// One message on its way to RabbitMQ.
struct Publication {
  std::string exchange, routing_key;
  Message message;
  const WorkQueue* work = nullptr;  ///< whose problem would be in the way; null: nobody's
  core::CallContext::Clock::time_point deadline = core::CallContext::Clock::time_point::max();
  bool mandatory = true;
  bool counted = true;              ///< a message of a caller's; answers and what is put aside are told of elsewhere
  bool wants_reply = false;         ///< success is the answer's, not the confirm's
  std::shared_ptr<Fate> fate{};     ///< made where there is none
};

/// What else lives on the publisher's connection: the reply queue.
class PublisherGuest {
 public:
  virtual ~PublisherGuest() = default;
  virtual core::awaitable<core::Result<void>> on_connected(Connection& connection) = 0;
  virtual void on_down() = 0;
  virtual void on_tick() = 0;
  virtual bool busy() const = 0;  ///< wants ticks
  virtual const std::string& reply_queue() const = 0;
};

/// Publishes with pipelined confirms over one connection. What was not confirmed when the connection broke is published
/// again over the next, while its caller still waits: message ids make that safe.
/// Lifetime/threads: publish() and post() from any thread; the rest on the session's executor; stop() before it is destroyed
class Publisher final : public ChannelUser, public ConnectionUser, public SessionUser {
 public:
  Publisher(boost::asio::any_io_executor executor, Shared& shared, std::string name, PublisherGuest* guest = nullptr);
  ~Publisher() override;

  void start() { session_.start(); }
  /// @return Reply once RabbitMQ has confirmed (or, with wants_reply, what the guest answers); unavailable: not connected,
  ///         no queue takes it, refused, RabbitMQ takes no messages; overloaded: too many under way; deadline_exceeded.
  ///         sent tells whether RabbitMQ may have it.
  /// @param announce called with who waits before anything is sent
  using Waiter = std::shared_ptr<runtime::Completion<core::Reply>>;
  core::awaitable<core::Result<core::Reply>> publish(Publication publication, std::function<void(const Waiter&)> announce = {});
  /// As publish(), but nobody waits: for answers, which their callers miss in time where they get lost.
  void post(Publication publication);
  /// Refuses new work, lets what is under way be confirmed, for at most `grace`.
  core::awaitable<void> stop(std::chrono::milliseconds grace);
  const boost::asio::any_io_executor& executor() const { return session_.executor(); }
  Connection* connection() { return connection_; }

  static constexpr std::uint16_t kChannel = 2;  ///< guests have higher ones

 private:
  struct Entry {
    Publication publication;
    Waiter waiter;
    std::size_t bytes = 0;
    bool sent = false;      ///< written to some connection
    bool answered = false;
    bool returned = false;  ///< no queue took it
    bool finished = false;  ///< confirmed, nacked: out of the window once those before it are
  };
  enum class State { connecting, up, down };

  core::awaitable<core::Result<void>> on_connected(Connection& connection, const Problems& problems) override;
  void on_up() override;
  void on_down(const core::Error& why, bool was_up) override;
  core::awaitable<void> on_problems(const Problems& problems) override;
  void on_return(std::uint16_t code, std::string text, std::string routing_key, Message message) override;
  void on_confirm(std::uint64_t tag, bool multiple, bool ack) override;
  void on_channel_closed(const MethodReply& refusal) override;
  void on_batch_end() override;
  void on_blocked(std::string reason) override;
  void on_unblocked() override;
  void on_writable() override { pump(); }

  core::Result<void> reserve(std::size_t bytes);
  void submit(std::unique_ptr<Entry> entry);
  void take_inbox();
  void pump();
  bool send(Entry& entry);
  void settle(Entry& entry, bool ack);
  void answer(Entry& entry, core::Result<core::Reply> result);
  void flush_answers();
  void fail_queued(const core::Error& why);
  core::Error unavailable_now() const;
  core::awaitable<void> tick();
  bool idle() const { return queue_.empty() && window_.empty(); }

  Shared& shared_;
  PublisherGuest* const guest_;
  std::atomic<std::int64_t> entries_{0}, bytes_{0};
  std::atomic<bool> stopping_{false};
  std::mutex inbox_mutex_;
  std::vector<std::unique_ptr<Entry>> inbox_;

  State state_ = State::connecting;
  Connection* connection_ = nullptr;
  Problems problems_;
  core::Error last_failure_ = core::unavailable("RabbitMQ is being connected to");
  core::CallContext::Clock::time_point trouble_since_{};  ///< lost or blocked
  bool blocked_ = false, up_ = false;
  std::deque<std::unique_ptr<Entry>> queue_, window_;
  std::uint64_t first_tag_ = 1;  ///< of window_.front()
  std::vector<std::pair<Waiter, core::Result<core::Reply>>> answers_;
  runtime::TaskScope scope_;
  boost::asio::steady_timer ticker_;
  bool ticking_ = false;
  Session session_;  ///< last: it tells the rest
};

}  // namespace flexi::transports::amqp
