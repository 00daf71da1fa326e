// SPDX-License-Identifier: Apache-2.0
// For tests only: a server that speaks AMQP as far as a publisher needs it, and misbehaves as it is told.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <list>
#include <mutex>
#include <thread>

#include "transports/amqp/wire.hpp"

namespace flexi::transports::amqp {

class FakeRabbitMq {
 public:
  enum class Answer { ack, nack, nothing, block, cut };
  struct Manners {
    std::string version = "3.10.8", product = "RabbitMQ";
    std::string says{};          ///< instead of AMQP
    bool dumb = false;           ///< takes connections and says nothing
    std::string delivers_to{}, delivers{};  ///< a queue's first consumer is given a message with this body
    std::string fatal_queue{};   ///< whose declaration it closes the connection for, as 4.3 does for transient queues
  };

  FakeRabbitMq() : FakeRabbitMq(Manners{}) {}
  explicit FakeRabbitMq(Manners manners) : manners_(std::move(manners)), accepting_([this] { accept(); }) {}
  ~FakeRabbitMq() {
    stopping_ = true;
    ::shutdown(acceptor_.native_handle(), SHUT_RDWR);
    accepting_.join();
    {
      std::lock_guard lock(mutex_);
      for (auto& one : connections_) ::shutdown(one.socket.native_handle(), SHUT_RDWR);
    }
    for (auto& one : connections_) one.thread.join();
  }

  std::string url() const { return "amqp://guest:guest@127.0.0.1:" + std::to_string(acceptor_.local_endpoint().port()); }
  void unblock() {
    answer = Answer::ack;
    amqp_connection_unblocked_t m{};
    std::lock_guard lock(mutex_);
    for (auto& one : connections_) send(one, 0, AMQP_CONNECTION_UNBLOCKED_METHOD, &m);
  }
  std::vector<std::string> published() {
    std::lock_guard lock(mutex_);
    return published_;
  }

  /// Tags that consumers acknowledged, and rejected.
  std::vector<std::uint64_t> acked() {
    std::lock_guard lock(mutex_);
    return acked_;
  }
  std::vector<std::uint64_t> rejected() {
    std::lock_guard lock(mutex_);
    return rejected_;
  }
  int connections() {
    std::lock_guard lock(mutex_);
    return static_cast<int>(connections_.size());
  }

  /// Has said that it takes no messages.
  bool blocked() const { return blocked_; }

  std::atomic<Answer> answer{Answer::ack};
  std::atomic<bool> mended{false};  ///< fatal_queue can be declared now

 private:
  struct Peer {
    explicit Peer(boost::asio::ip::tcp::socket s) : socket(std::move(s)) {}
    boost::asio::ip::tcp::socket socket;
    std::thread thread;
    std::uint64_t tag = 0;
  };

  void accept() {
    while (!stopping_) {
      boost::system::error_code ec;
      auto socket = acceptor_.accept(ec);
      if (ec || stopping_) return;
      std::lock_guard lock(mutex_);
      auto& one = connections_.emplace_back(std::move(socket));
      one.thread = std::thread([this, &one] { serve(one); });
    }
  }

  void send(Peer& peer, std::uint16_t channel, amqp_method_number_t method, void* arguments) {
    std::string out;
    append_method(out, channel, method, arguments, 131'072);
    boost::system::error_code ignored;
    boost::asio::write(peer.socket, boost::asio::buffer(out), ignored);
  }

  void serve(Peer& peer) {
    boost::system::error_code ec;
    std::string buffer(8, '\0');
    boost::asio::read(peer.socket, boost::asio::buffer(buffer), ec);
    if (!manners_.says.empty()) boost::asio::write(peer.socket, boost::asio::buffer(manners_.says), ec);
    amqp_table_entry_t about[2]{};
    about[0].key = amqp_cstring_bytes("product"), about[1].key = amqp_cstring_bytes("version");
    about[0].value.value.bytes = bytes_of(manners_.product), about[1].value.value.bytes = bytes_of(manners_.version);
    about[0].value.kind = about[1].value.kind = AMQP_FIELD_KIND_UTF8;
    amqp_connection_start_t start{0, 9, {2, about}, amqp_cstring_bytes("PLAIN"), amqp_cstring_bytes("en_US")};
    if (manners_.says.empty() && !manners_.dumb) send(peer, 0, AMQP_CONNECTION_START_METHOD, &start);
    buffer.clear();
    Pool pool;
    while (!ec) {
      char chunk[4096];
      buffer.append(chunk, peer.socket.read_some(boost::asio::buffer(chunk), ec));
      std::string_view rest = buffer;
      for (Frame frame; next_frame(rest, 131'072, frame) == FrameStep::frame; pool.recycle()) take(peer, pool, frame);
      buffer.erase(0, buffer.size() - rest.size());
    }
  }

  void take(Peer& peer, Pool& pool, const Frame& frame) {
    if (frame.type == AMQP_FRAME_HEADER) return published(peer, frame.channel, decode_content_header(pool, frame.payload).value());
    if (frame.type != AMQP_FRAME_METHOD) return;
    amqp_method_number_t method = 0;
    auto decoded = decode_method(pool, frame.payload, method);
    char nothing[64]{};  // an answer without arguments
    const auto reply = [&](amqp_method_number_t with, void* arguments) { send(peer, frame.channel, with, arguments); };
    switch (method) {
      case AMQP_CONNECTION_START_OK_METHOD: {
        amqp_connection_tune_t tune{100, 131'072, 0};
        return reply(AMQP_CONNECTION_TUNE_METHOD, &tune);
      }
      case AMQP_CONNECTION_OPEN_METHOD: return reply(AMQP_CONNECTION_OPEN_OK_METHOD, nothing);
      case AMQP_CONNECTION_CLOSE_METHOD: return reply(AMQP_CONNECTION_CLOSE_OK_METHOD, nothing);
      case AMQP_CHANNEL_OPEN_METHOD: return reply(AMQP_CHANNEL_OPEN_OK_METHOD, nothing);
      case AMQP_EXCHANGE_DECLARE_METHOD: return reply(AMQP_EXCHANGE_DECLARE_OK_METHOD, nothing);
      case AMQP_QUEUE_BIND_METHOD: return reply(AMQP_QUEUE_BIND_OK_METHOD, nothing);
      case AMQP_CONFIRM_SELECT_METHOD: return reply(AMQP_CONFIRM_SELECT_OK_METHOD, nothing);
      case AMQP_QUEUE_DECLARE_METHOD: {
        auto& m = *static_cast<amqp_queue_declare_t*>(decoded.value());
        if (!manners_.fatal_queue.empty() && view_of(m.queue) == manners_.fatal_queue && !mended) {
          amqp_channel_close_t missing{404, amqp_cstring_bytes("NOT_FOUND - no queue"), 50, 10};
          if (m.passive) return reply(AMQP_CHANNEL_CLOSE_METHOD, &missing);
          amqp_connection_close_t close{541, amqp_cstring_bytes("INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated."), 50, 10};
          return send(peer, 0, AMQP_CONNECTION_CLOSE_METHOD, &close);
        }
        amqp_queue_declare_ok_t ok{m.queue, 0, 1};
        return reply(AMQP_QUEUE_DECLARE_OK_METHOD, &ok);
      }
      case AMQP_BASIC_CONSUME_METHOD: {
        auto& m = *static_cast<amqp_basic_consume_t*>(decoded.value());
        amqp_basic_consume_ok_t ok{m.consumer_tag};
        reply(AMQP_BASIC_CONSUME_OK_METHOD, &ok);
        if (!manners_.delivers_to.empty() && view_of(m.queue) == manners_.delivers_to && !delivered_.exchange(true)) deliver(peer, frame.channel, m.consumer_tag);
        return;
      }
      case AMQP_BASIC_QOS_METHOD: return reply(AMQP_BASIC_QOS_OK_METHOD, nothing);
      case AMQP_BASIC_CANCEL_METHOD: {
        amqp_basic_cancel_ok_t ok{static_cast<amqp_basic_cancel_t*>(decoded.value())->consumer_tag};
        return reply(AMQP_BASIC_CANCEL_OK_METHOD, &ok);
      }
      case AMQP_BASIC_ACK_METHOD: return note(acked_, static_cast<amqp_basic_ack_t*>(decoded.value())->delivery_tag);
      case AMQP_BASIC_REJECT_METHOD: return note(rejected_, static_cast<amqp_basic_reject_t*>(decoded.value())->delivery_tag);
      default: return;
    }
  }

  void note(std::vector<std::uint64_t>& tags, std::uint64_t tag) {
    std::lock_guard lock(mutex_);
    tags.push_back(tag);
  }

  void deliver(Peer& peer, std::uint16_t channel, amqp_bytes_t consumer) {
    amqp_basic_deliver_t m{consumer, 1, 0, amqp_cstring_bytes("logs_topic"), amqp_cstring_bytes("log.INFO")};
    send(peer, channel, AMQP_BASIC_DELIVER_METHOD, &m);
    // What follows basic.publish follows basic.deliver just so.
    Message message;
    message.body = manners_.delivers;
    std::string out;
    (void)append_publish(out, channel, {}, {}, false, message, 131'072);
    std::string_view rest = out;
    Frame method;
    next_frame(rest, 131'072, method);
    boost::system::error_code ignored;
    boost::asio::write(peer.socket, boost::asio::buffer(rest.data(), rest.size()), ignored);
  }

  void published(Peer& peer, std::uint16_t channel, const Message& message) {
    {
      std::lock_guard lock(mutex_);
      published_.push_back(message.message_id);
    }
    ++peer.tag;
    amqp_basic_ack_t ack{peer.tag, 0};
    amqp_basic_nack_t nack{peer.tag, 0, 0};
    amqp_connection_blocked_t blocked{amqp_cstring_bytes("low on memory")};
    switch (answer.load()) {
      case Answer::ack: return send(peer, channel, AMQP_BASIC_ACK_METHOD, &ack);
      case Answer::nack: return send(peer, channel, AMQP_BASIC_NACK_METHOD, &nack);
      case Answer::nothing: return;
      case Answer::block:
        blocked_ = true;
        return send(peer, 0, AMQP_CONNECTION_BLOCKED_METHOD, &blocked);
      case Answer::cut:
        answer = Answer::ack;
        ::shutdown(peer.socket.native_handle(), SHUT_RDWR);
        return;
    }
  }

  const Manners manners_;
  boost::asio::io_context io_;
  boost::asio::ip::tcp::acceptor acceptor_{io_, {boost::asio::ip::make_address("127.0.0.1"), 0}};
  std::atomic<bool> stopping_{false}, blocked_{false};
  std::mutex mutex_;
  std::list<Peer> connections_;
  std::vector<std::string> published_;
  std::vector<std::uint64_t> acked_, rejected_;
  std::atomic<bool> delivered_{false};
  std::thread accepting_;
};

}  // namespace flexi::transports::amqp
