// SPDX-License-Identifier: Apache-2.0
#include "transports/rpc/wire.hpp"

#include <netinet/tcp.h>
#include <sys/socket.h>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace flexi::transports::rpc {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {
constexpr std::size_t kReadBytes = 64 * 1024;
constexpr std::size_t kKeepBytes = 256 * 1024;   // of an output buffer
constexpr std::size_t kLingerBytes = 4 << 20;    // read and dropped after a refusal
constexpr std::chrono::seconds kFinishTime{1};
constexpr std::chrono::duration<int> kSilence{30}, kBetweenProbes{10}, kUnacknowledged{60};
constexpr int kProbes = 3;
}  // namespace

void notice_a_vanished_peer(asio::ip::tcp::socket& socket) {
  error_code ignored;
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
  const auto set = [&](int option, std::chrono::duration<int> value) {
    const int seconds = value.count();
    ::setsockopt(socket.native_handle(), IPPROTO_TCP, option, &seconds, sizeof seconds);
  };
  set(TCP_KEEPIDLE, kSilence);
  set(TCP_KEEPINTVL, kBetweenProbes);
  const int probes = kProbes;
  ::setsockopt(socket.native_handle(), IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
  // Probes are not sent while something is on its way: that has its own time to be acknowledged.
  const auto unacknowledged = static_cast<unsigned>(std::chrono::milliseconds(kUnacknowledged).count());
  ::setsockopt(socket.native_handle(), IPPROTO_TCP, TCP_USER_TIMEOUT, &unacknowledged, sizeof unacknowledged);
}

Wire::Wire(std::shared_ptr<KjLoop> loop, runtime::TaskScope& scope, asio::ip::tcp::socket socket, two::Side side, LinkLimits limits)
    : loop_(std::move(loop)), scope_(scope), socket_(std::move(socket)), link_(loop_, side, limits, *this),
      read_again_(scope.executor(), asio::steady_timer::time_point::max()), written_(scope.executor(), asio::steady_timer::time_point::max()),
      last_read_(Clock::now()) {
  error_code ignored;
  socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
  notice_a_vanished_peer(socket_);
  socket_.non_blocking(true, ignored);
}

asio::awaitable<void> Wire::run() {
  co_await asio::this_coro::throw_if_cancelled(false);
  error_code ec;
  while (!ending_) {
    if (!link_.hungry()) {
      parked_ = true;
      co_await read_again_.async_wait(asio::redirect_error(asio::use_awaitable, ec));
      parked_ = false;
      continue;
    }
    const auto room = link_.room(kReadBytes);
    const auto got = co_await socket_.async_read_some(
        asio::buffer(room.data(), room.size()), asio::bind_cancellation_slot(stop_reading_.slot(), asio::redirect_error(asio::use_awaitable, ec)));
    if (ec || ending_) break;
    last_read_ = Clock::now();
    link_.received(got);
    loop_->run();
  }
  if (!ending_) {
    ending_ = peer_ended_ = true;
    link_.ended();
    loop_->run();
  }
  written_.cancel();
}

void Wire::end() {
  if (ending_) return;
  ending_ = true;
  link_.mute();
  stop_reading_.emit(asio::cancellation_type::terminal);
  read_again_.cancel();
}

/// The RPC system has given up: the peer broke the protocol, or a limit.
void Wire::finished() {
  ending_ = true;
  stop_reading_.emit(asio::cancellation_type::terminal);
  read_again_.cancel();
}

void Wire::hungry_again() {
  if (parked_) read_again_.cancel();
}

void Wire::output_ready() {
  auto& out = link_.output();
  if (closed_) out.clear();
  if (writing_ || out.empty()) return;
  // Most answers fit the socket's buffer: no turn of the loop for these.
  error_code ec;
  const auto sent = socket_.write_some(asio::buffer(out), ec);
  if (ec && ec != asio::error::would_block && ec != asio::error::try_again) return close();
  out.erase(0, ec ? 0 : sent);
  if (out.empty()) {
    if (out.capacity() > kKeepBytes) out = {};
    return link_.taken();
  }
  writing_ = true;
  written_at_ = Clock::now();
  scope_.spawn(write_loop());
}

asio::awaitable<void> Wire::write_loop() {
  co_await asio::this_coro::throw_if_cancelled(false);
  std::size_t begin = 0;
  while (!closed_) {
    if (begin == flying_.size()) {
      begin = 0;
      flying_.clear();
      if (flying_.capacity() > kKeepBytes) flying_ = {};
      flying_.swap(link_.output());
    }
    link_.set_in_flight(flying_.size() - begin);
    link_.taken();
    if (link_.writable()) written_.cancel();
    if (flying_.empty()) break;
    error_code ec;
    begin += co_await socket_.async_write_some(asio::buffer(flying_) + begin, asio::redirect_error(asio::use_awaitable, ec));
    if (ec) close();
    written_at_ = Clock::now();
  }
  link_.set_in_flight(0);
  writing_ = false;
  written_.cancel();
}

asio::awaitable<void> Wire::wait_writable() {
  while (!link_.writable() && !ending_) {
    error_code ec;
    co_await written_.async_wait(asio::redirect_error(asio::use_awaitable, ec));
    if ((co_await asio::this_coro::cancellation_state).cancelled() != asio::cancellation_type::none) co_return;
  }
}

asio::awaitable<void> Wire::finish(Linger linger) {
  co_await asio::this_coro::throw_if_cancelled(false);
  finish_by_ = Clock::now() + kFinishTime;
  link_.mute();
  output_ready();
  error_code ec;
  while (writing_) co_await written_.async_wait(asio::redirect_error(asio::use_awaitable, ec));
  if (!closed_ && !peer_ended_ && linger == Linger::yes) {
    // Closing while unread bytes wait would reset the connection, and the peer might never read why.
    socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ec);
    ec = {};
    char dropped[4096];
    for (std::size_t total = 0; total < kLingerBytes && !ec && !closed_;)
      total += co_await socket_.async_read_some(asio::buffer(dropped), asio::redirect_error(asio::use_awaitable, ec));
  }
  close();
  while (writing_) co_await written_.async_wait(asio::redirect_error(asio::use_awaitable, ec));
}

void Wire::close() {
  closed_ = ending_ = true;
  error_code ignored;
  socket_.close(ignored);
  read_again_.cancel();
  written_.cancel();
}

void Wire::tick(Clock::time_point now, std::chrono::milliseconds write_timeout) {
  if ((writing_ && now >= written_at_ + write_timeout) || now >= finish_by_) close();
}

}  // namespace flexi::transports::rpc
