// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nghttp2/nghttp2.h>

#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/task_scope.hpp"
#include "transports/grpc/allowance.hpp"
#include "transports/grpc/link.hpp"

namespace flexi::transports::grpc {

struct SessionOptions {
  enum class Side { server, client } side;
  std::uint32_t max_concurrent_streams, stream_window_bytes, max_header_bytes;
  std::chrono::milliseconds handshake_timeout, settings_timeout, write_timeout, keep_alive, keep_alive_timeout;
  std::chrono::milliseconds min_ping_interval;          ///< of the peer's pings; 0: any
  double max_resets_per_second, max_control_frames_per_second;
};

/// One HTTP/2 connection: reads, feeds nghttp2, and writes what it has to say, one write for all that one turn of the loop
/// brought. Knows limits, time-outs and keep-alive; what streams mean is its two descendants'.
/// Source: RFC 9113
/// Lifetime/threads: the shard's thread; lives in the coroutine that runs it
class Session {
 public:
  using Clock = std::chrono::steady_clock;
  using Time = Clock::time_point;

  /// What a stream's owner hangs on nghttp2's stream.
  struct StreamBase {
    std::int32_t id = 0;
  };

  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// Sees to the time-outs; called every 20 ms.
  void tick(Time now);
  /// Writes soon: at the end of this turn of the loop.
  void kick();
  nghttp2_session* wire() { return wire_; }
  /// Nothing new can begin here.
  bool closing() const { return closing_; }
  /// Lets what is queued go out, then closes.
  void end();
  /// GOAWAY with a reason, then end(). Where it is no error (NO_ERROR) what runs still gets its answer across, for a moment.
  void refuse(std::uint32_t http2_error, std::string_view reason);

 protected:
  Session(boost::asio::ip::tcp::socket socket, const SessionOptions& options, runtime::LogSink& log, Time now);
  virtual ~Session();

  /// SETTINGS, then reads until the connection ends; whatever runs in `scope` has ended then.
  core::awaitable<void> pump();

  // From nghttp2, while it reads or writes: nghttp2_submit_… may be called, nothing that suspends or resumes.
  virtual void on_begin_headers(const nghttp2_frame& frame) = 0;
  virtual void on_header(StreamBase* stream, const nghttp2_frame& frame, std::string_view name, std::string_view value) = 0;
  virtual void on_data(StreamBase* stream, std::string_view bytes) = 0;
  virtual void on_frame(const nghttp2_frame& frame) = 0;  ///< HEADERS or DATA, complete
  virtual void on_sent(const nghttp2_frame& frame) = 0;   ///< HEADERS, DATA or RST_STREAM
  virtual void on_stream_close(StreamBase* stream, std::uint32_t http2_error) = 0;
  virtual void on_goaway(const nghttp2_goaway&) {}
  virtual void on_settings() {}
  // Outside of nghttp2: anything may be called.
  virtual void after_wire() = 0;
  virtual bool has_streams() const = 0;
  /// The connection is lost or over: every stream still there has ended.
  virtual void on_end() = 0;

  StreamBase* stream_of(std::int32_t id) { return static_cast<StreamBase*>(nghttp2_session_get_stream_user_data(wire_, id)); }
  bool settled() const { return peer_settings_; }  ///< the peer's SETTINGS have come
  Time now() const { return now_; }                ///< as of the last tick

  Link link_;
  runtime::TaskScope scope_;  ///< the writer, and whatever a descendant spawns
  runtime::LogSink& log_;

 private:
  friend struct SessionCallbacks;
  void submit_settings();
  bool fill();
  void flush();
  void stop_when_done();
  core::awaitable<void> write_loop();
  core::awaitable<void> wait_to_read();
  bool reads_on() const;
  core::awaitable<void> write_rest();
  core::awaitable<void> linger();
  bool backed_up() const;
  void count_frame(const nghttp2_frame_hd& head);
  void count_ping();
  void count_reset();

  const SessionOptions options_;
  nghttp2_session* wire_ = nullptr;
  std::vector<std::uint8_t> in_;
  std::string out_;
  boost::asio::steady_timer wake_writer_, wake_reader_;
  Allowance resets_, control_frames_;
  Time now_, began_, received_, ping_sent_{}, peer_pinged_{}, writing_since_{}, end_at_ = Time::max();
  int ping_strikes_ = 0;
  std::int32_t last_stream_ = 0;  ///< the highest that the peer has begun
  bool peer_settings_ = false, settings_acked_ = false, ping_out_ = false;
  bool started_ = false, writing_ = false, posted_ = false, broken_ = false, writer_done_ = false, reading_ = false;
  bool closing_ = false, orderly_ = false;  ///< orderly_: no fault of the peer's, so it may still take its answers
};

}  // namespace flexi::transports::grpc
