// SPDX-License-Identifier: Apache-2.0
#include "transports/http/exchange.hpp"

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http/parser.hpp>

#include "transports/http/client_codec.hpp"
#include "transports/http/response.hpp"

namespace flexi::transports::http {

namespace asio = boost::asio;
namespace bhttp = boost::beast::http;
using boost::system::error_code;

namespace {

using Parser = bhttp::response_parser<bhttp::string_body>;
constexpr std::size_t kReadBytes = 16 * 1024;

/// Feeds the parser with what is there, then with what comes, until `done`.
template <class Done>
core::awaitable<error_code> read_until(PooledSocket& connection, Parser& parser, Done done) {
  error_code ec;
  while (!done()) {
    if (connection.buffer.size() != 0) {
      const auto used = parser.put(connection.buffer.data(), ec);
      connection.buffer.consume(used);
      if (ec == bhttp::error::need_more) ec = {};
      else if (ec || used != 0) {
        if (ec) co_return ec;
        continue;
      }
    }
    const auto got = co_await connection.socket.async_read_some(connection.buffer.prepare(kReadBytes), asio::redirect_error(asio::use_awaitable, ec));
    connection.buffer.commit(got);
    if (ec == asio::error::eof && parser.got_some() && !done()) {
      error_code end;
      parser.put_eof(end);
      if (!end && done()) co_return error_code();
    }
    if (ec) co_return ec;
  }
  co_return ec;
}

/// Events as they come; each is one or more "data:" lines and an empty line.
/// Source: https://html.spec.whatwg.org/multipage/server-sent-events.html section 9.2.6
class SocketEvents final : public core::EventStream {
 public:
  SocketEvents(Pool::Lease lease, std::unique_ptr<Parser> parser, std::size_t limit) : lease_(std::move(lease)), parser_(std::move(parser)), limit_(limit) {}

  core::awaitable<core::Result<std::optional<std::string>>> next(core::CallContext context) override {
    if (lease_.deadlines().stopped()) co_return std::optional<std::string>();
    Deadlines::Watch watch(lease_.deadlines(), context.deadline, [this] {
      error_code ignored;
      lease_->socket.cancel(ignored);
    });
    for (;;) {
      if (auto event = take()) co_return event;
      if (ended_ && !whole_) co_return core::unavailable("the connection to the service broke", "its events went on");
      if (ended_) co_return std::optional<std::string>();
      if (pending_.size() > limit_) co_return core::internal("the service sent an event that is too large");
      const auto before = parser_->get().body().size();
      const auto ec = co_await read_until(*lease_, *parser_, [&] { return parser_->is_done() || parser_->get().body().size() > before; });
      pending_ += parser_->get().body();
      parser_->get().body().clear();
      ended_ = parser_->is_done();
      if (ec == asio::error::operation_aborted && !lease_.deadlines().stopped()) co_return runtime::cancelled_error(core::Sent::maybe);
      if (ec) ended_ = true;
    }
  }

 private:
  std::optional<std::string> take() {
    for (auto end = pending_.find("\n\n"); end != pending_.npos; end = pending_.find("\n\n")) {
      std::string event;
      std::string_view lines = std::string_view(pending_).substr(0, end);
      if (pending_.starts_with(kStreamEnd)) whole_ = true;
      bool has_data = false;
      while (!lines.empty()) {
        const auto stop = std::min(lines.find('\n'), lines.size());
        auto line = lines.substr(0, stop);
        lines.remove_prefix(std::min(stop + 1, lines.size()));
        if (!line.starts_with("data:")) continue;
        line.remove_prefix(line.starts_with("data: ") ? 6 : 5);
        if (has_data) event += '\n';
        event += line;
        has_data = true;
      }
      pending_.erase(0, end + 2);
      if (has_data) return event;
    }
    return std::nullopt;
  }

  Pool::Lease lease_;
  std::unique_ptr<Parser> parser_;
  const std::size_t limit_;
  std::string pending_;
  bool ended_ = false, whole_ = false;  ///< nothing comes any more; because the source had no more
};

core::Error failure(const error_code& ec, const Deadlines::Watch& watch, const core::CallContext& context, core::Sent sent) {
  core::Error error;
  if (watch.expired() || context.expired()) error = core::deadline_exceeded("the service did not answer in time");
  else if (ec == asio::error::operation_aborted) error = core::cancelled("the request was cancelled");
  else error = core::unavailable("the connection to the service broke", ec.message());
  error.sent = sent;
  return error;
}

/// The service has answered: another way, or another address, would bring the same.
core::Error too_large(std::int64_t max_answer_bytes) {
  auto error = core::invalid_argument("the service's answer is larger than " + std::to_string(max_answer_bytes) + " bytes: ask for less");
  error.sent = core::Sent::maybe;
  error.answered = true;
  return error;
}

}  // namespace

core::awaitable<core::Result<core::Reply>> exchange(Pool::Lease& lease, const std::string& wire, std::int64_t max_answer_bytes, core::CallContext context,
                                                    bool& nothing_written, Peer peer) {
  error_code ec;
  std::unique_ptr<Parser> parser;
  bool events = false;
  {
    Deadlines::Watch watch(lease.deadlines(), context.deadline, [socket = &lease->socket] {
      error_code ignored;
      socket->close(ignored);
    });
    const auto sent = co_await asio::async_write(lease->socket, asio::buffer(wire), asio::redirect_error(asio::use_awaitable, ec));
    nothing_written = ec && sent == 0;
    if (ec) co_return failure(ec, watch, context, nothing_written ? core::Sent::no : core::Sent::maybe);
    parser = std::make_unique<Parser>();
    parser->body_limit(static_cast<std::uint64_t>(max_answer_bytes));
    parser->header_limit(64 * 1024);
    ec = co_await read_until(*lease, *parser, [&] { return parser->is_header_done(); });
    events = !ec && peer == Peer::ours && is_event_stream(parser->get());
    parser->eager(true);
    if (!ec && !events) ec = co_await read_until(*lease, *parser, [&] { return parser->is_done(); });
    if (ec == bhttp::error::body_limit) co_return too_large(max_answer_bytes);
    if (ec) co_return failure(ec, watch, context, core::Sent::maybe);
  }
  if (events) {
    auto reply = read_stream_head(parser->get());
    reply.events = std::make_unique<SocketEvents>(std::move(lease), std::move(parser), static_cast<std::size_t>(max_answer_bytes));
    co_return reply;
  }
  auto reply = peer == Peer::foreign ? read_foreign_reply(parser->get()) : read_reply(parser->get());
  const bool keep = parser->keep_alive() && lease->buffer.size() == 0;
  lease.release(keep ? Pool::Lease::Keep::yes : Pool::Lease::Keep::no);
  co_return reply;
}

}  // namespace flexi::transports::http
