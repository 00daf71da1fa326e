// SPDX-License-Identifier: Apache-2.0
#include "runtime/net/listen.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>

namespace flexi::runtime::net {

using boost::asio::ip::tcp;
using boost::system::error_code;

namespace {

using ReusePort = boost::asio::detail::socket_option::boolean<SOL_SOCKET, SO_REUSEPORT>;
using Acceptors = std::vector<tcp::acceptor>;
enum class Sharing { alone, with_shards };
constexpr int kBacklog = 1024, kMaxHanded = 64;

error_code open(tcp::acceptor& acceptor, const tcp::endpoint& endpoint, Sharing sharing) {
  error_code ec;
  acceptor.open(endpoint.protocol(), ec);
  if (!ec) acceptor.set_option(tcp::acceptor::reuse_address(true), ec);
  if (!ec && sharing == Sharing::with_shards) acceptor.set_option(ReusePort(true), ec);
  if (!ec) acceptor.bind(endpoint, ec);
  if (!ec && sharing == Sharing::with_shards) acceptor.listen(kBacklog, ec);
  return ec;
}

/// Each shard waits on a descriptor of its own; there is one queue of connections behind them.
error_code share(tcp::acceptor& acceptor, const HandedSocket& socket) {
  const int own = ::fcntl(socket.fd, F_DUPFD_CLOEXEC, 0);
  error_code ec;
  if (own < 0) return {errno, boost::system::system_category()};
  acceptor.assign(socket.endpoint.protocol(), own, ec);
  if (ec) ::close(own);
  return ec;
}

std::string text_of(const char* variable) {
  const char* value = std::getenv(variable);
  return value ? value : "";
}

bool is_listening(int fd) {
  int listening = 0, kind = 0;
  socklen_t size = sizeof listening;
  if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0 || listening == 0) return false;
  size = sizeof kind;
  return ::getsockopt(fd, SOL_SOCKET, SO_TYPE, &kind, &size) == 0 && kind == SOCK_STREAM;
}

}  // namespace

Handing Handing::from_environment() { return {.pid = text_of("LISTEN_PID"), .count = text_of("LISTEN_FDS")}; }

core::Result<std::vector<HandedSocket>> handed_sockets(const Handing& handing) {
  std::vector<HandedSocket> sockets;
  if (handing.pid != std::to_string(::getpid())) return sockets;
  int count = -1;
  const char* const end = handing.count.data() + handing.count.size();
  if (auto [rest, ec] = std::from_chars(handing.count.data(), end, count); ec != std::errc() || rest != end || count < 0 || count > kMaxHanded)
    return core::invalid_argument("LISTEN_FDS=" + handing.count + " is no number from 0 to " + std::to_string(kMaxHanded));
  for (int fd = handing.first; fd < handing.first + count; ++fd) {
    tcp::endpoint endpoint;
    auto size = static_cast<socklen_t>(endpoint.capacity());
    const bool named = is_listening(fd) && ::getsockname(fd, endpoint.data(), &size) == 0;
    if (!named || (endpoint.data()->sa_family != AF_INET && endpoint.data()->sa_family != AF_INET6))
      return core::invalid_argument("the socket that was handed over as descriptor " + std::to_string(fd) +
                                    " is no listening TCP socket: see ListenStream= of its socket unit");
    endpoint.resize(size);
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    sockets.push_back({fd, endpoint});
  }
  return sockets;
}

core::Result<Acceptors> listen(const Shards& shards, tcp::endpoint endpoint, const std::string& name, const Handing& handing) {
  const auto failed = [&](const error_code& ec) { return core::unavailable("can't listen on " + name + ": " + ec.message()); };
  FLEXI_TRY(auto handed, handed_sockets(handing));
  const HandedSocket* socket = nullptr;
  for (auto& each : handed)
    if (each.endpoint == endpoint) socket = &each;
  // SO_REUSEPORT would let a second process take half of the connections without a word.
  if (!socket && endpoint.port() != 0) {
    tcp::acceptor probe(shards.executor(0));
    if (auto ec = open(probe, endpoint, Sharing::alone)) return failed(ec);
  }
  Acceptors acceptors;
  for (unsigned i = 0; i < shards.size(); ++i) {
    auto& acceptor = acceptors.emplace_back(shards.executor(i));
    if (auto ec = socket ? share(acceptor, *socket) : open(acceptor, endpoint, Sharing::with_shards)) return failed(ec);
    endpoint.port(acceptor.local_endpoint().port());
  }
  return acceptors;
}

}  // namespace flexi::runtime::net
