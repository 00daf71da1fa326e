// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "core/handler.hpp"
#include "transports/grpc/metadata.hpp"
#include "transports/grpc/status.hpp"

namespace flexi::transports::grpc {

/// Stands, as "maybe", in the trailers where the session answers for a method that may have begun (deadline, stop).
inline constexpr std::string_view kSentKey = "x-flexi-sent";

/// Stands, as an error kind's name, in the trailers where the session knows better than gRPC's code: a message over the limit is
/// RESOURCE_EXHAUSTED to everybody, and invalid_argument to us.
inline constexpr std::string_view kErrorKey = "x-flexi-error";

/// One call as the method that answers it sees it. Messages are the bytes between frames: uncompressed, unparsed.
/// Cancellation: when the caller leaves, the deadline passes or the server's grace is over, the method's coroutine is
///               cancelled (terminal); whatever it returns then is not sent
/// Lifetime/threads: lives until the method has returned; the shard's thread only
class ServerCall {
 public:
  virtual ~ServerCall() = default;

  virtual std::string_view path() const = 0;
  virtual const Metadata& metadata() const = 0;
  /// Deadline from grpc-timeout, capped by the server's options (without one: the server's default for unary methods, none
  /// for streaming ones); trace from traceparent. `caller` is empty: the method decides who calls.
  virtual const core::CallContext& context() const = 0;
  virtual bool peer_is_loopback() const = 0;
  virtual std::string_view peer() const = 0;  ///< address and port, for the log

  /// The next message; none when the caller has sent the last. One read at a time.
  /// @return cancelled or deadline_exceeded where the call is over; invalid_argument, overloaded or internal where the peer's
  ///         framing was wrong (the session has answered already: just return)
  virtual core::awaitable<core::Result<std::optional<std::string>>> read() = 0;
  /// So many bytes more (or fewer) of what was read are still worked with: they count against the server's limits. What is left
  /// at the method's end is forgotten; a unary method's request counts till then by itself.
  virtual void hold(std::int64_t bytes) = 0;
  /// Returns when the message may be followed by another: waits while the caller reads slowly. One write at a time.
  /// @return cancelled or deadline_exceeded where the call is over; overloaded where the message is over the limit
  virtual core::awaitable<core::Result<void>> write(std::string message) = 0;

  /// Sent before the first message, or with the answer where there is none. What is added later is ignored.
  virtual Metadata& initial_metadata() = 0;
  /// Sends the initial metadata now, ahead of the first message.
  virtual void send_initial_metadata() = 0;
  virtual Metadata& trailing_metadata() = 0;
};

/// What a unary method answers. `message` counts only where `status` is ok.
struct UnaryAnswer {
  Status status{};
  std::string message{};
};

/// A streaming method: reads and writes as it likes. The returned status ends the call.
using StreamMethod = std::function<core::awaitable<Status>(ServerCall& call)>;
/// One message in, one out: the fast path. The session has read the request's one message and writes the answer.
using UnaryMethod = std::function<core::awaitable<UnaryAnswer>(ServerCall& call, std::string request)>;

/// A call ends when it has answered; a subscription only when somebody leaves, so a stopping server ends it at once
/// (UNAVAILABLE) and waits for calls.
enum class Lasts { call, subscription };

/// The methods of one server by path ("/package.Service/Method"). An exception out of a method is INTERNAL, logged.
/// The functions return coroutines and must not be coroutine lambdas with captures: capture in a plain lambda that calls one.
/// Lifetime/threads: filled before the server starts, then read by every shard
class MethodTable {
 public:
  struct Entry {
    UnaryMethod unary{};    ///< one of the two
    StreamMethod stream{};
    Lasts lasts = Lasts::call;
  };

  /// The same path twice aborts: it is a bug.
  void add_unary(std::string path, UnaryMethod method);
  void add_stream(std::string path, StreamMethod method, Lasts lasts = Lasts::call);
  /// Null where there is none. Such a call is answered UNIMPLEMENTED.
  const Entry* find(std::string_view path) const;

 private:
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  std::unordered_map<std::string, Entry, Hash, std::equal_to<>> entries_;
};

}  // namespace flexi::transports::grpc
