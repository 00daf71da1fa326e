// SPDX-License-Identifier: Apache-2.0
// The client's whole way from a stranger's answers to its callers: socket, frames, guard, RPC system, answers, events of a tail.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/write.hpp>
#include <cstdlib>

#include "transports/rpc/client_connection.hpp"

namespace {

using namespace flexi;
using namespace flexi::transports::rpc;
namespace asio = boost::asio;
using asio::ip::tcp;

/// What is called, so that the input's first byte has the answers read as those of each object.
core::Request request_of(std::uint8_t which) {
  core::Request request;
  request.id = core::MessageId::parse("fuzz").value();
  switch (which % 4) {
    case 0: request.action = "do"; break;
    case 1: request.action = core::actions::kLog, request.payload = core::LogEntry{"n", "d"}; break;
    case 2: request.action = core::actions::kLogsTail; break;
    default: request.action = core::actions::kAuth, request.payload = core::Credentials{"a@b.c", "x"};
  }
  return request;
}

/// Says the bytes to whoever connects, and drops what it is told.
asio::awaitable<void> stranger(tcp::acceptor* acceptor, std::string_view bytes, bool* done) {
  tcp::socket socket(acceptor->get_executor());
  boost::system::error_code ec;
  co_await acceptor->async_accept(socket, asio::redirect_error(asio::use_awaitable, ec));
  co_await asio::async_write(socket, asio::buffer(bytes), asio::redirect_error(asio::use_awaitable, ec));
  socket.shutdown(tcp::socket::shutdown_send, ec);
  char dropped[4096];
  for (ec = {}; !ec;) co_await socket.async_read_some(asio::buffer(dropped), asio::redirect_error(asio::use_awaitable, ec));
  *done = true;
}

asio::awaitable<void> caller(runtime::TaskScope* scope, std::shared_ptr<ClientConnection> connection, core::Request request, bool* done) {
  auto connected = co_await connection->ready();
  if (!connected) std::abort();
  bool going_away = false;
  auto reply = co_await connection->call(request, {}, going_away);
  if (reply && reply.value().events) {
    for (;;) {
      auto event = co_await reply.value().events->next({});
      if (!event || !event.value()) break;
    }
    reply.value().events.reset();
  }
  connection->end();
  connection.reset();
  co_await scope->join();
  *done = true;
}

class Target {
 public:
  Target() : acceptor_(io_, tcp::endpoint(asio::ip::address_v4::loopback(), 0)), loop_(KjLoop::here(io_.get_executor(), runtime::LogSink::none())) {}

  void run(std::uint8_t which, std::string_view bytes) {
    runtime::TaskScope scope(io_.get_executor(), "rpc client", runtime::LogSink::none());
    ClientShared shared{options_, shown_, runtime::LogSink::none(), scope, loop_, Answers(loop_), {}};
    auto connection = std::make_shared<ClientConnection>(shared, acceptor_.local_endpoint());
    const std::weak_ptr<ClientConnection> left = connection;
    const auto rethrow = [](std::exception_ptr e) {
      if (e) std::rethrow_exception(e);
    };
    bool said = false, called = false;
    asio::co_spawn(io_, stranger(&acceptor_, bytes, &said), rethrow);
    asio::co_spawn(io_, caller(&scope, std::move(connection), request_of(which), &called), rethrow);
    while (!said || !called) io_.run_one();
    // Whatever was answered, nothing of it is left.
    for (int i = 0; i < 1000 && !left.expired(); ++i) io_.poll_one();
    if (!left.expired()) std::abort();
  }

 private:
  asio::io_context io_{1};
  const asio::executor_work_guard<asio::io_context::executor_type> busy_{io_.get_executor()};  // between two inputs, too
  tcp::acceptor acceptor_;
  std::shared_ptr<KjLoop> loop_;
  const RpcClientOptions options_{.max_answer_bytes = 64 * 1024, .event_buffer = 2, .connect_timeout = std::chrono::seconds(20)};
  const Shown shown_{.token = "token"};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static auto* target = new Target;  // lives as long as the process: nothing joins it
  if (size > 0 && size <= 64 * 1024) target->run(data[0], {reinterpret_cast<const char*>(data) + 1, size - 1});
  return 0;
}
