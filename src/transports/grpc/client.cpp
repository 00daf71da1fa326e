// SPDX-License-Identifier: Apache-2.0
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>

#include "runtime/completion.hpp"
#include "transports/grpc/asked.hpp"
#include "transports/grpc/channel.hpp"
#include "transports/grpc/codec.hpp"
#include "transports/grpc/client_follow.hpp"
#include "transports/json_codec.hpp"

namespace flexi::transports::grpc {

namespace actions = core::actions;
namespace asio = boost::asio;

namespace {

/// The method that carries a request to its service.
std::string_view path_of(const core::Request& request) {
  if (std::holds_alternative<core::LogEntry>(request.payload)) return "/flexiconnect.v1.Logger/WriteLog";
  if (std::holds_alternative<core::Credentials>(request.payload)) return "/flexiconnect.v1.Authentication/Authenticate";
  if (std::holds_alternative<core::Mail>(request.payload)) return "/flexiconnect.v1.Mail/Send";
  return "/flexiconnect.v1.Actions/Call";
}

core::Result<core::Reply> read_result(ClientResult result) {
  if (!result.status.ok()) return error_from(result);
  thread_local v1::Reply message;
  if (!message.ParseFromString(result.message)) {
    auto error = core::internal("the service's answer was not understood", "it is not a flexiconnect.v1.Reply");
    error.sent = core::Sent::maybe;
    return error;
  }
  auto reply = take_reply(message);
  message.Clear();
  return reply;
}

core::awaitable<void> open_there(Follows* follows, std::string message, Metadata metadata, core::CallContext context, std::optional<core::Result<core::Reply>>* result) {
  result->emplace(co_await follows->open(std::move(message), std::move(metadata), std::move(context)));
}

class GrpcClient final : public core::Client {
 public:
  GrpcClient(std::unique_ptr<Channel> channel, const Process& process) : channel_(std::move(channel)), process_(process) {
    for (unsigned i = 0; i < process.shards.size(); ++i) follows_.push_back(std::make_unique<Follows>(process.shards.executor(i), *channel_, process.log));
  }

  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override {
    if (context.expired()) co_return core::deadline_exceeded("the request's time was over before it was sent");
    if (auto text = check_utf8(request.payload); !text) co_return text.error();
    auto metadata = write_metadata(request, context, process_.admin_token, process_.process_key);
    auto message = write_request(request);
    try {
      if (request.action == actions::kLogsTail) co_return co_await follow(std::move(message), std::move(metadata), std::move(context));
      auto result = co_await channel_->unary(path_of(request), std::move(message), std::move(metadata), std::move(context));
      co_return read_result(std::move(result));
    } catch (const boost::system::system_error& e) {
      if (e.code() != asio::error::operation_aborted) throw;
      // The caller's coroutine throws when it is cancelled; where the request stood then is not known.
      co_return runtime::cancelled_error(core::Sent::maybe);
    }
  }

  core::awaitable<void> stop(core::StopOptions options) override {
    co_await asio::this_coro::throw_if_cancelled(false);
    for (auto& follows : follows_) {
      auto stopped = follows->stop();
      co_await asio::co_spawn(follows->executor(), std::move(stopped), asio::use_awaitable);
    }
    co_await channel_->stop(options);
  }

 private:
  core::awaitable<core::Result<core::Reply>> follow(std::string message, Metadata metadata, core::CallContext context) {
    auto& follows = *follows_[runtime::Shards::current()];
    const auto here = co_await asio::this_coro::executor;
    if (here == follows.executor()) co_return co_await follows.open(std::move(message), std::move(metadata), std::move(context));
    // From any other thread: over there. The deadline holds there; a cancellation does not cross.
    std::optional<core::Result<core::Reply>> result;
    auto opened = open_there(&follows, std::move(message), std::move(metadata), std::move(context), &result);
    co_await asio::co_spawn(follows.executor(), std::move(opened), asio::bind_cancellation_slot(asio::cancellation_slot(), asio::use_awaitable));
    co_return std::move(*result);
  }

  std::unique_ptr<Channel> channel_;
  const Process process_;
  std::vector<std::unique_ptr<Follows>> follows_;  ///< one per shard
};

}  // namespace

core::Result<std::unique_ptr<core::Client>> connect(GrpcClientOptions options, Process process, std::string endpoint) {
  silence_protobuf();
  FLEXI_TRY(auto channel, Channel::make(std::move(options), process, std::move(endpoint)));
  return std::unique_ptr<core::Client>(std::make_unique<GrpcClient>(std::move(channel), process));
}

}  // namespace flexi::transports::grpc
