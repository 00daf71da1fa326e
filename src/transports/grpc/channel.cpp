// SPDX-License-Identifier: Apache-2.0
#include "transports/grpc/channel.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>

#include "transports/grpc/channel_shard.hpp"

namespace flexi::transports::grpc {

namespace asio = boost::asio;

namespace {

constexpr std::uint16_t kDefaultPort = 50001;

core::awaitable<void> call_there(ChannelShard* shard, std::string_view path, std::string message, Metadata metadata, core::CallContext context,
                                 std::optional<ClientResult>* result) {
  result->emplace(co_await shard->unary(path, std::move(message), std::move(metadata), std::move(context)));
}

/// :authority and the certificate name one host: the first, where there are several.
runtime::net::Authority first_of(runtime::net::Authority peer) {
  peer.host.resize(std::min(peer.host.find(','), peer.host.size()));
  return peer;
}

class GrpcChannel final : public Channel {
 public:
  GrpcChannel(GrpcClientOptions options, const Process& process, const runtime::net::Authority& peer, std::unique_ptr<Tls> tls)
      : shared_{std::move(options), first_of(peer).host, runtime::net::to_authority(first_of(peer)), std::move(tls), process.log} {
    const auto& o = shared_.options;
    auto health = std::make_shared<runtime::net::PeerHealth>((shared_.tls ? "grpcs://" : "grpc://") + runtime::net::to_authority(peer),
                                                             runtime::net::OutlierOptions{o.set_aside, o.max_set_aside, o.failures});
    if (process.peers) process.peers->add(health);
    for (unsigned i = 0; i < process.shards.size(); ++i)
      shards_.push_back(std::make_unique<ChannelShard>(process.shards.executor(i), shared_, peer, health));
  }

  core::awaitable<ClientResult> unary(std::string_view path, std::string message, Metadata metadata, core::CallContext context) override {
    auto& shard = *shards_[runtime::Shards::current()];
    const auto here = co_await asio::this_coro::executor;
    const bool late = context.expired();
    try {
      if (here == shard.executor()) co_return co_await shard.unary(path, std::move(message), std::move(metadata), std::move(context));
      // From any other thread: over there. The deadline holds there; a cancellation does not cross.
      std::optional<ClientResult> result;
      auto call = call_there(&shard, path, std::move(message), std::move(metadata), std::move(context), &result);
      co_await asio::co_spawn(shard.executor(), std::move(call), asio::bind_cancellation_slot(asio::cancellation_slot(), asio::use_awaitable));
      co_return std::move(*result);
    } catch (const boost::system::system_error& e) {
      if (e.code() != asio::error::operation_aborted) throw;
      // The caller's coroutine throws when it is cancelled; where the request stood then is not known.
      co_return ClientResult{.status = {late ? Code::deadline_exceeded : Code::cancelled, "the call was cancelled", {}}};
    }
  }

  core::awaitable<core::Result<std::unique_ptr<ClientStream>>> open(std::string_view path, Metadata metadata, core::CallContext context) override {
    auto& shard = *shards_[runtime::Shards::current()];
    const auto here = co_await asio::this_coro::executor;
    if (here != shard.executor()) co_return core::internal("internal error", "a gRPC stream was opened off the shards");
    try {
      co_return co_await shard.open(path, std::move(metadata), std::move(context));
    } catch (const boost::system::system_error& e) {
      if (e.code() != asio::error::operation_aborted) throw;
      co_return core::cancelled("the call was cancelled");
    }
  }

  core::awaitable<void> stop(core::StopOptions options) override {
    co_await asio::this_coro::throw_if_cancelled(false);
    for (auto& shard : shards_) {
      auto stopped = shard->stop(options.grace);
      co_await asio::co_spawn(shard->executor(), std::move(stopped), asio::use_awaitable);
    }
  }

 private:
  const ClientShared shared_;
  std::vector<std::unique_ptr<ChannelShard>> shards_;
};

}  // namespace

core::Result<std::unique_ptr<Channel>> Channel::make(GrpcClientOptions options, Process process, std::string endpoint) {
  const bool secure = endpoint.starts_with("grpcs://");
  FLEXI_TRY(auto peer, runtime::net::parse_endpoint(endpoint, secure ? "grpcs" : "grpc", kDefaultPort));
  std::unique_ptr<Tls> tls;
  if (secure) {
    FLEXI_TRY(tls, Tls::of_client(options));
  }
  return std::unique_ptr<Channel>(std::make_unique<GrpcChannel>(std::move(options), process, peer, std::move(tls)));
}

}  // namespace flexi::transports::grpc
