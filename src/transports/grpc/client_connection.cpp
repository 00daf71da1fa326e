// SPDX-License-Identifier: Apache-2.0
#include "transports/grpc/client_connection.hpp"

#include <boost/asio/this_coro.hpp>

namespace flexi::transports::grpc {

namespace asio = boost::asio;

namespace {

constexpr std::size_t kMaxFree = 1024;          // calls' memory kept for the next ones
constexpr std::int32_t kLastStreams = 1 << 20;  // ids left when a connection is replaced: 2^31 are used up in hours
constexpr std::chrono::seconds kWriteTimeout{30};

SessionOptions session_options(const GrpcClientOptions& o) {
  return {.side = SessionOptions::Side::client,
          .max_concurrent_streams = 0,
          .stream_window_bytes = static_cast<std::uint32_t>(o.stream_window_bytes),
          .max_header_bytes = static_cast<std::uint32_t>(o.max_header_bytes),
          .handshake_timeout = o.handshake_timeout,
          .settings_timeout = std::max<std::chrono::milliseconds>(o.handshake_timeout, std::chrono::seconds(10)),
          .write_timeout = kWriteTimeout,
          .keep_alive = o.keep_alive,
          .keep_alive_timeout = o.keep_alive_timeout,
          .min_ping_interval = std::chrono::milliseconds(0),
          .max_resets_per_second = 0,
          .max_control_frames_per_second = 0};
}

ClientCall& call_from(Session::StreamBase* stream) { return static_cast<ClientCall&>(*stream); }

}  // namespace

ClientConnection::ClientConnection(const ClientShared& shared, ConnectionOwner& owner, asio::ip::tcp::socket socket,
                                   const asio::ip::tcp::endpoint& endpoint, Time now)
    : Session(std::move(socket), session_options(shared.options), shared.log, now), shared_(shared), owner_(owner), endpoint_(endpoint), idle_since_(now) {}

ClientConnection::~ClientConnection() {
  // Callers that have not let go yet own what they hold.
  for (auto& call : calls_) {
    call->connection_ = nullptr;
    if (call->held_) call.release();
  }
}

core::awaitable<std::string> ClientConnection::run() {
  co_await asio::this_coro::throw_if_cancelled(false);
  if (shared_.tls) {
    auto why = co_await link_.connect_tls(*shared_.tls, shared_.host);
    if (!why.empty()) {
      link_.close();
      co_return "TLS: " + why;
    }
  }
  co_await pump();
  co_return was_ready_ ? "" : "it does not speak HTTP/2, or not in time";
}

CallHold ClientConnection::start(CallStart start) {
  if (free_.empty()) free_.push_back(std::make_unique<ClientCall>(*this));
  auto& call = *calls_.emplace_back(std::move(free_.back()));
  free_.pop_back();
  call.index_ = calls_.size() - 1;
  CallHold hold(call);
  call.start(std::move(start));
  if (nghttp2_session_get_next_stream_id(wire()) > static_cast<std::uint32_t>(INT32_MAX - kLastStreams)) leave();
  return hold;
}

std::size_t ClientConnection::limit() const {
  const auto theirs = nghttp2_session_get_remote_settings(const_cast<ClientConnection*>(this)->wire(), NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
  return std::min<std::size_t>(static_cast<std::size_t>(shared_.options.max_concurrent_calls), theirs);
}

// --- from nghttp2 ---

void ClientConnection::on_header(StreamBase* stream, const nghttp2_frame&, std::string_view name, std::string_view value) { call_from(stream).header(name, value); }
void ClientConnection::on_data(StreamBase* stream, std::string_view bytes) { call_from(stream).data(bytes); }

void ClientConnection::on_frame(const nghttp2_frame& frame) {
  auto* found = stream_of(frame.hd.stream_id);
  if (!found) return;
  auto& call = call_from(found);
  const bool last = frame.hd.flags & NGHTTP2_FLAG_END_STREAM;
  if (frame.hd.type == NGHTTP2_HEADERS) call.headers_done(last);
  if (!last) return;
  call.peer_finished();
  // The peer has answered without waiting for the whole request: the rest is not sent.
  if (nghttp2_session_get_stream_local_close(wire(), frame.hd.stream_id) == 0) nghttp2_submit_rst_stream(wire(), NGHTTP2_FLAG_NONE, frame.hd.stream_id, NGHTTP2_CANCEL);
}

void ClientConnection::on_sent(const nghttp2_frame& frame) {
  if (frame.hd.type != NGHTTP2_HEADERS) return;
  if (auto* stream = stream_of(frame.hd.stream_id)) call_from(stream).on_wire_ = true;
}

void ClientConnection::on_stream_close(StreamBase* stream, std::uint32_t http2_error) {
  if (ended_) return;
  auto& call = call_from(stream);
  call.stream_closed(http2_error);
  defer(call);
}

void ClientConnection::on_goaway(const nghttp2_goaway& goaway) {
  if (goaway.error_code != NGHTTP2_NO_ERROR)
    log_.warning("gRPC peer closes the connection", {{"peer", shared_.authority},
                                                     {"error", nghttp2_http2_strerror(goaway.error_code)},
                                                     {"reason", std::string_view(reinterpret_cast<const char*>(goaway.opaque_data), goaway.opaque_data_len)}});
  leave();
}

void ClientConnection::on_settings() { just_settled_ = true; }

void ClientConnection::defer(ClientCall& call) {
  if (std::exchange(call.deferred_, true)) return;
  deferred_.push_back(&call);
}

void ClientConnection::after_wire() {
  if (std::exchange(just_settled_, false) && !std::exchange(was_ready_, true)) owner_.connection_ready();
  // Who is woken here may begin other calls at once, or stop the channel.
  if (std::exchange(looking_, true)) return;
  bool room = false;
  for (std::size_t i = 0; i < deferred_.size(); ++i) {
    auto& call = *deferred_[i];
    call.wake();
    call.deferred_ = false;
    if (call.wire_ || call.held_) continue;
    release(call);
    room = true;
  }
  deferred_.clear();
  looking_ = false;
  // Whoever waits for this connection goes on with another.
  if ((room && usable()) || std::exchange(just_left_, false)) owner_.connection_has_room();
  if (leaving_ && calls_.empty() && !closing()) refuse(NGHTTP2_NO_ERROR, "done");
}

void ClientConnection::dropped(ClientCall& call) {
  if (!call.done()) call.give_up({Code::cancelled, "the call was cancelled", {}});
  if (call.wire_ || call.deferred_) return;  // looked at again when nghttp2 has closed it
  release(call);
  if (usable()) owner_.connection_has_room();
}

void ClientConnection::release(ClientCall& call) {
  idle_since_ = now();
  auto mine = std::move(calls_[call.index_]);
  if (call.index_ + 1 != calls_.size()) {
    calls_[call.index_] = std::move(calls_.back());
    calls_[call.index_]->index_ = call.index_;
  }
  calls_.pop_back();
  mine->forget();
  // What nghttp2 may still refer to after the end stays until it is gone, too.
  if (free_.size() < kMaxFree || ended_) free_.push_back(std::move(mine));
}

void ClientConnection::leave() {
  if (std::exchange(leaving_, true)) return;
  just_left_ = true;
  owner_.connection_leaving();
}

void ClientConnection::on_end() {
  if (ended_) return;
  leave();
  ended_ = true;
  for (auto& call : calls_)
    if (!call->done()) call->give_up({Code::unavailable, why_, {}});
  for (auto& call : calls_) {
    call->wire_ = false;
    defer(*call);
  }
  after_wire();
}

// --- time ---

void ClientConnection::tick_all(Time now) {
  tick(now);
  for (std::size_t i = 0; i < calls_.size(); ++i) calls_[i]->on_time(now);
  after_wire();
  if (closing() || !calls_.empty() || leaving_) return;
  if (was_ready_ && now - idle_since_ > options().idle_timeout) {
    leave();
    refuse(NGHTTP2_NO_ERROR, "idle");
  }
}

void ClientConnection::stop(const std::string& why) {
  if (ended_) return;
  why_ = why;
  leave();
  for (auto& call : calls_) call->give_up({Code::unavailable, why, {}});
  after_wire();
  if (!closing()) refuse(NGHTTP2_NO_ERROR, "the client has stopped");
}

}  // namespace flexi::transports::grpc
