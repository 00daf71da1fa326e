// SPDX-License-Identifier: Apache-2.0
#include "transports/grpc/client_call.hpp"

#include <charconv>

#include "transports/grpc/client_connection.hpp"
#include "transports/grpc/gzip.hpp"

namespace flexi::transports::grpc {

using runtime::Completion;

namespace {
constexpr std::size_t kWriteAhead = 64 * 1024;  // written by a caller ahead of what the peer takes
constexpr std::string_view kUserAgent = "grpc-flexiconnect/1", kEncodings = "identity,gzip";
}  // namespace

ClientCall::ClientCall(ClientConnection& connection) : connection_(&connection), in_(0), max_message_bytes_(0) {}

void ClientCall::start(CallStart start) {
  const auto& options = connection_->options();
  id = 0;
  wire_ = deferred_ = on_wire_ = false;
  start_ = std::move(start);
  fields_.clear();
  out_.clear();
  max_message_bytes_ = static_cast<std::size_t>(options.max_message_bytes);
  in_.reset(max_message_bytes_);
  result_ = {};
  header_bytes_ = unconsumed_ = 0;
  http_status_ = 0;
  code_.reset();
  headers_came_ = done_ = send_closed_ = gzip_ = grpc_type_ = bad_metadata_ = false;

  auto& fields = fields_;
  fields.add(":method", "POST");
  fields.add(":scheme", connection_->scheme());
  fields.add(":path", start_.path);
  fields.add(":authority", connection_->authority());
  fields.add("te", "trailers");
  fields.add("content-type", "application/grpc");
  fields.add("user-agent", kUserAgent);
  fields.add("grpc-accept-encoding", kEncodings);
  if (options.compress_from_bytes != 0) fields.add("grpc-encoding", "gzip");
  if (start_.context.has_deadline()) {
    timeout_ = encode_timeout(start_.context.remaining());
    fields.add("grpc-timeout", timeout_, Fields::Index::no);
  }
  if (start_.context.trace.valid()) {
    traceparent_ = start_.context.trace.to_traceparent();
    fields.add("traceparent", traceparent_, Fields::Index::no);
  }
  if (!fields.add(start_.metadata)) return conclude({Code::invalid_argument, "metadata must be ASCII text, or bytes under a key that ends in -bin", {}}, core::Sent::no);
  if (start_.unary) {
    out_.push(start_.packed ? std::move(*start_.packed) : pack(std::move(start_.message)));
    out_.keep();
    send_closed_ = true;
  }
  nghttp2_data_provider provider;
  provider.source.ptr = this;
  provider.read_callback = read_data;
  id = nghttp2_submit_request(connection_->wire(), nullptr, fields_.data(), fields_.size(), &provider, static_cast<StreamBase*>(this));
  if (id < 0) return conclude({Code::unavailable, "the connection takes no more calls", {}}, core::Sent::no);
  wire_ = true;
  connection_->kick();
}

// --- what comes ---

void ClientCall::header(std::string_view name, std::string_view value) {
  header_bytes_ += name.size() + value.size() + 32;
  if (header_bytes_ > static_cast<std::size_t>(connection_->options().max_header_bytes)) return;
  if (name == "grpc-status") code_ = code_from_wire(value);
  else if (name == "grpc-message") result_.status.message = percent_decode(value);
  else if (name == "grpc-status-details-bin") result_.status.details = base64_decode(value).value_or("");
  else if (name == ":status") std::from_chars(value.data(), value.data() + value.size(), http_status_);
  else if (name == "content-type") grpc_type_ = is_grpc_content_type(value);
  else if (name == "grpc-encoding") gzip_ = value == "gzip";
  else if (name == "grpc-accept-encoding") return;
  else if (!add_received(headers_came_ ? result_.trailing : result_.initial, name, value)) bad_metadata_ = true;
}

void ClientCall::headers_done(bool end_of_stream) {
  if (http_status_ / 100 == 1) {  // interim: the real one follows
    http_status_ = 0;
    result_.initial.clear();
    return;
  }
  if (header_bytes_ > static_cast<std::size_t>(connection_->options().max_header_bytes))
    return give_up({Code::resource_exhausted, "the answer's header is over the limit", {}});
  if (!headers_came_) {
    headers_came_ = true;
    if (end_of_stream) std::swap(result_.initial, result_.trailing);
  }
  connection_->defer(*this);
}

void ClientCall::data(std::string_view bytes) {
  unconsumed_ += bytes.size();
  if (done_ || http_status_ != 200 || !grpc_type_) return consume();
  if (auto fed = in_.feed(bytes); !fed) return give_up(to_status(fed.error()));
  if (start_.unary || in_.messages() == 0) consume();
  if (!start_.unary) connection_->defer(*this);
}

void ClientCall::peer_finished() {
  if (done_) return;
  if (!code_) {
    // Source: https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md
    if (http_status_ != 200) return conclude({code_from_http(http_status_), "the peer answered HTTP status " + std::to_string(http_status_), {}}, core::Sent::maybe);
    return conclude({Code::unknown, grpc_type_ ? "the peer ended the call without a status" : "the peer's answer is not gRPC", {}}, core::Sent::maybe);
  }
  result_.answered = true;
  result_.status.code = *code_;
  if (*code_ == Code::ok) {
    if (in_.in_message()) return conclude({Code::internal, "the answer ended within a message", {}}, core::Sent::maybe);
    if (bad_metadata_) return conclude({Code::internal, "the answer's metadata was not understood", {}}, core::Sent::maybe);
    if (start_.unary) {
      if (in_.messages() != 1) return conclude({Code::internal, "a call wants one answer, not " + std::to_string(in_.messages()), {}}, core::Sent::maybe);
      auto message = unpack(in_.take());
      if (!message) return conclude(to_status(message.error()), core::Sent::maybe);
      result_.message = std::move(message.value());
    }
  }
  auto status = std::move(result_.status);
  conclude(std::move(status), core::Sent::maybe);
}

void ClientCall::stream_closed(std::uint32_t http2_error) {
  wire_ = false;
  if (done_) return;
  // REFUSED_STREAM, also where a GOAWAY names an earlier stream as the last. Source: RFC 9113 section 8.7
  const auto sent = http2_error == NGHTTP2_REFUSED_STREAM || !on_wire_ ? core::Sent::no : core::Sent::maybe;
  if (http2_error == NGHTTP2_REFUSED_STREAM) return conclude({Code::unavailable, "the peer takes no more calls on this connection", {}}, sent);
  if (http2_error == NGHTTP2_NO_ERROR) return conclude({Code::unavailable, "the peer ended the call without an answer", {}}, sent);
  if (start_.context.expired()) return conclude({Code::deadline_exceeded, "the request was not answered in time", {}}, sent);
  conclude({code_from_reset(http2_error), std::string("the peer reset the call: ") + nghttp2_http2_strerror(http2_error), {}}, sent);
}

void ClientCall::conclude(Status status, core::Sent sent) {
  done_ = true;
  result_.status = std::move(status);
  result_.sent = sent;
  if (connection_) connection_->defer(*this);
}

/// Copies what nghttp2 may still refer to.
CallStart ClientCall::again() {
  return {.path = start_.path, .metadata = start_.metadata, .context = start_.context, .unary = true, .packed = out_.take_back()};
}

void ClientCall::give_up(Status status) {
  if (done_) return;
  conclude(std::move(status), on_wire_ ? core::Sent::maybe : core::Sent::no);
  reset();
}

void ClientCall::reset() {
  if (!wire_) return;
  nghttp2_submit_rst_stream(connection_->wire(), NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
  connection_->kick();
}

void ClientCall::consume() {
  if (unconsumed_ == 0 || !wire_) return;
  nghttp2_session_consume_stream(connection_->wire(), id, std::exchange(unconsumed_, 0));
  connection_->kick();
}

void ClientCall::on_time(Session::Time now) {
  if (!done_ && now >= start_.context.deadline) give_up({Code::deadline_exceeded, "the request was not answered in time", {}});
}

void ClientCall::wake() {
  // In place, without a turn of the loop: nghttp2 has returned.
  const auto tell = [](Waiter& waiter) {
    if (auto mine = std::move(waiter)) mine->resolve(core::ok());
  };
  if (headers_came_ || done_) tell(headers_waiter_);
  if (in_.messages() != 0 || done_) tell(reader_);
  if (out_.held() <= kWriteAhead || done_) tell(writer_);
  if (done_) tell(done_waiter_);
}

// --- the caller ---

core::awaitable<core::Result<void>> ClientCall::wait(Waiter ClientCall::*waiter) {
  auto start = [this, waiter](std::shared_ptr<Completion<void>> completion) { this->*waiter = std::move(completion); };
  auto woken = co_await runtime::wait_for_completion<void>(std::move(start), core::cancelled("the call was cancelled"));
  if (woken) co_return core::ok();
  (this->*waiter).reset();
  give_up(start_.context.expired() ? Status{Code::deadline_exceeded, "the request was not answered in time", {}} : Status{Code::cancelled, "the call was cancelled", {}});
  co_return woken.error();
}

core::awaitable<void> ClientCall::wait_until_done() {
  if (!done_) (void)co_await wait(&ClientCall::done_waiter_);
}

core::awaitable<core::Result<void>> ClientCall::wait_for_headers() {
  if (!headers_came_ && !done_) co_return co_await wait(&ClientCall::headers_waiter_);
  co_return core::ok();
}

Frame ClientCall::pack(std::string message) {
  const auto from = connection_->options().compress_from_bytes;
  if (from == 0 || message.size() < static_cast<std::size_t>(from)) return {std::move(message), false};
  return {gzip(message), true};
}

core::Result<std::string> ClientCall::unpack(Frame frame) const {
  if (!frame.compressed) return std::move(frame.bytes);
  if (!gzip_) return core::internal("the answer is compressed, but grpc-encoding does not say how");
  return gunzip(frame.bytes, max_message_bytes_);
}

core::awaitable<core::Result<void>> ClientCall::write(std::string message) {
  if (done_ || send_closed_ || !wire_) co_return core::unavailable("the call has ended");
  out_.push(pack(std::move(message)));
  nghttp2_session_resume_data(connection_->wire(), id);
  connection_->kick();
  while (out_.held() > kWriteAhead && !done_) {
    auto waited = co_await wait(&ClientCall::writer_);
    if (!waited) co_return waited.error();
  }
  if (done_) co_return core::unavailable("the call has ended");
  co_return core::ok();
}

void ClientCall::close_send() {
  if (std::exchange(send_closed_, true) || !wire_) return;
  nghttp2_session_resume_data(connection_->wire(), id);
  connection_->kick();
}

core::awaitable<core::Result<std::optional<std::string>>> ClientCall::read() {
  while (in_.messages() == 0) {
    if (done_) co_return std::optional<std::string>();
    auto waited = co_await wait(&ClientCall::reader_);
    if (!waited) co_return waited.error();
  }
  auto message = unpack(in_.take());
  if (in_.messages() == 0) consume();
  if (!message) {
    give_up(to_status(message.error()));
    co_return message.error();
  }
  co_return std::optional(std::move(message.value()));
}

void ClientCall::drop_messages() {
  while (in_.messages() != 0) in_.take();
  start_.unary = true;  // what still comes is not kept
  consume();
}

ssize_t ClientCall::read_data(nghttp2_session*, std::int32_t, std::uint8_t* buffer, std::size_t size, std::uint32_t* flags, nghttp2_data_source* source, void*) {
  auto& me = *static_cast<ClientCall*>(source->ptr);
  if (!me.connection_ || me.connection_->ended()) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  const auto copied = me.out_.read(buffer, size);
  if (me.out_.empty() && me.send_closed_) *flags |= NGHTTP2_DATA_FLAG_EOF;
  else if (copied == 0) return NGHTTP2_ERR_DEFERRED;
  if (me.writer_ && me.out_.held() <= kWriteAhead) me.connection_->defer(me);
  return static_cast<ssize_t>(copied);
}

CallHold::~CallHold() {
  if (!call_) return;
  call_->held_ = false;
  if (call_->connection_) call_->connection_->dropped(*call_);
  else delete call_;
}

}  // namespace flexi::transports::grpc
