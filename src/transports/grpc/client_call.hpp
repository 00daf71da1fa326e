// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "runtime/completion.hpp"
#include "transports/grpc/channel.hpp"
#include "transports/grpc/fields.hpp"
#include "transports/grpc/session.hpp"
#include "transports/grpc/wire.hpp"

namespace flexi::transports::grpc {

class ClientConnection;

/// What a call starts with.
struct CallStart {
  std::string_view path;
  Metadata metadata;
  core::CallContext context;
  bool unary = true;
  std::string message{};  ///< of a unary call
  std::optional<Frame> packed{};  ///< of one that was begun before: its message as it went then
};

/// One call on the client's side. Reused by the connection for later calls, so a call costs few allocations.
/// Lifetime/threads: the shard's thread; freed when wire and caller are both done with it. It may outlive its connection
class ClientCall final : public Session::StreamBase {
 public:
  explicit ClientCall(ClientConnection& connection);

  // The caller's.
  core::awaitable<void> wait_until_done();
  core::awaitable<core::Result<void>> write(std::string message);
  void close_send();
  core::awaitable<core::Result<std::optional<std::string>>> read();
  core::awaitable<core::Result<void>> wait_for_headers();
  /// The call is over for its caller, whatever the peer does: RST_STREAM(CANCEL).
  void give_up(Status status);
  bool done() const { return done_; }
  ClientResult& result() { return result_; }
  /// A unary call once more, for another connection: this one has ended, and certainly never began at the peer.
  CallStart again();
  void drop_messages();

  // The connection's.
  void start(CallStart start);
  void header(std::string_view name, std::string_view value);
  void headers_done(bool end_of_stream);
  void data(std::string_view bytes);
  void peer_finished();
  /// nghttp2 knows the stream no more.
  void stream_closed(std::uint32_t http2_error);
  void on_time(Session::Time now);
  void wake();
  void forget() { out_.clear(); }

  std::size_t index_ = 0;     ///< in the connection's list of calls
  bool wire_ = false;         ///< nghttp2 knows the stream
  bool held_ = false;         ///< the caller holds it
  bool deferred_ = false;     ///< in the connection's list of what is to be looked at
  bool on_wire_ = false;      ///< its header has left: the peer may have begun
  ClientConnection* connection_;  ///< null once that is gone

 private:
  using Waiter = std::shared_ptr<runtime::Completion<void>>;

  void conclude(Status status, core::Sent sent);
  void reset();
  Frame pack(std::string message);
  core::Result<std::string> unpack(Frame frame) const;
  void consume();
  core::awaitable<core::Result<void>> wait(Waiter ClientCall::*waiter);
  static ssize_t read_data(nghttp2_session* wire, std::int32_t id, std::uint8_t* buffer, std::size_t size, std::uint32_t* flags, nghttp2_data_source* source, void*);

  CallStart start_;
  std::string timeout_, traceparent_;
  Fields fields_;
  OutQueue out_;
  Deframer in_;
  ClientResult result_;
  Waiter done_waiter_, reader_, writer_, headers_waiter_;
  std::size_t header_bytes_ = 0, unconsumed_ = 0;
  std::size_t max_message_bytes_;
  int http_status_ = 0;
  std::optional<Code> code_;
  bool headers_came_ = false, done_ = false, send_closed_ = false, gzip_ = false, grpc_type_ = false, bad_metadata_ = false;
};

/// The caller's hold of a call: gives it up when it goes.
class CallHold {
 public:
  explicit CallHold(ClientCall& call) : call_(&call) { call.held_ = true; }
  CallHold(CallHold&& other) noexcept : call_(std::exchange(other.call_, nullptr)) {}
  CallHold& operator=(CallHold&&) = delete;
  ~CallHold();
  ClientCall* operator->() const { return call_; }
  ClientCall& operator*() const { return *call_; }

 private:
  ClientCall* call_;
};

}  // namespace flexi::transports::grpc
