// SPDX-License-Identifier: Apache-2.0
#include "transports/grpc/server_connection.hpp"

#include <boost/asio/this_coro.hpp>

#include "runtime/net/address.hpp"

namespace flexi::transports::grpc {

namespace asio = boost::asio;

namespace {

constexpr std::size_t kMaxFree = 256;  // calls' memory kept for the next ones

SessionOptions session_options(const GrpcServerOptions& o) {
  return {.side = SessionOptions::Side::server,
          .max_concurrent_streams = static_cast<std::uint32_t>(o.max_concurrent_streams),
          .stream_window_bytes = static_cast<std::uint32_t>(o.stream_window_bytes),
          .max_header_bytes = static_cast<std::uint32_t>(o.max_header_bytes),
          .handshake_timeout = o.handshake_timeout,
          .settings_timeout = o.settings_timeout,
          .write_timeout = o.write_timeout,
          .keep_alive = o.keep_alive,
          .keep_alive_timeout = o.keep_alive_timeout,
          .min_ping_interval = o.min_ping_interval,
          .max_resets_per_second = static_cast<double>(o.max_resets_per_second),
          .max_control_frames_per_second = static_cast<double>(o.max_control_frames_per_second)};
}

ServerStream& stream_from(Session::StreamBase* stream) { return static_cast<ServerStream&>(*stream); }

}  // namespace

ServerConnection::ServerConnection(ServerShard& shard, asio::ip::tcp::socket socket)
    : Session(std::move(socket), session_options(shard.shared().options), shard.shared().log, shard.now()), shard_(shard), idle_since_(shard.now()) {
  boost::system::error_code ignored;
  const auto endpoint = link_.socket().remote_endpoint(ignored);
  const auto address = endpoint.address();
  loopback_ = address.is_loopback() || (address.is_v6() && address.to_v6().is_v4_mapped() && asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6()).is_loopback());
  peer_ = runtime::net::to_authority(endpoint);
}

core::awaitable<void> ServerConnection::run() {
  co_await asio::this_coro::throw_if_cancelled(false);
  if (auto& tls = shard_.shared().tls) {
    const auto why = co_await link_.accept_tls(*tls);
    if (!why.empty()) {
      log_.debug("TLS handshake failed", {{"peer", peer_}, {"error", why}});
      link_.close();
      co_return;
    }
  }
  co_await pump();
}

// --- from nghttp2 ---

void ServerConnection::on_begin_headers(const nghttp2_frame& frame) {
  if (frame.headers.cat != NGHTTP2_HCAT_REQUEST) return;
  if (free_.empty()) free_.push_back(std::make_unique<ServerStream>(*this));
  auto& stream = *streams_.emplace_back(std::move(free_.back()));
  free_.pop_back();
  stream.index_ = streams_.size() - 1;
  stream.open(frame.hd.stream_id);
  nghttp2_session_set_stream_user_data(wire(), frame.hd.stream_id, static_cast<StreamBase*>(&stream));
}

void ServerConnection::on_header(StreamBase* stream, const nghttp2_frame& frame, std::string_view name, std::string_view value) {
  if (frame.headers.cat == NGHTTP2_HCAT_REQUEST) stream_from(stream).header(name, value);
}

void ServerConnection::on_data(StreamBase* stream, std::string_view bytes) { stream_from(stream).data(bytes); }

void ServerConnection::on_frame(const nghttp2_frame& frame) {
  auto* found = stream_of(frame.hd.stream_id);
  if (!found) return;
  auto& stream = stream_from(found);
  if (frame.hd.type == NGHTTP2_HEADERS && frame.headers.cat == NGHTTP2_HCAT_REQUEST) stream.headers_done();
  if (frame.hd.flags & NGHTTP2_FLAG_END_STREAM) stream.peer_finished();
}

void ServerConnection::on_sent(const nghttp2_frame& frame) {
  if (frame.hd.type == NGHTTP2_RST_STREAM || !(frame.hd.flags & NGHTTP2_FLAG_END_STREAM)) return;
  // The answer is complete though the request is not: the rest need not be sent. Source: RFC 9113 section 8.1
  auto* stream = stream_of(frame.hd.stream_id);
  if (stream && !stream_from(stream).peer_done()) nghttp2_submit_rst_stream(wire(), NGHTTP2_FLAG_NONE, frame.hd.stream_id, NGHTTP2_NO_ERROR);
}

void ServerConnection::on_stream_close(StreamBase* closed, std::uint32_t) {
  if (ended_) return;
  auto& stream = stream_from(closed);
  nghttp2_session_set_stream_user_data(wire(), stream.id, nullptr);
  stream.closed_ = true;
  defer(stream);
}

void ServerConnection::defer(ServerStream& stream) {
  if (std::exchange(stream.deferred_, true)) return;
  deferred_.push_back(&stream);
}

void ServerConnection::after_wire() {
  // A method that is started here may bring more.
  if (std::exchange(looking_, true)) return;
  for (std::size_t i = 0; i < deferred_.size(); ++i) {
    auto& stream = *deferred_[i];
    // Still deferred: a method that ends in here leaves the stream to this loop.
    if (std::exchange(stream.start_, false) && !stream.over() && !closing()) start(stream);
    if (stream.closed_ && stream.signal_) stream.signal_->emit(asio::cancellation_type::terminal);
    stream.wake();
    stream.deferred_ = false;
    if (stream.closed_ && !stream.running_) release(stream);
  }
  deferred_.clear();
  looking_ = false;
}

void ServerConnection::on_end() {
  ended_ = true;
  for (auto& stream : streams_) {
    stream->closed_ = true;
    defer(*stream);
  }
  after_wire();
}

void ServerConnection::release(ServerStream& stream) {
  idle_since_ = now();
  auto mine = std::move(streams_[stream.index_]);
  if (stream.index_ + 1 != streams_.size()) {
    streams_[stream.index_] = std::move(streams_.back());
    streams_[stream.index_]->index_ = stream.index_;
  }
  streams_.pop_back();
  // What nghttp2 may still refer to after the end stays until it is gone, too.
  if (free_.size() < kMaxFree || ended_) free_.push_back(std::move(mine));
}

// --- methods ---

void ServerConnection::start(ServerStream& stream) {
  stream.running_ = true;
  if (stream.entry_->unary) scope_.spawn_cancellable([&](asio::cancellation_signal& signal) { return run_unary(&stream, &signal); });
  else scope_.spawn_cancellable([&](asio::cancellation_signal& signal) { return run_stream(&stream, &signal); });
}

core::awaitable<void> ServerConnection::run_unary(ServerStream* stream, asio::cancellation_signal* signal) {
  co_await asio::this_coro::throw_if_cancelled(false);
  std::string message;
  stream->run_unary_begins(message);
  if (!stream->over()) {
    stream->signal_ = signal;
    try {
      stream->answer(co_await stream->entry_->unary(*stream, std::move(message)));
    } catch (const std::exception& e) {
      method_failed(*stream, e);
      stream->finish(Status{Code::internal, "internal error", {}});
    }
  }
  method_ended(*stream);
}

core::awaitable<void> ServerConnection::run_stream(ServerStream* stream, asio::cancellation_signal* signal) {
  co_await asio::this_coro::throw_if_cancelled(false);
  if (stream->context().expired()) {
    stream->finish(Status{Code::deadline_exceeded, "the request's time was over before it was handled", {}});
  } else {
    stream->signal_ = signal;
    try {
      stream->finish(co_await stream->entry_->stream(*stream));
    } catch (const std::exception& e) {
      method_failed(*stream, e);
      stream->finish(Status{Code::internal, "internal error", {}});
    }
  }
  method_ended(*stream);
}

void ServerConnection::method_failed(const ServerStream& stream, const std::exception& e) {
  if (!stream.over()) log_.error("gRPC method failed", {{"method", stream.path()}, {"error", e.what()}});
}

void ServerConnection::method_ended(ServerStream& stream) {
  stream.signal_ = nullptr;
  stream.running_ = false;
  stream.method_ended();
  if (stream.closed_ && !stream.deferred_) {
    stream.wake();
    release(stream);
  }
}

// --- time ---

void ServerConnection::tick_all(Time now) {
  tick(now);
  for (std::size_t i = 0; i < streams_.size(); ++i) streams_[i]->on_time(now);
  if (closing()) return;
  if (now >= last_at_) {
    last_at_ = Time::max();
    nghttp2_submit_goaway(wire(), NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(wire()), NGHTTP2_NO_ERROR, nullptr, 0);
    kick();
  }
  if (!draining_ && streams_.empty() && now - idle_since_ > options().idle_timeout) begin_drain();
}

/// Source: RFC 9113 section 6.8: first a GOAWAY that names no call, for those that are on their way; a moment later the true one.
void ServerConnection::begin_drain() {
  if (std::exchange(draining_, true)) return;
  if (!settled()) return end();
  last_at_ = Clock::now() + options().drain_linger;
  nghttp2_submit_shutdown_notice(wire());
  for (auto& stream : streams_) {
    if (!stream->entry_ || stream->entry_->lasts != Lasts::subscription || stream->over()) continue;
    stream->finish_over_method({Code::unavailable, "the server is stopping", {}});
    defer(*stream);
  }
  after_wire();
  kick();
}

void ServerConnection::stop() {
  if (closing()) return;
  for (auto& stream : streams_) stream->finish_over_method({Code::unavailable, "the server is stopping", {}});
  refuse(NGHTTP2_NO_ERROR, "the server has stopped");
}

}  // namespace flexi::transports::grpc
