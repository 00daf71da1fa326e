// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include "transports/grpc/server_shard.hpp"
#include "transports/grpc/server_stream.hpp"
#include "transports/grpc/session.hpp"

namespace flexi::transports::grpc {

/// One client's connection: gives each call to its method, side by side.
/// Lifetime/threads: the shard's thread; lives in the coroutine that runs it
class ServerConnection final : public Session {
 public:
  ServerConnection(ServerShard& shard, boost::asio::ip::tcp::socket socket);

  core::awaitable<void> run();
  void tick_all(Time now);
  /// GOAWAY that refuses nothing yet; subscriptions end.
  void begin_drain();
  /// Whatever still runs ends now.
  void stop();

  ServerShard& shard() { return shard_; }
  const GrpcServerOptions& options() const { return shard_.shared().options; }
  Time time() const { return now(); }
  bool ended() const { return ended_; }
  std::size_t calls() const { return streams_.size(); }
  /// Bytes of messages that are held for this connection's calls.
  void hold(std::int64_t bytes) {
    held_ += bytes;
    shard_.hold(bytes);
  }
  bool full() const { return held_ > options().max_connection_bytes || shard_.full(); }
  bool peer_is_loopback() const { return loopback_; }
  std::string_view peer() const { return peer_; }
  /// To be looked at as soon as nghttp2 has returned.
  void defer(ServerStream& stream);

 private:
  void on_begin_headers(const nghttp2_frame& frame) override;
  void on_header(StreamBase* stream, const nghttp2_frame& frame, std::string_view name, std::string_view value) override;
  void on_data(StreamBase* stream, std::string_view bytes) override;
  void on_frame(const nghttp2_frame& frame) override;
  void on_sent(const nghttp2_frame& frame) override;
  void on_stream_close(StreamBase* stream, std::uint32_t http2_error) override;
  void after_wire() override;
  bool has_streams() const override { return !streams_.empty(); }
  void on_end() override;

  void start(ServerStream& stream);
  core::awaitable<void> run_unary(ServerStream* stream, boost::asio::cancellation_signal* signal);
  core::awaitable<void> run_stream(ServerStream* stream, boost::asio::cancellation_signal* signal);
  void method_failed(const ServerStream& stream, const std::exception& e);
  void method_ended(ServerStream& stream);
  void release(ServerStream& stream);

  ServerShard& shard_;
  std::vector<std::unique_ptr<ServerStream>> streams_, free_;
  std::vector<ServerStream*> deferred_;
  std::string peer_;
  std::int64_t held_ = 0;
  Time idle_since_, last_at_ = Time::max();  ///< last_at_: when a draining connection refuses what is new
  bool loopback_ = false, ended_ = false, draining_ = false, looking_ = false;
};

}  // namespace flexi::transports::grpc
