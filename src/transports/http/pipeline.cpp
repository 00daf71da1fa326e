// SPDX-License-Identifier: Apache-2.0
#include "transports/http/pipeline.hpp"

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/http/parser.hpp>

#include "runtime/net/balancer.hpp"
#include "transports/http/client_codec.hpp"

namespace flexi::transports::http {

namespace asio = boost::asio;
namespace bhttp = boost::beast::http;
using boost::system::error_code;

namespace {
constexpr std::size_t kReadBytes = 64 * 1024;
// A peer that leaves its oldest request unanswered this long after the deadline is taken for dead.
constexpr std::chrono::seconds kStuck{2};
}  // namespace

Pipeline::Pipeline(runtime::TaskScope& scope, const HttpClientOptions& options, Deadlines& deadlines, Endpoint endpoint)
    : scope_(scope), options_(options), deadlines_(deadlines), endpoint_(std::move(endpoint)), socket_(scope.executor()) {}

core::awaitable<core::Result<core::Reply>> Pipeline::call(std::string wire, core::CallContext context, bool& connected) {
  if (closed_) co_return core::unavailable("the client has stopped");
  if (static_cast<std::int64_t>(waiting_.size()) >= options_.max_pipelined) {
    auto error = core::overloaded("too many requests wait for the service");
    error.retry_after = std::chrono::seconds(1);
    co_return error;
  }
  // Held here so that the deadline can answer it; on the heap for the reader, which may outlive this call.
  auto reached = std::make_shared<bool>(true);
  Answered mine;
  auto start = [this, &wire, &mine, reached, deadline = context.deadline](Answered answered) {
    mine = answered;
    pending_ += wire;
    waiting_.push_back({std::move(answered), reached, deadline});
    if (!running_) {
      running_ = true;
      scope_.spawn(run());
    } else {
      flush();
    }
  };
  Deadlines::Watch watch(deadlines_, context.deadline, [this, &mine] {
    if (mine) mine->complete(runtime::cancelled_error(core::Sent::maybe));
    error_code ignored;
    if (!waiting_.empty() && waiting_.front().deadline + kStuck < Deadlines::Clock::now()) socket_.close(ignored);
  });
  auto reply = co_await runtime::wait_for_completion<core::Reply>(std::move(start), runtime::cancelled_error(core::Sent::maybe));
  connected = *reached;
  co_return reply;
}

/// Requests of one turn of the loop go together: each flush is put off to the turn's end.
void Pipeline::flush() {
  if (!connected_ || flushing_ || posted_ || pending_.empty()) return;
  posted_ = true;
  scope_.spawn(write_loop());
}

asio::awaitable<void> Pipeline::write_loop() {
  co_await asio::this_coro::throw_if_cancelled(false);
  co_await asio::post(scope_.executor(), asio::use_awaitable);
  posted_ = false;
  if (flushing_) co_return;
  flushing_ = true;
  while (!pending_.empty() && connected_) {
    writing_.clear();
    writing_.swap(pending_);
    sent_ = waiting_.size();
    error_code ec;
    co_await asio::async_write(socket_, asio::buffer(writing_), asio::redirect_error(asio::use_awaitable, ec));
    if (ec) {
      socket_.close(ec);  // the reader says so to all who wait
      break;
    }
  }
  flushing_ = false;
}

asio::awaitable<void> Pipeline::run() {
  co_await asio::this_coro::throw_if_cancelled(false);
  // Calls may come in while the ones before them are told of a failure.
  while (!waiting_.empty() && !closed_) {
    socket_ = asio::ip::tcp::socket(scope_.executor());
    const auto ec = co_await runtime::net::connect_within(socket_, endpoint_, options_.connect_timeout);
    if (ec || closed_) {
      pending_.clear();
      fail_all(core::unavailable("the service can't be reached", runtime::net::to_authority(endpoint_) + ": " + ec.message()), false, core::Sent::no);
      break;
    }
    connected_ = true;
    flush();
    co_await read_answers();
    connected_ = false;
    error_code ignored;
    socket_.close(ignored);
    // The writer looks at the socket until it has noticed.
    while (flushing_ || posted_) co_await asio::post(scope_.executor(), asio::use_awaitable);
  }
  running_ = false;
}

asio::awaitable<void> Pipeline::read_answers() {
  boost::beast::flat_buffer buffer;
  error_code ec;
  for (;;) {
    bhttp::response_parser<bhttp::string_body> parser;
    parser.eager(true);
    parser.body_limit(static_cast<std::uint64_t>(options_.max_answer_bytes));
    while (!parser.is_done()) {
      if (buffer.size() != 0) {
        const auto used = parser.put(buffer.data(), ec);
        buffer.consume(used);
        if (ec == bhttp::error::need_more) ec = {};
        if (ec || parser.is_done()) break;
        if (used != 0) continue;
      }
      const auto got = co_await socket_.async_read_some(buffer.prepare(kReadBytes), asio::redirect_error(asio::use_awaitable, ec));
      if (ec) break;
      buffer.commit(got);
    }
    if (ec || waiting_.empty()) break;
    const auto answered = std::move(waiting_.front().answered);
    waiting_.pop_front();
    if (sent_ > 0) --sent_;
    const bool last = !parser.keep_alive();
    if (answered->waiting()) answered->resolve(read_reply(parser.get()));
    if (last) {
      // The peer handles nothing that came after it. Source: RFC 9112 section 9.6
      pending_.clear();
      fail_all(core::unavailable("the service is stopping"), true, core::Sent::no);
      co_return;
    }
  }
  pending_.clear();
  fail_all(core::unavailable("the connection to the service broke", ec.message()), true, core::Sent::maybe);
}

/// What was not handed to a write has not been sent, whatever became of the rest.
void Pipeline::fail_all(const core::Error& error, bool connected, core::Sent in_flight) {
  auto waiting = std::exchange(waiting_, {});
  const auto sent = std::exchange(sent_, 0);
  for (std::size_t i = 0; i < waiting.size(); ++i) {
    *waiting[i].connected = connected;
    auto mine = error;
    mine.sent = i < sent ? in_flight : core::Sent::no;
    // Posted: a waiter that calls again must find this connection gone.
    waiting[i].answered->complete(std::move(mine));
  }
}

void Pipeline::close() {
  closed_ = true;
  error_code ignored;
  socket_.close(ignored);
}

}  // namespace flexi::transports::http
