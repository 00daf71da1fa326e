// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "transports/grpc/client_call.hpp"
#include "transports/grpc/session.hpp"

namespace flexi::transports::grpc {

/// What a client's connections have in common.
struct ClientShared {
  GrpcClientOptions options;
  std::string host, authority;
  std::unique_ptr<Tls> tls;  ///< null: plain text
  runtime::LogSink& log;
};

/// Whoever gives calls to a connection.
class ConnectionOwner {
 public:
  virtual ~ConnectionOwner() = default;
  /// SETTINGS have come: calls can begin.
  virtual void connection_ready() = 0;
  /// It takes no new calls: GOAWAY, or its end. Nothing may be resumed in here.
  virtual void connection_leaving() = 0;
  /// Another call may begin, here or, where this one is leaving, elsewhere.
  virtual void connection_has_room() = 0;
};

/// One connection to one address of a peer.
/// Lifetime/threads: the shard's thread; lives in the coroutine that runs it
class ClientConnection final : public Session {
 public:
  ClientConnection(const ClientShared& shared, ConnectionOwner& owner, boost::asio::ip::tcp::socket socket,
                   const boost::asio::ip::tcp::endpoint& endpoint, Time now);
  ~ClientConnection() override;

  /// @return why it was of no use, where no call could begin
  core::awaitable<std::string> run();
  /// A call that has begun, or failed at once: done() then.
  CallHold start(CallStart start);
  bool has_room() const { return calls_.size() < limit(); }
  bool usable() const { return settled() && !leaving_ && !closing() && !ended_; }
  const boost::asio::ip::tcp::endpoint& endpoint() const { return endpoint_; }
  std::size_t calls() const { return calls_.size(); }
  void tick_all(Time now);
  /// Every call fails; then it closes.
  void stop(const std::string& why);

  const GrpcClientOptions& options() const { return shared_.options; }
  std::string_view scheme() const { return shared_.tls ? "https" : "http"; }
  std::string_view authority() const { return shared_.authority; }
  bool ended() const { return ended_; }
  void defer(ClientCall& call);
  /// The caller holds it no more.
  void dropped(ClientCall& call);

 private:
  void on_begin_headers(const nghttp2_frame&) override {}
  void on_header(StreamBase* stream, const nghttp2_frame& frame, std::string_view name, std::string_view value) override;
  void on_data(StreamBase* stream, std::string_view bytes) override;
  void on_frame(const nghttp2_frame& frame) override;
  void on_sent(const nghttp2_frame& frame) override;
  void on_stream_close(StreamBase* stream, std::uint32_t http2_error) override;
  void on_goaway(const nghttp2_goaway& goaway) override;
  void on_settings() override;
  void after_wire() override;
  bool has_streams() const override { return !calls_.empty(); }
  void on_end() override;
  void leave();
  std::size_t limit() const;
  void release(ClientCall& call);

  const ClientShared& shared_;
  ConnectionOwner& owner_;
  const boost::asio::ip::tcp::endpoint endpoint_;
  std::vector<std::unique_ptr<ClientCall>> calls_, free_;
  std::vector<ClientCall*> deferred_;
  std::string why_ = "the connection to the service broke";
  Time idle_since_;
  bool leaving_ = false, ended_ = false, just_settled_ = false, just_left_ = false, was_ready_ = false, looking_ = false;
};

}  // namespace flexi::transports::grpc
