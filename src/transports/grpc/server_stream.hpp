// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/cancellation_signal.hpp>

#include "runtime/completion.hpp"
#include "transports/grpc/fields.hpp"
#include "transports/grpc/method.hpp"
#include "transports/grpc/session.hpp"
#include "transports/grpc/wire.hpp"

namespace flexi::transports::grpc {

class ServerConnection;

/// One call on the server's side: from its first header to its last trailer. Reused by the connection for later calls, so a
/// call costs few allocations.
/// Lifetime/threads: the shard's thread; the connection's, which frees it when wire and method are both done with it
class ServerStream final : public ServerCall, public Session::StreamBase {
 public:
  explicit ServerStream(ServerConnection& connection);

  // ServerCall
  std::string_view path() const override { return path_; }
  const Metadata& metadata() const override { return metadata_; }
  const core::CallContext& context() const override { return context_; }
  bool peer_is_loopback() const override;
  std::string_view peer() const override;
  core::awaitable<core::Result<std::optional<std::string>>> read() override;
  core::awaitable<core::Result<void>> write(std::string message) override;
  Metadata& initial_metadata() override { return initial_; }
  void hold(std::int64_t bytes) override;
  void send_initial_metadata() override;
  Metadata& trailing_metadata() override { return trailing_; }

  // The connection's.
  void open(std::int32_t stream_id);
  void header(std::string_view name, std::string_view value);
  /// The header is complete: refuses the call, or says when its method can start.
  void headers_done();
  void data(std::string_view bytes);
  void peer_finished();
  void run_unary_begins(std::string& message);
  void method_ended();
  /// Ends the call with `status`, after what has been written. Where it has ended already nothing happens.
  void finish(Status status);
  /// As finish(), with the message of a unary method that is well.
  void answer(UnaryAnswer answer);
  /// As finish(), while the method may have begun.
  /// @param too_large a message was over the limit: no later time makes it fit
  void finish_over_method(Status status, bool too_large = false);
  void on_time(Session::Time now);
  void wake();
  bool over() const { return finished_ || closed_; }

  bool start_ = false;      ///< the method is to be started
  bool running_ = false;    ///< the method runs
  bool closed_ = false;     ///< nghttp2 knows the stream no more
  bool deferred_ = false;   ///< in the connection's list of what is to be looked at
  std::size_t index_ = 0;   ///< in the connection's list of streams
  const MethodTable::Entry* entry_ = nullptr;
  boost::asio::cancellation_signal* signal_ = nullptr;  ///< while the method runs

  bool peer_done() const { return peer_done_; }
  bool finished() const { return finished_; }

 private:
  enum class Encoding { identity, gzip, unknown };

  void refuse(Status status);
  /// What is no gRPC call is answered as HTTP, in words.
  void refuse_http(std::string_view http_status, std::string message);
  void send_headers(bool with_data);
  void submit(bool with_data);
  static const Metadata& frozen(Metadata& from, Metadata& to);
  core::Result<std::string> unpack(Frame frame) const;
  Frame pack(std::string message);
  void consume(std::size_t bytes);
  void account();
  core::Error over_error() const;
  static ssize_t read_data(nghttp2_session* wire, std::int32_t id, std::uint8_t* buffer, std::size_t size, std::uint32_t* flags, nghttp2_data_source* source, void*);

  ServerConnection& connection_;
  std::string path_, plain_text_;
  Metadata metadata_, initial_, trailing_;    ///< the last two the method's to add to
  Metadata sent_initial_, sent_trailing_;     ///< what the wire was given of them
  core::CallContext context_;
  std::optional<std::chrono::nanoseconds> timeout_;
  Deframer in_;
  OutQueue out_;
  Fields headers_, trailers_;
  std::shared_ptr<runtime::Completion<void>> reader_, writer_;
  std::size_t header_bytes_ = 0, unconsumed_ = 0, accounted_ = 0;
  std::int64_t worked_with_ = 0;  ///< bytes that the method has read and still needs
  Session::Time finished_at_{};
  Session::Time message_since_{};  ///< when the message that is coming could begin to come
  std::optional<core::Error> in_error_;  ///< what was wrong with what came
  Status status_;
  Encoding encoding_ = Encoding::identity;
  bool post_ = false, grpc_ = false, te_ = false, bad_timeout_ = false, bad_metadata_ = false, accepts_gzip_ = false;
  bool headers_sent_ = false, finished_ = false, peer_done_ = false, plain_ = false;
};

}  // namespace flexi::transports::grpc
