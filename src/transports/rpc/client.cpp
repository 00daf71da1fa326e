// SPDX-License-Identifier: Apache-2.0
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/redirect_error.hpp>

#include "runtime/net/balancer.hpp"
#include "transports/rpc/client_connection.hpp"
#include "transports/rpc/rpc.hpp"

namespace flexi::transports::rpc {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

constexpr std::uint16_t kDefaultPort = 5001;

/// What one shard has of a client: one connection per address of the peer, its own view of these addresses.
class ClientShard {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds kTick{20};
  static constexpr std::chrono::milliseconds kIdleTick{1'000};

  ClientShard(asio::any_io_executor executor, const RpcClientOptions& options, const runtime::net::Authority& authority, const Shown& shown,
              std::shared_ptr<runtime::net::PeerHealth> health, runtime::LogSink& log)
      : options_(options), shown_(shown), log_(log), scope_(executor, "rpc client", log),
        calls_done_(executor, asio::steady_timer::time_point::max()), ticker_(executor),
        balancer_(scope_, {.set_aside = options.set_aside, .resolve_interval = options.resolve_interval}, authority, std::move(health)) {}

  const asio::any_io_executor& executor() const { return scope_.executor(); }

  core::awaitable<core::Result<core::Reply>> call(core::Request request, core::CallContext context) {
    if (stopping_) co_return core::unavailable("the client has stopped");
    if (context.expired()) co_return core::deadline_exceeded("the request's time was over before it was sent");
    if (auto checked = check(request); !checked) co_return checked.error();
    start();
    const Running running(*this);
    auto known = co_await balancer_.ready();
    if (!known) co_return known.error();
    for (std::size_t attempt = 1;; ++attempt) {
      if (stopping_) co_return core::unavailable("the client has stopped");
      const auto connection = connection_to(balancer_.next());
      auto connected = co_await connection->ready();
      if (!connected && connected.error().kind != core::ErrorKind::unavailable) co_return connected.error();  // its caller left
      bool going_away = false;
      if (connected && context.expired()) co_return core::deadline_exceeded("the request's time was over before it was sent");
      if (connected) {
        const auto allowed = context.remaining();
        auto reply = co_await connection->call(request, context, going_away);
        if (connection->taken_for_dead()) balancer_.set_aside(connection->endpoint());
        if (!going_away) {
          // A caller who left before its time says nothing about the address.
          const bool left = !reply && reply.error().kind == core::ErrorKind::deadline_exceeded && !context.expired();
          if (!left) balancer_.report(connection->endpoint(), reply, allowed);
          co_return reply;
        }
        connection->leave();
        connected = reply.error();
        // Where it did nothing, and said so, it is as good as one that can't be reached.
        if (reply.error().sent == core::Sent::maybe) co_return reply;
      }
      balancer_.set_aside(connection->endpoint());
      if (attempt >= balancer_.size() || context.expired()) co_return connected.error();
    }
  }

  core::awaitable<void> stop(std::chrono::milliseconds grace) {
    co_await asio::this_coro::throw_if_cancelled(false);
    stopping_ = true;
    const auto until = Clock::now() + grace;
    error_code ignored;
    while (running_ != 0 && Clock::now() < until) {
      calls_done_.expires_at(until);
      co_await calls_done_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
    while (running_ != 0) {
      shared_->deadlines.expire_all();
      co_await asio::post(executor(), asio::use_awaitable);
    }
    for (auto& connection : connections_) connection->end();
    stopped_ = true;
    ticker_.cancel();
    co_await scope_.join();
    connections_.clear();
    shared_.reset();
  }

 private:
  struct Running {
    explicit Running(ClientShard& s) : shard(s) { ++shard.running_; }
    ~Running() {
      if (--shard.running_ == 0 && shard.stopping_) shard.calls_done_.cancel();
    }
    ClientShard& shard;
  };

  core::Result<void> check(const core::Request& request) const {
    if (static_cast<std::int64_t>(running_) >= options_.max_calls) {
      auto error = core::overloaded("too many requests wait for the service");
      error.retry_after = std::chrono::seconds(1);
      return error;
    }
    if (payload_bytes(request.payload) > static_cast<std::size_t>(options_.max_request_bytes))
      return core::invalid_argument("the payload must be at most " + std::to_string(options_.max_request_bytes) + " bytes");
    return check_texts(request.payload);
  }

  void start() {
    if (!shared_) {
      auto loop = KjLoop::here(executor(), log_);
      shared_ = std::unique_ptr<ClientShared>(new ClientShared{options_, shown_, log_, scope_, loop, Answers(loop), {}});
      scope_.spawn(watch());
    }
    used_ = true;
    if (dozing_) ticker_.cancel();
  }

  std::shared_ptr<ClientConnection> connection_to(const ClientConnection::Endpoint& endpoint) {
    for (auto& connection : connections_)
      if (connection->endpoint() == endpoint && connection->usable()) return connection;
    return connections_.emplace_back(std::make_shared<ClientConnection>(*shared_, endpoint));
  }

  asio::awaitable<void> watch() {
    while (!stopped_) {
      // A client that nobody uses sleeps, but for closing what has been idle for long.
      dozing_ = running_ == 0 && !std::exchange(used_, false);
      ticker_.expires_after(!dozing_ ? kTick : connections_.empty() ? std::chrono::hours(1) : std::chrono::hours(0) + kIdleTick);
      error_code ec;
      co_await ticker_.async_wait(asio::redirect_error(asio::use_awaitable, ec));
      const auto now = Clock::now();
      shared_->deadlines.expire(now);
      for (auto& connection : connections_) connection->tick(now);
      std::erase_if(connections_, [](auto& connection) { return connection->ended() && connection.use_count() == 1; });
    }
    // While they close.
    while (!connections_.empty()) {
      std::erase_if(connections_, [](auto& connection) { return connection.use_count() == 1; });
      for (auto& connection : connections_) connection->tick(Clock::now());
      ticker_.expires_after(std::chrono::milliseconds(1));
      error_code ec;
      co_await ticker_.async_wait(asio::redirect_error(asio::use_awaitable, ec));
    }
  }

  const RpcClientOptions& options_;
  const Shown shown_;
  runtime::LogSink& log_;
  runtime::TaskScope scope_;
  asio::steady_timer calls_done_, ticker_;
  runtime::net::Balancer balancer_;
  std::unique_ptr<ClientShared> shared_;  ///< made by the first call, on the shard's thread
  std::vector<std::shared_ptr<ClientConnection>> connections_;
  std::size_t running_ = 0;
  bool stopping_ = false, stopped_ = false, dozing_ = false, used_ = false;
};

core::awaitable<void> call_there(ClientShard* shard, core::Request request, core::CallContext context, std::optional<core::Result<core::Reply>>* result) {
  result->emplace(co_await shard->call(std::move(request), std::move(context)));
}

class RpcClient final : public core::Client {
 public:
  RpcClient(RpcClientOptions options, const Process& process, const runtime::net::Authority& authority)
      : options_(std::move(options)), token_(process.admin_token), process_key_(process.process_key) {
    auto health = std::make_shared<runtime::net::PeerHealth>("rpc://" + runtime::net::to_authority(authority),
                                                             runtime::net::OutlierOptions{options_.set_aside, options_.max_set_aside, options_.failures});
    if (process.peers) process.peers->add(health);
    for (unsigned i = 0; i < process.shards.size(); ++i)
      shards_.push_back(std::make_unique<ClientShard>(process.shards.executor(i), options_, authority, Shown{token_, process_key_}, health, process.log));
  }

  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override {
    auto& shard = *shards_[runtime::Shards::current()];
    const auto here = co_await asio::this_coro::executor;
    try {
      if (here == shard.executor()) co_return co_await shard.call(std::move(request), std::move(context));
      // From any other thread: over there. The deadline holds there; a cancellation does not cross.
      std::optional<core::Result<core::Reply>> result;
      auto call = call_there(&shard, std::move(request), std::move(context), &result);
      co_await asio::co_spawn(shard.executor(), std::move(call), asio::bind_cancellation_slot(asio::cancellation_slot(), asio::use_awaitable));
      co_return std::move(*result);
    } catch (const boost::system::system_error& e) {
      if (e.code() != asio::error::operation_aborted) throw;
      // The caller's coroutine throws when it is cancelled; where the request stood then is not known.
      co_return runtime::cancelled_error(core::Sent::maybe);
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
  const RpcClientOptions options_;
  const std::string token_, process_key_;
  std::vector<std::unique_ptr<ClientShard>> shards_;
};

}  // namespace

core::Result<std::unique_ptr<core::Client>> connect(RpcClientOptions options, Process process, std::string endpoint) {
  FLEXI_TRY(auto authority, runtime::net::parse_endpoint(endpoint, "rpc", kDefaultPort));
  return std::unique_ptr<core::Client>(std::make_unique<RpcClient>(std::move(options), process, authority));
}

}  // namespace flexi::transports::rpc
