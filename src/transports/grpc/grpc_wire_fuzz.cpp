// SPDX-License-Identifier: Apache-2.0
// Bytes of a stranger into a whole connection, server's or client's, over a socket pair: nothing breaks, nothing is left behind.
#include <sys/socket.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/write.hpp>
#include <cstdlib>
#include <thread>

#include "transports/grpc/client_connection.hpp"
#include "transports/grpc/server_connection.hpp"

namespace {

using namespace flexi;
using namespace flexi::transports::grpc;
namespace asio = boost::asio;
using asio::ip::tcp;

core::awaitable<UnaryAnswer> echo(std::string request) { co_return UnaryAnswer{{}, std::move(request)}; }
core::awaitable<Status> echo_all(ServerCall* call) {
  co_await asio::this_coro::throw_if_cancelled(false);
  for (;;) {
    auto message = co_await call->read();
    if (!message) co_return to_status(message.error());
    if (!message.value()) co_return Status{};
    if (auto written = co_await call->write(std::move(*message.value())); !written) co_return to_status(written.error());
  }
}

GrpcServerOptions server_options() {
  GrpcServerOptions options;
  options.max_message_bytes = 4096;
  options.max_header_bytes = 2048;
  options.max_concurrent_streams = 20;
  options.max_resets_per_second = 5;
  options.max_control_frames_per_second = 10;
  options.compress_from_bytes = 100;
  return options;
}
MethodTable methods() {
  MethodTable table;
  table.add_unary("/e", [](ServerCall&, std::string request) { return echo(std::move(request)); });
  table.add_stream("/s", [](ServerCall& call) { return echo_all(&call); });
  return table;
}

/// Sends the input in pieces, drops what comes back.
core::awaitable<void> stranger(tcp::socket* socket, std::string_view bytes, std::size_t piece) {
  boost::system::error_code ec;
  while (!bytes.empty() && !ec) {
    const auto n = std::min(piece, bytes.size());
    co_await asio::async_write(*socket, asio::buffer(bytes.substr(0, n)), asio::redirect_error(asio::use_awaitable, ec));
    bytes.remove_prefix(n);
  }
  socket->shutdown(tcp::socket::shutdown_send, ec);
  char dropped[4096];
  for (ec = {}; !ec;) co_await socket->async_read_some(asio::buffer(dropped), asio::redirect_error(asio::use_awaitable, ec));
}

class Owner final : public ConnectionOwner {
 public:
  void connection_ready() override {
    if (!connection) return;
    for (bool unary : {true, false}) calls.push_back(connection->start({.path = "/e", .metadata = {}, .context = {}, .unary = unary, .message = "message"}));
  }
  void connection_leaving() override {}
  void connection_has_room() override {}

  ClientConnection* connection = nullptr;
  std::vector<CallHold> calls;
};

core::awaitable<void> run_server(ServerConnection* connection) { co_await connection->run(); }
core::awaitable<void> run_client(ClientConnection* connection) { co_await connection->run(); }
core::awaitable<void> read_all(Owner* owner) {
  for (auto& call : owner->calls) {
    for (;;) {
      auto message = co_await call->read();
      if (!message || !message.value()) break;
    }
    co_await call->wait_until_done();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static constexpr char kHello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
  static ServerShared shared{server_options(), runtime::LogSink::none(), methods(), nullptr, {}, {}, {}, {}};
  static const ClientShared client_shared{{}, "peer", "peer:1", nullptr, runtime::LogSink::none()};
  if (size == 0) return 0;
  const int how = data[0];  // bit 0: client's side; bit 1: after a proper hello; rest: size of the pieces
  std::string bytes;
  if (how & 2) bytes = how & 1 ? std::string(kHello + 24, 9) : std::string(kHello, sizeof kHello - 1);
  bytes.append(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::size_t piece = how >> 2 ? static_cast<std::size_t>(how >> 2) : 64 * 1024;

  asio::io_context io(1);
  int fds[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0) std::abort();
  tcp::socket ours(io), theirs(io);
  ours.assign(tcp::v4(), fds[0]);
  theirs.assign(tcp::v4(), fds[1]);
  const auto rethrow = [](std::exception_ptr e) {
    if (e) std::rethrow_exception(e);
  };
  asio::co_spawn(io, stranger(&theirs, bytes, piece), rethrow);
  if (how & 1) {
    Owner owner;
    {
      ClientConnection connection(client_shared, owner, std::move(ours), {}, ServerShard::Clock::now());
      owner.connection = &connection;
      asio::co_spawn(io, run_client(&connection), rethrow);
      io.run();
      owner.connection = nullptr;
    }
    io.restart();
    asio::co_spawn(io, read_all(&owner), rethrow);
    io.run();
    for (auto& call : owner.calls)
      if (!call->done()) std::abort();
  } else {
    ServerShard shard(io.get_executor(), shared, tcp::acceptor(io));
    {
      ServerConnection connection(shard, std::move(ours));
      asio::co_spawn(io, run_server(&connection), rethrow);
      io.run();
      if (connection.calls() != 0) std::abort();
    }
    if (shard.held() != 0) std::abort();
  }
  return 0;
}
