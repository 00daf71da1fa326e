// SPDX-License-Identifier: Apache-2.0
// The server's whole way from a stranger's bytes to handlers and back: socket, frames, guard, RPC system, objects.
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/write.hpp>
#include <cstdlib>

#include "transports/rpc/server_shard.hpp"

namespace {

using namespace flexi;
using namespace flexi::transports::rpc;
namespace asio = boost::asio;
using asio::ip::tcp;

/// One event, then the end.
class OneEvent final : public core::EventStream {
 public:
  core::awaitable<core::Result<std::optional<std::string>>> next(core::CallContext) override {
    if (std::exchange(told_, true)) co_return std::optional<std::string>();
    co_return std::optional<std::string>("{}");
  }

 private:
  bool told_ = false;
};

class Answering final : public core::Handler {
 public:
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext) override {
    if (request.action == "wait") {
      asio::steady_timer timer(co_await asio::this_coro::executor, std::chrono::seconds(60));
      co_await timer.async_wait(asio::use_awaitable);
    }
    core::Reply reply{.message = "ok"};
    if (request.action == core::actions::kLogsTail) reply.events = std::make_unique<OneEvent>();
    co_return reply;
  }
};

class Target {
 public:
  Target() {
    shared_.options.max_payload_bytes = 4096;
    shared_.options.max_unreleased = 50;
    shared_.refused = metrics_.counter("refused", "");
    shared_.answered = metrics_.counter("answered", "");
    shared_.failed = metrics_.counter("failed", "");
    shared_.open = metrics_.gauge("open", "");
    (void)shared_.registry.add("Logger", {ObjectType::logger, &handler_});
    (void)shared_.registry.add("Authentication", {ObjectType::authentication, &handler_});
    (void)shared_.registry.add("Mail", {ObjectType::mail, &handler_});
    (void)shared_.registry.add("Broker", {ObjectType::broker, &handler_});
    (void)shared_.registry.add("Actions", {ObjectType::actions, &handler_, &handler_});
    tcp::acceptor acceptor(io_, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
    endpoint_ = acceptor.local_endpoint();
    shard_ = std::make_unique<ServerShard>(io_.get_executor(), shared_, std::move(acceptor));
    shard_->start();
  }

  void run(const std::uint8_t* data, std::size_t size) {
    tcp::socket client(io_);
    client.connect(endpoint_);
    boost::system::error_code ec;
    asio::write(client, asio::buffer(data, size), ec);
    client.shutdown(tcp::socket::shutdown_send, ec);
    bool ended = false;
    std::string answers;
    asio::async_read(client, asio::dynamic_buffer(answers), [&](boost::system::error_code, std::size_t) { ended = true; });
    while (!ended) io_.run_one();
    // Whatever it was, nothing of it is left.
    for (int i = 0; i < 100'000 && (shared_.connections != 0 || shared_.calls != 0); ++i) io_.run_one();
    if (shared_.connections != 0 || shared_.calls != 0) std::abort();
  }

 private:
  asio::io_context io_{1};
  runtime::Metrics metrics_;
  Answering handler_;
  ServerShared shared_{{}, runtime::LogSink::none(), "token"};
  tcp::endpoint endpoint_;
  std::unique_ptr<ServerShard> shard_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static auto* target = new Target;  // lives as long as the process: nothing joins it
  if (size <= 64 * 1024) target->run(data, size);
  return 0;
}
