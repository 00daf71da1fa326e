// SPDX-License-Identifier: Apache-2.0
#include "transports/grpc/server_stream.hpp"

#include "transports/grpc/gzip.hpp"
#include "transports/grpc/server_connection.hpp"

namespace flexi::transports::grpc {

using runtime::Completion;

namespace {
core::Error holds_too_much() { return core::overloaded("the server holds too many bytes, try again later"); }
constexpr std::size_t kWriteAhead = 64 * 1024;  // written by a method ahead of what the peer takes
constexpr std::string_view kGrpcType = "application/grpc", kEncodings = "identity,gzip";
}  // namespace

ServerStream::ServerStream(ServerConnection& connection) : connection_(connection), in_(0) {}

void ServerStream::open(std::int32_t stream_id) {
  id = stream_id;
  start_ = running_ = closed_ = deferred_ = false;
  entry_ = nullptr;
  signal_ = nullptr;
  path_.clear();
  metadata_.clear();
  for (auto* metadata : {&initial_, &sent_initial_, &trailing_, &sent_trailing_}) metadata->clear();
  context_ = {};
  timeout_.reset();
  in_.reset(static_cast<std::size_t>(connection_.options().max_message_bytes));
  out_.clear();
  headers_.clear();
  trailers_.clear();
  header_bytes_ = unconsumed_ = accounted_ = 0;
  worked_with_ = 0;
  in_error_.reset();
  status_ = {};
  encoding_ = Encoding::identity;
  post_ = grpc_ = te_ = bad_timeout_ = bad_metadata_ = accepts_gzip_ = false;
  headers_sent_ = finished_ = peer_done_ = plain_ = false;
}

bool ServerStream::peer_is_loopback() const { return connection_.peer_is_loopback(); }
std::string_view ServerStream::peer() const { return connection_.peer(); }

// --- what comes ---

void ServerStream::header(std::string_view name, std::string_view value) {
  header_bytes_ += name.size() + value.size() + 32;  // as RFC 9113 section 6.5.2 counts
  if (header_bytes_ > static_cast<std::size_t>(connection_.options().max_header_bytes)) return;
  if (name.starts_with(':')) {
    if (name == ":path") {
      entry_ = connection_.shard().shared().methods.find(value);
      path_.assign(value);
    } else if (name == ":method") {
      post_ = value == "POST";
    }
  } else if (name == "content-type") {
    grpc_ = is_grpc_content_type(value);
  } else if (name == "te") {
    te_ = value == "trailers";
  } else if (name == "user-agent") {
    return;
  } else if (name == "grpc-timeout") {
    timeout_ = decode_timeout(value);
    bad_timeout_ = !timeout_;
  } else if (name == "grpc-encoding") {
    encoding_ = value == "identity" ? Encoding::identity : value == "gzip" ? Encoding::gzip : Encoding::unknown;
  } else if (name == "grpc-accept-encoding") {
    accepts_gzip_ = lists_encoding(value, "gzip");
  } else if (name == "traceparent") {
    context_.trace = core::TraceContext::from_traceparent(value);
  } else if (!add_received(metadata_, name, value)) {
    bad_metadata_ = true;
  }
}

void ServerStream::headers_done() {
  const auto& options = connection_.options();
  if (header_bytes_ > static_cast<std::size_t>(options.max_header_bytes))
    return refuse({Code::resource_exhausted, "the header is over the limit of " + std::to_string(options.max_header_bytes) + " bytes"});
  if (!post_) return refuse_http("405", "This is a gRPC server: calls are POST.\n");
  if (!grpc_) return refuse_http("415", "This is a gRPC server: Content-Type must be application/grpc.\n");
  if (!te_) return refuse({Code::internal, "te: trailers is missing: something on the way does not speak gRPC"});
  if (bad_timeout_) return refuse({Code::invalid_argument, "grpc-timeout must be up to eight digits and one of H M S m u n"});
  if (bad_metadata_) return refuse({Code::invalid_argument, "metadata of a -bin key must be base64"});
  if (encoding_ == Encoding::unknown) return refuse({Code::unimplemented, "grpc-encoding must be identity or gzip"});
  if (!entry_) return refuse({Code::unimplemented, "unknown method " + path_});
  if (connection_.full()) return refuse(to_status(holds_too_much()));
  if (timeout_ || entry_->unary) {
    std::chrono::nanoseconds timeout = timeout_ ? *timeout_ : options.default_timeout;
    if (entry_->unary) timeout = std::min<std::chrono::nanoseconds>(timeout, options.max_timeout);
    context_.deadline = Session::Clock::now() + timeout;
  }
  if (entry_->stream) {
    start_ = true;
    connection_.defer(*this);
  }
}

void ServerStream::data(std::string_view bytes) {
  unconsumed_ += bytes.size();
  if (over() || in_error_ || plain_) return consume(unconsumed_);
  const bool was_coming = in_.in_message();
  const auto before = in_.messages();
  auto fed = in_.feed(bytes);
  if (!was_coming || in_.messages() != before) message_since_ = connection_.time();
  const bool too_large = !fed && fed.error().kind == core::ErrorKind::overloaded;
  account();
  if (fed && connection_.full()) fed = holds_too_much();
  if (!fed) {
    in_error_ = fed.error();
    finish_over_method(to_status(fed.error()), too_large);
    return connection_.defer(*this);
  }
  if (entry_ && entry_->unary && in_.messages() > 1)
    return finish({Code::unimplemented, "this method takes one message, not " + std::to_string(in_.messages()), {}});
  // A message that is still coming is taken in whole; behind whole ones the peer waits until they are read.
  if (in_.messages() == 0) consume(unconsumed_);
  else if (running_) connection_.defer(*this);
}

void ServerStream::peer_finished() {
  peer_done_ = true;
  if (over()) return;
  if (plain_) {
    finished_ = true;
    finished_at_ = connection_.time();
    return submit(true);
  }
  if (in_.in_message()) {
    in_error_ = core::internal("the call ended within a message");
    finish_over_method(to_status(*in_error_));
  } else if (entry_->unary && in_.messages() != 1) {
    finish({Code::unimplemented, "this method takes one message, not " + std::to_string(in_.messages()), {}});
  } else if (entry_->unary) {
    start_ = true;
  }
  connection_.defer(*this);
}

void ServerStream::consume(std::size_t bytes) {
  unconsumed_ -= bytes;
  if (bytes == 0 || closed_) return;
  nghttp2_session_consume_stream(connection_.wire(), id, bytes);
  connection_.kick();
}

void ServerStream::account() {
  const auto held = (closed_ && !running_ ? 0 : in_.held() + out_.held()) + static_cast<std::size_t>(worked_with_);
  connection_.hold(static_cast<std::int64_t>(held) - static_cast<std::int64_t>(std::exchange(accounted_, held)));
}

void ServerStream::hold(std::int64_t bytes) {
  worked_with_ += bytes;
  account();
}

void ServerStream::method_ended() {
  worked_with_ = 0;
  account();
}

core::Result<std::string> ServerStream::unpack(Frame frame) const {
  if (!frame.compressed) return std::move(frame.bytes);
  if (encoding_ != Encoding::gzip) return core::internal("a message is compressed, but grpc-encoding does not say how");
  return gunzip(frame.bytes, static_cast<std::size_t>(connection_.options().max_message_bytes));
}

core::awaitable<core::Result<std::optional<std::string>>> ServerStream::read() {
  for (;;) {
    if (in_error_) co_return *in_error_;
    if (over()) co_return over_error();
    if (in_.messages() != 0) {
      auto message = unpack(in_.take());
      account();
      message_since_ = connection_.time();  // behind whole messages no more was taken from the peer
      if (in_.messages() == 0) consume(unconsumed_);
      if (!message) {
        in_error_ = message.error();
        finish_over_method(to_status(message.error()), message.error().kind == core::ErrorKind::overloaded);
        co_return message.error();
      }
      co_return std::optional(std::move(message.value()));
    }
    if (peer_done_) co_return std::optional<std::string>();
    auto start = [this](std::shared_ptr<Completion<void>> waiter) { reader_ = std::move(waiter); };
    auto woken = co_await runtime::wait_for_completion<void>(std::move(start), core::cancelled("the call was cancelled"));
    reader_.reset();
    if (!woken) co_return context_.expired() ? core::deadline_exceeded("the call's time is over") : woken.error();
  }
}

// --- what goes ---

Frame ServerStream::pack(std::string message) {
  const auto from = connection_.options().compress_from_bytes;
  if (from == 0 || !accepts_gzip_ || message.size() < static_cast<std::size_t>(from)) return {std::move(message), false};
  return {gzip(message), true};
}

core::awaitable<core::Result<void>> ServerStream::write(std::string message) {
  if (over()) co_return over_error();
  if (message.size() > static_cast<std::size_t>(connection_.options().max_message_bytes))
    co_return core::overloaded("a message of " + std::to_string(message.size()) + " bytes is over the limit");
  out_.push(pack(std::move(message)));
  account();
  send_headers(true);
  while (out_.held() > kWriteAhead && !over()) {
    auto start = [this](std::shared_ptr<Completion<void>> waiter) { writer_ = std::move(waiter); };
    auto woken = co_await runtime::wait_for_completion<void>(std::move(start), core::cancelled("the call was cancelled"));
    writer_.reset();
    if (!woken) co_return context_.expired() ? core::deadline_exceeded("the call's time is over") : woken.error();
  }
  if (over()) co_return over_error();
  co_return core::ok();
}

core::Error ServerStream::over_error() const {
  if (context_.expired()) return core::deadline_exceeded("the call's time is over");
  return core::cancelled("the call is over");
}

void ServerStream::send_initial_metadata() {
  if (!over() && !headers_sent_) send_headers(true);
}

/// The header once, then only the news that there is something to send.
void ServerStream::send_headers(bool with_data) {
  if (headers_sent_) {
    nghttp2_session_resume_data(connection_.wire(), id);
    return connection_.kick();
  }
  headers_.add(":status", "200");
  headers_.add("content-type", kGrpcType);
  if (accepts_gzip_ && connection_.options().compress_from_bytes != 0) headers_.add("grpc-encoding", "gzip");
  headers_.add(frozen(initial_, sent_initial_));
  submit(with_data);
}

/// nghttp2 reads what it was given until it is on its way; a method that has not noticed the end may still add some.
const Metadata& ServerStream::frozen(Metadata& from, Metadata& to) {
  if (!is_sendable(from)) from.clear();
  std::swap(from, to);
  from.clear();
  return to;
}

void ServerStream::submit(bool with_data) {
  headers_sent_ = true;
  nghttp2_data_provider provider;
  provider.source.ptr = this;
  provider.read_callback = read_data;
  nghttp2_submit_response(connection_.wire(), id, headers_.data(), headers_.size(), with_data ? &provider : nullptr);
  connection_.kick();
}

void ServerStream::refuse(Status status) {
  finished_ = true;
  finished_at_ = connection_.time();
  connection_.shard().count(status.code);
  status_ = std::move(status);
  headers_.add(":status", "200");
  headers_.add("content-type", kGrpcType);
  if (encoding_ == Encoding::unknown) headers_.add("grpc-accept-encoding", kEncodings);
  headers_.add(status_);
  submit(false);
}

void ServerStream::refuse_http(std::string_view http_status, std::string message) {
  // Once the request has come to its end, and in bounded time.
  plain_ = true;
  context_.deadline = Session::Clock::now() + connection_.options().default_timeout;
  headers_.add(":status", http_status);
  headers_.add("content-type", "text/plain; charset=utf-8");
  if (http_status == "405") headers_.add("allow", "POST");
  plain_text_ = std::move(message);
}

void ServerStream::finish(Status status) {
  if (over()) return;
  if (!is_sendable(trailing_)) {
    trailing_.clear();
    status = {Code::internal, "internal error"};
  }
  finished_ = true;
  finished_at_ = connection_.time();
  connection_.shard().count(status.code);
  status_ = std::move(status);
  if (headers_sent_ || !out_.empty()) {
    trailers_.add(status_);
    trailers_.add(frozen(trailing_, sent_trailing_));
    return send_headers(true);
  }
  // Nothing was written: one HEADERS frame says it all ("trailers-only").
  headers_.add(":status", "200");
  headers_.add("content-type", kGrpcType);
  headers_.add(status_);
  headers_.add(frozen(initial_, sent_initial_));
  headers_.add(frozen(trailing_, sent_trailing_));
  submit(false);
}

void ServerStream::answer(UnaryAnswer answer) {
  if (over()) return;
  if (answer.status.ok()) {
    if (answer.message.size() > static_cast<std::size_t>(connection_.options().max_message_bytes))
      return finish({Code::resource_exhausted, "the answer of " + std::to_string(answer.message.size()) + " bytes is over the limit", {}});
    out_.push(pack(std::move(answer.message)));
    account();
  }
  finish(std::move(answer.status));
}

void ServerStream::finish_over_method(Status status, bool too_large) {
  if (over()) return;
  if (signal_) {  // it may have begun
    trailing_.clear();
    trailing_.add(kSentKey, "maybe");
  }
  if (too_large) trailing_.add(kErrorKey, core::to_string(core::ErrorKind::invalid_argument));
  if (!headers_sent_) out_.clear();
  finish(std::move(status));
}

ssize_t ServerStream::read_data(nghttp2_session* wire, std::int32_t, std::uint8_t* buffer, std::size_t size, std::uint32_t* flags, nghttp2_data_source* source, void*) {
  auto& me = *static_cast<ServerStream*>(source->ptr);
  if (me.connection_.ended()) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  if (me.plain_) {
    const auto n = std::min(size, me.plain_text_.size());
    std::copy_n(me.plain_text_.data(), n, buffer);
    me.plain_text_.erase(0, n);
    if (me.plain_text_.empty()) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return static_cast<ssize_t>(n);
  }
  const auto copied = me.out_.read(buffer, size);
  if (copied != 0) me.account();
  if (me.out_.empty() && me.finished_) {
    *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    nghttp2_submit_trailer(wire, me.id, me.trailers_.data(), me.trailers_.size());
    return static_cast<ssize_t>(copied);
  }
  if (me.writer_ && me.out_.held() <= kWriteAhead) me.connection_.defer(me);
  return copied == 0 ? static_cast<ssize_t>(NGHTTP2_ERR_DEFERRED) : static_cast<ssize_t>(copied);
}

// --- time ---

void ServerStream::wake() {
  const bool news = over() || in_error_;
  if (reader_ && (news || peer_done_ || in_.messages() != 0)) std::exchange(reader_, nullptr)->complete(core::ok());
  if (writer_ && (news || out_.held() <= kWriteAhead)) std::exchange(writer_, nullptr)->complete(core::ok());
  account();
}

void ServerStream::on_time(Session::Time now) {
  if (!over() && now >= context_.deadline) {
    if (std::exchange(plain_, false)) headers_.clear();
    finish_over_method({Code::deadline_exceeded, "the request was not answered in time", {}});
    wake();
  }
  // Half a message is memory that somebody else could use. One behind whole ones is not late: its sender is held back.
  if (!over() && in_.in_message() && in_.messages() == 0 && now - message_since_ > connection_.options().message_timeout) {
    finish_over_method({Code::deadline_exceeded, "a message did not come to its end in time", {}});
    wake();
  }
  // At every tick again: a method between two waits does not notice the first.
  if (over() && signal_) signal_->emit(boost::asio::cancellation_type::terminal);
  // An answer that nobody takes.
  if (finished_ && !closed_ && !running_ && now - finished_at_ > connection_.options().write_timeout) {
    nghttp2_submit_rst_stream(connection_.wire(), NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
    connection_.kick();
  }
}

void ServerStream::run_unary_begins(std::string& message) {
  auto unpacked = unpack(in_.take());
  worked_with_ = unpacked ? static_cast<std::int64_t>(unpacked.value().size()) : 0;
  account();
  if (!unpacked) return finish_over_method(to_status(unpacked.error()), unpacked.error().kind == core::ErrorKind::overloaded);
  if (context_.expired()) return finish({Code::deadline_exceeded, "the request's time was over before it was handled", {}});
  message = std::move(unpacked.value());
}

}  // namespace flexi::transports::grpc
