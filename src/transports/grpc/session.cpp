// SPDX-License-Identifier: Apache-2.0
#include "transports/grpc/session.hpp"

#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/this_coro.hpp>
#include <cstring>

namespace flexi::transports::grpc {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

constexpr std::size_t kReadBytes = 16 * 1024, kMaxReadBytes = 128 * 1024;  // a buffer grows with a busy peer
constexpr std::size_t kWriteBytes = 64 * 1024;         // gathered for one write
constexpr std::size_t kMaxQueuedFrames = 256;          // while the peer does not read: more, and we don't read either
constexpr std::int32_t kConnectionWindow = 16 << 20;   // what bounds memory are the streams' windows
constexpr int kPingStrikes = 2;
constexpr std::chrono::milliseconds kLingerTime{1000};
constexpr std::size_t kLingerBytes = 1 << 20;

}  // namespace

/// nghttp2's callbacks, in one place.
struct SessionCallbacks {
  static Session& self(void* user) { return *static_cast<Session*>(user); }

  static int begin_headers(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    self(user).on_begin_headers(*frame);
    return 0;
  }
  static int header(nghttp2_session* wire, const nghttp2_frame* frame, const std::uint8_t* name, std::size_t name_size, const std::uint8_t* value,
                    std::size_t value_size, std::uint8_t, void* user) {
    auto* stream = static_cast<Session::StreamBase*>(nghttp2_session_get_stream_user_data(wire, frame->hd.stream_id));
    if (stream) self(user).on_header(stream, *frame, {reinterpret_cast<const char*>(name), name_size}, {reinterpret_cast<const char*>(value), value_size});
    return 0;
  }
  static int data(nghttp2_session* wire, std::uint8_t, std::int32_t id, const std::uint8_t* bytes, std::size_t size, void* user) {
    // Only the streams' windows hold a peer back, or one slow stream would hold back all.
    nghttp2_session_consume_connection(wire, size);
    auto* stream = static_cast<Session::StreamBase*>(nghttp2_session_get_stream_user_data(wire, id));
    if (stream) self(user).on_data(stream, {reinterpret_cast<const char*>(bytes), size});
    return 0;
  }
  static int begin_frame(nghttp2_session*, const nghttp2_frame_hd* head, void* user) {
    self(user).count_frame(*head);
    return 0;
  }
  static int frame(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    auto& me = self(user);
    switch (frame->hd.type) {
      case NGHTTP2_DATA:
      case NGHTTP2_HEADERS: me.on_frame(*frame); break;
      case NGHTTP2_SETTINGS:
        if (frame->hd.flags & NGHTTP2_FLAG_ACK) me.settings_acked_ = true;
        else me.peer_settings_ = true, me.on_settings();
        break;
      case NGHTTP2_PING:
        if (frame->hd.flags & NGHTTP2_FLAG_ACK) me.ping_out_ = false;
        else me.count_ping();
        break;
      case NGHTTP2_RST_STREAM: me.count_reset(); break;
      case NGHTTP2_GOAWAY: me.on_goaway(frame->goaway); break;
      default: break;
    }
    return 0;
  }
  static int invalid_frame(nghttp2_session*, const nghttp2_frame*, int, void* user) {
    self(user).count_reset();  // each makes us reset a stream: as costly as the peer's own resets
    return 0;
  }
  static int sent(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    if (frame->hd.type > NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_RST_STREAM) return 0;
    self(user).ping_strikes_ = 0;  // who pings while we send probes the line, which is fair
    self(user).on_sent(*frame);
    return 0;
  }
  static int stream_close(nghttp2_session* wire, std::int32_t id, std::uint32_t http2_error, void* user) {
    auto* stream = static_cast<Session::StreamBase*>(nghttp2_session_get_stream_user_data(wire, id));
    if (stream) self(user).on_stream_close(stream, http2_error);
    return 0;
  }

  static nghttp2_session_callbacks* make() {
    nghttp2_session_callbacks* all = nullptr;
    nghttp2_session_callbacks_new(&all);
    nghttp2_session_callbacks_set_on_begin_headers_callback(all, begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(all, header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(all, data);
    nghttp2_session_callbacks_set_on_begin_frame_callback(all, begin_frame);
    nghttp2_session_callbacks_set_on_frame_recv_callback(all, frame);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(all, invalid_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(all, sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(all, stream_close);
    return all;
  }
};

Session::Session(asio::ip::tcp::socket socket, const SessionOptions& options, runtime::LogSink& log, Time now)
    : link_(std::move(socket)), scope_(link_.socket().get_executor(), "grpc connection", log), log_(log), options_(options), in_(kReadBytes),
      wake_writer_(scope_.executor(), Time::max()), wake_reader_(scope_.executor(), Time::max()), resets_(options.max_resets_per_second),
      control_frames_(options.max_control_frames_per_second), now_(now), began_(now), received_(now) {
  // Windows open when a method or a caller has read, not when bytes have come.
  nghttp2_option* option = nullptr;
  nghttp2_option_new(&option);
  nghttp2_option_set_no_auto_window_update(option, 1);
  // Ours (count_reset) has its limit in the options.
  nghttp2_option_set_stream_reset_rate_limit(option, UINT64_MAX / 2, UINT64_MAX / 2);
  auto* callbacks = SessionCallbacks::make();
  if (options_.side == SessionOptions::Side::server) nghttp2_session_server_new2(&wire_, callbacks, this, option);
  else nghttp2_session_client_new2(&wire_, callbacks, this, option);
  nghttp2_session_callbacks_del(callbacks);
  nghttp2_option_del(option);
}

Session::~Session() { nghttp2_session_del(wire_); }

void Session::submit_settings() {
  std::vector<nghttp2_settings_entry> entries{{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, options_.stream_window_bytes},
                                              {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, options_.max_header_bytes}};
  if (options_.side == SessionOptions::Side::server) entries.push_back({NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, options_.max_concurrent_streams});
  else entries.push_back({NGHTTP2_SETTINGS_ENABLE_PUSH, 0});
  nghttp2_submit_settings(wire_, NGHTTP2_FLAG_NONE, entries.data(), entries.size());
  nghttp2_session_set_local_window_size(wire_, NGHTTP2_FLAG_NONE, 0, kConnectionWindow);
}

void Session::count_frame(const nghttp2_frame_hd& head) {
  if (head.type == NGHTTP2_HEADERS && options_.side == SessionOptions::Side::server) {
    // nghttp2 passes over these. Source: RFC 9113 section 5.1.1
    if (head.stream_id <= last_stream_ && !nghttp2_session_find_stream(wire_, head.stream_id)) refuse(NGHTTP2_PROTOCOL_ERROR, "an earlier stream can't begin now");
    last_stream_ = std::max(last_stream_, head.stream_id);
  }
  const bool work = head.type == NGHTTP2_HEADERS || head.type == NGHTTP2_RST_STREAM || head.type == NGHTTP2_WINDOW_UPDATE ||
                    (head.type == NGHTTP2_DATA && (head.length != 0 || (head.flags & NGHTTP2_FLAG_END_STREAM)));
  const bool answer = (head.type == NGHTTP2_PING || head.type == NGHTTP2_SETTINGS) && (head.flags & NGHTTP2_FLAG_ACK);
  if (work || answer || options_.max_control_frames_per_second == 0) return;
  if (!control_frames_.take(now_)) refuse(NGHTTP2_ENHANCE_YOUR_CALM, "too_many_control_frames");
}

/// Source: https://github.com/grpc/proposal/blob/master/A8-client-side-keepalive.md "Server Enforcement"
void Session::count_ping() {
  const auto now = Clock::now();
  if (options_.min_ping_interval.count() != 0 && now - std::exchange(peer_pinged_, now) < options_.min_ping_interval && ++ping_strikes_ > kPingStrikes)
    refuse(NGHTTP2_ENHANCE_YOUR_CALM, "too_many_pings");
}

/// A peer that opens and resets makes us work for nothing (CVE-2023-44487).
void Session::count_reset() {
  if (options_.max_resets_per_second != 0 && !resets_.take(now_)) refuse(NGHTTP2_ENHANCE_YOUR_CALM, "too_many_resets");
}

void Session::refuse(std::uint32_t http2_error, std::string_view reason) {
  const bool orderly = http2_error == NGHTTP2_NO_ERROR;
  if (closing_) {
    orderly_ = orderly_ && orderly;
    return;
  }
  orderly_ = orderly;
  nghttp2_submit_goaway(wire_, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(wire_), http2_error,
                        reinterpret_cast<const std::uint8_t*>(reason.data()), reason.size());
  end();
}

void Session::end() {
  if (closing_) return;
  closing_ = true;
  end_at_ = Clock::now() + kLingerTime;
  if (!started_) return link_.close();
  wake_reader_.cancel();
  kick();
}

bool Session::backed_up() const {
  // Only a server may stop reading: two ends that both did would wait for each other.
  return options_.side == SessionOptions::Side::server && !broken_ && nghttp2_session_get_outbound_queue_size(wire_) > kMaxQueuedFrames;
}

/// Answers that are under way want the peer's windows: an orderly end listens until all has been said.
bool Session::reads_on() const {
  if (broken_) return false;
  return !closing_ || (orderly_ && (nghttp2_session_want_read(wire_) || nghttp2_session_want_write(wire_)));
}

core::awaitable<void> Session::wait_to_read() {
  while (backed_up() && reads_on()) {
    error_code ignored;
    co_await wake_reader_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
}

core::awaitable<void> Session::pump() {
  co_await asio::this_coro::throw_if_cancelled(false);
  if (closing_) {
    link_.close();
    co_return;
  }
  started_ = true;
  began_ = received_ = now_ = Clock::now();
  scope_.spawn(write_loop());
  submit_settings();
  kick();
  while (reads_on()) {
    if (backed_up()) co_await wait_to_read();
    error_code ec;
    reading_ = true;
    const auto got = co_await link_.read_some(asio::buffer(in_), ec);
    reading_ = false;
    if (!reads_on()) break;
    if (ec) {
      broken_ = true;
      break;
    }
    received_ = now_;
    const auto used = nghttp2_session_mem_recv(wire_, in_.data(), got);
    if (used < 0) {
      // Nothing that it says after this is understood. What nghttp2 ends by itself it has queued a GOAWAY for.
      if (used == NGHTTP2_ERR_FLOODED) refuse(NGHTTP2_ENHANCE_YOUR_CALM, "too many frames wait for their answer");
      else if (used == NGHTTP2_ERR_BAD_CLIENT_MAGIC) refuse(NGHTTP2_PROTOCOL_ERROR, "this is not HTTP/2");
      else refuse(NGHTTP2_INTERNAL_ERROR, nghttp2_strerror(static_cast<int>(used)));
    }
    after_wire();
    kick();
    if (got == in_.size() && in_.size() < kMaxReadBytes) in_.resize(in_.size() * 4);
  }
  closing_ = true;
  end_at_ = std::min(end_at_, Clock::now() + kLingerTime);
  if (!broken_) co_await write_rest();  // before the streams are given up: what they have to say is theirs
  on_end();
  if (!broken_) co_await linger();
  link_.close();
  writer_done_ = true;
  wake_writer_.cancel();
  while (posted_) co_await asio::post(scope_.executor(), asio::use_awaitable);
  scope_.cancel();
  co_await scope_.join();
}

/// All that may go without another word of the peer; tick() ends the wait for one that does not take it.
core::awaitable<void> Session::write_rest() {
  flush();
  while ((posted_ || writing_ || nghttp2_session_want_write(wire_)) && !broken_) {
    error_code ignored;
    co_await wake_reader_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
}

/// Closing while unread bytes wait would reset the connection, and the peer might never read our GOAWAY.
core::awaitable<void> Session::linger() {
  co_await write_rest();
  error_code ec;
  if (broken_) co_return;
  co_await link_.shutdown();
  ec = {};
  for (std::size_t total = 0; total < kLingerBytes && !ec;) total += co_await link_.socket().async_read_some(asio::buffer(in_), asio::redirect_error(asio::use_awaitable, ec));
}

void Session::kick() {
  if (!started_ || posted_ || writing_ || writer_done_) return;
  posted_ = true;
  asio::post(scope_.executor(), [this] {
    posted_ = false;
    flush();
  });
}

/// @return whether there is more than one write holds
bool Session::fill() {
  const std::uint8_t* bytes = nullptr;
  ssize_t size = 0;
  while (out_.size() < kWriteBytes && (size = nghttp2_session_mem_send(wire_, &bytes)) > 0) out_.append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(size));
  if (size < 0) end();
  return size > 0;
}

/// All is written. Where nothing more can come or go, the reader, which waits in vain, goes on in linger().
void Session::stop_when_done() {
  if (!closing_ && !nghttp2_session_want_read(wire_) && !nghttp2_session_want_write(wire_)) {
    closing_ = true;
    end_at_ = Clock::now() + kLingerTime;
  }
  if (!closing_ || !reading_ || reads_on() || nghttp2_session_want_write(wire_)) return;
  error_code ignored;
  link_.socket().cancel(ignored);
}

/// Most of what is written fits the socket's buffer: no coroutine for that.
void Session::flush() {
  if (writing_ || broken_ || writer_done_) return;
  const bool more = fill();
  after_wire();
  if (closing_ || !backed_up()) wake_reader_.cancel();
  if (out_.empty()) return stop_when_done();
  error_code ec;
  const auto sent = link_.write_now(asio::buffer(out_), ec);
  if (ec && ec != asio::error::would_block) {
    broken_ = true;
    link_.close();
    wake_reader_.cancel();
    return;
  }
  if (sent == out_.size()) {
    out_.clear();
    if (more) return kick();
    return stop_when_done();
  }
  out_.erase(0, sent);
  writing_ = true;
  writing_since_ = now_;
  wake_writer_.cancel();
}

core::awaitable<void> Session::write_loop() {
  co_await asio::this_coro::throw_if_cancelled(false);
  while (!writer_done_) {
    error_code ec;
    if (!writing_) {
      wake_writer_.expires_at(Time::max());
      co_await wake_writer_.async_wait(asio::redirect_error(asio::use_awaitable, ec));
      continue;
    }
    co_await link_.write(asio::buffer(out_), ec);
    out_.clear();
    if (out_.capacity() > 4 * kWriteBytes) out_.shrink_to_fit();
    writing_ = false;
    if (ec) {
      broken_ = true;
      link_.close();
    }
    wake_reader_.cancel();
    flush();
  }
}

void Session::tick(Time now) {
  now_ = now;
  const auto give_up = [&](const char* why) {
    log_.debug("grpc connection given up", {{"why", why}});
    broken_ = true;
    link_.close();
    wake_reader_.cancel();
  };
  if (now >= end_at_) return give_up("it did not close");
  if (writing_ && now - writing_since_ > options_.write_timeout) return give_up("the peer does not read");
  if (!peer_settings_) {
    if (now - began_ > options_.handshake_timeout) give_up("no SETTINGS came");
    return;
  }
  if (closing_) return;
  if (!settings_acked_ && now - began_ > options_.settings_timeout) return refuse(NGHTTP2_SETTINGS_TIMEOUT, "settings_timeout");
  if (ping_out_) {
    if (received_ > ping_sent_) ping_out_ = false;  // whatever came shows that it lives
    else if (now - ping_sent_ > options_.keep_alive_timeout) give_up("the peer is silent");
  } else if (has_streams() && now - std::max(received_, ping_sent_) > options_.keep_alive) {
    ping_out_ = true;
    ping_sent_ = now;
    nghttp2_submit_ping(wire_, NGHTTP2_FLAG_NONE, nullptr);
    kick();
  }
}

}  // namespace flexi::transports::grpc
