// SPDX-License-Identifier: Apache-2.0
// Private to this folder's sources: it includes librabbitmq's headers.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <functional>
#include <map>

#include "runtime/completion.hpp"
#include "runtime/task_scope.hpp"
#include "transports/amqp/stream.hpp"
#include "transports/amqp/wire.hpp"

namespace flexi::transports::amqp {

/// What RabbitMQ answered to one method, with what anybody here wants to know of it.
struct MethodReply {
  std::string name{};           ///< queue.declare-ok: the queue; basic.consume-ok: the consumer
  std::uint32_t messages = 0;   ///< queue.declare-ok: ready messages; queue.delete-ok, queue.purge-ok: how many went
  std::uint32_t consumers = 0;  ///< queue.declare-ok
  std::uint16_t code = 0;       ///< not 0: RabbitMQ refused and closed the channel: 404 no such, 405 locked, 406 other arguments
  std::string text{};           ///< its words then

  bool refused() const { return code != 0; }
};

/// Who uses a channel. Told in the connection's reader: no waiting.
class ChannelUser {
 public:
  virtual ~ChannelUser() = default;
  virtual void on_delivery(Delivery) {}
  virtual void on_got(std::optional<Delivery>) {}  ///< answer to basic.get; none: the queue is empty
  virtual void on_return(std::uint16_t, std::string, std::string, Message) {}  ///< code, words, routing key, message
  virtual void on_confirm(std::uint64_t, bool, bool) {}  ///< tag, multiple, ack (or nack)
  virtual void on_consumer_cancelled(std::string) {}     ///< RabbitMQ took the consumer away: its queue is gone
  virtual void on_channel_closed(const MethodReply&) {}
  virtual void on_batch_end() {}                         ///< all that was in the socket has been told
  virtual void on_over() {}                              ///< the connection is over
};

/// Who uses the connection.
class ConnectionUser {
 public:
  virtual ~ConnectionUser() = default;
  virtual void on_blocked(std::string) {}  ///< RabbitMQ takes no messages (memory, disk)
  virtual void on_unblocked() {}
  virtual void on_writable() {}            ///< what was sent has left
};

/// One connection to RabbitMQ: made once, used, and over once. Source: AMQP 0-9-1
/// Lifetime/threads: one executor's thread; finish() before it is destroyed
class Connection {
 public:
  Connection(boost::asio::any_io_executor executor, const Endpoint& endpoint, const AmqpOptions& options, runtime::LogSink& log, std::string name);
  ~Connection();

  /// Connects, signs in, and looks whether RabbitMQ is new enough.
  /// @return unavailable that says what is wrong
  core::awaitable<core::Result<void>> open();
  core::awaitable<core::Result<void>> open_channel(std::uint16_t channel, ChannelUser* user);
  core::awaitable<void> close_channel(std::uint16_t channel);
  bool is_open(std::uint16_t channel) const;
  void set_user(ConnectionUser* user) { user_ = user; }

  using OnReply = std::function<void(const core::Result<MethodReply>&)>;
  /// Sends a method; its answer is told later, in order. Many may be under way on one channel.
  void start_call(std::uint16_t channel, amqp_method_number_t method, void* arguments, OnReply on_reply);
  /// @return MethodReply, refused() where RabbitMQ closed the channel for it; unavailable where the connection is over
  core::awaitable<core::Result<MethodReply>> call(std::uint16_t channel, amqp_method_number_t method, void* arguments);
  /// Sends a method that has no answer.
  void send(std::uint16_t channel, amqp_method_number_t method, void* arguments);
  /// @return invalid_argument where the message's properties don't fit a frame
  core::Result<void> publish(std::uint16_t channel, std::string_view exchange, std::string_view routing_key, bool mandatory, const Message& message);
  /// Asks for one message; on_got tells it.
  void get(std::uint16_t channel, std::string_view queue);
  void ack(std::uint16_t channel, std::uint64_t tag, bool multiple);
  void reject(std::uint16_t channel, std::uint64_t tag, bool requeue);

  /// Bytes that wait to be written.
  std::size_t buffered() const { return out_.size() + writing_.size(); }
  bool over() const { return over_.has_value(); }
  const std::string& version() const { return version_; }
  const std::string& blocked() const { return blocked_; }
  const std::optional<core::Error>& why_over() const { return over_; }
  /// RabbitMQ's own words at the end, and the method that it refused so; none where it did not close the connection.
  struct Closed {
    std::uint16_t code = 0;
    std::string text;
    amqp_method_number_t method = 0;  ///< 0: for no method's sake
  };
  const std::optional<Closed>& closed() const { return closed_; }
  /// Returns when the connection is over, its owner leaves, or after `limit`.
  core::awaitable<void> wait_over(std::chrono::milliseconds limit);
  /// Ends a wait_over() that is under way.
  void wake_owner() { over_timer_.cancel(); }
  /// Ends wait_over(): the owner is about to finish().
  void leave();
  bool leaving() const { return leaving_; }
  /// Says good-bye, waits a moment for the answer, and ends everything.
  core::awaitable<void> finish();
  void fail(core::Error why);

 private:
  struct Channel {
    ChannelUser* user = nullptr;
    bool open = false;
    std::deque<OnReply> waiting;
    enum class Content { none, delivery, got, returned } content = Content::none;
    Delivery delivery;
    std::uint16_t return_code = 0;
    std::string return_text;
    std::size_t missing = 0;  ///< bytes of the body still to come
    bool has_header = false;
  };
  core::awaitable<void> read();
  core::awaitable<void> write();
  core::awaitable<void> beat();
  void wake_writer();
  void take(const Frame& frame);
  void take_method(Channel& channel, std::uint16_t number, std::string_view payload);
  void take_connection_method(amqp_method_number_t method, void* decoded);
  void content_complete(Channel& channel);
  void answer(Channel& channel, const core::Result<MethodReply>& reply);
  core::Result<void> check_server(const amqp_table_t& properties);
  core::awaitable<core::Result<void>> log_in();
  core::awaitable<core::Result<MethodReply>> next_connection_method();

  const Endpoint& endpoint_;
  const AmqpOptions& options_;
  const std::string name_;
  Stream stream_;
  runtime::TaskScope scope_;
  boost::asio::steady_timer wake_, over_timer_, beat_, limit_;
  ConnectionUser* user_ = nullptr;
  Pool pool_;
  std::map<std::uint16_t, Channel> channels_;
  std::string in_, out_, writing_;
  std::size_t frame_max_ = 131'072;
  std::chrono::milliseconds heartbeat_{0};
  std::uint16_t tuned_channels_ = 0, tuned_heartbeat_ = 0;
  std::string version_, blocked_;
  core::Result<void> server_ = core::ok();
  std::optional<core::Error> over_;
  std::optional<Closed> closed_;
  bool started_ = false, writer_waits_ = false, heard_ = false, said_ = false, leaving_ = false;
};

}  // namespace flexi::transports::amqp
