// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/handler.hpp"
#include "core/transport.hpp"
#include "transports/grpc/grpc.hpp"
#include "transports/grpc/metadata.hpp"
#include "transports/grpc/status.hpp"

namespace flexi::transports::grpc {

/// How a call ended, for whoever made it.
struct ClientResult {
  Status status{};
  std::string message{};  ///< the answer of a unary call that ended ok
  Metadata initial{};     ///< the peer's headers
  Metadata trailing{};    ///< the peer's trailers; of a trailers-only answer all is here
  core::Sent sent = core::Sent::maybe;  ///< `no`: it certainly never reached the peer's method
  bool answered = false;                ///< the status is the peer's own word (grpc-status), not found out on this side
};

/// A streaming call under way. One read and one write at a time, side by side.
/// Cancellation: of a coroutine that waits in read() or write(): ends the wait and resets the stream
/// Lifetime/threads: the shard's thread where it was opened; destroying it before its end resets the stream
class ClientStream {
 public:
  virtual ~ClientStream() = default;
  /// Waits while the peer reads slowly.
  /// @return unavailable where the call has ended: finish() says how
  virtual core::awaitable<core::Result<void>> write(std::string message) = 0;
  /// No more writes.
  virtual void close_send() = 0;
  /// The next message; none when the call has ended: finish() says how.
  virtual core::awaitable<core::Result<std::optional<std::string>>> read() = 0;
  /// Returns when the peer's headers have come (or the call has ended).
  virtual core::awaitable<core::Result<void>> wait_for_headers() = 0;
  /// Ends the call now: RST_STREAM(CANCEL), status CANCELLED.
  virtual void cancel() = 0;
  /// Waits for the call's end, dropping messages that were not read. `message` stays empty.
  virtual core::awaitable<ClientResult> finish() = 0;
};

/// One peer: all its addresses in turn, one connection per address and shard. Reconnects by itself, never sends a request twice: a
/// unary call that the peer certainly never began (REFUSED_STREAM, GOAWAY, not left yet) moves to another connection, as often as there
/// are addresses; nothing else does.
/// Lifetime/threads: unary() and open() on any thread that runs an io_context, best a shard's: a shard has its own connections
class Channel {
 public:
  virtual ~Channel() = default;
  /// "grpc://host:port" or "grpcs://host:port".
  /// @return invalid_argument where the endpoint can't be understood, or a certificate can't be read
  static core::Result<std::unique_ptr<Channel>> make(GrpcClientOptions options, Process process, std::string endpoint);

  /// One message out, one back. grpc-timeout and traceparent are made of `context`.
  /// @param path "/package.Service/Method"; a literal, or outlives the call
  /// Cancellation: resets the stream; the result is cancelled, or deadline_exceeded where the deadline has passed
  virtual core::awaitable<ClientResult> unary(std::string_view path, std::string message, Metadata metadata, core::CallContext context) = 0;
  /// Opens a stream; on a shard's thread only, and the stream stays there.
  /// @return unavailable (not sent) where no connection is to be had, deadline_exceeded, overloaded
  virtual core::awaitable<core::Result<std::unique_ptr<ClientStream>>> open(std::string_view path, Metadata metadata, core::CallContext context) = 0;
  /// Running calls end or are cancelled; later ones are UNAVAILABLE. Called once.
  virtual core::awaitable<void> stop(core::StopOptions options) = 0;
};

}  // namespace flexi::transports::grpc
