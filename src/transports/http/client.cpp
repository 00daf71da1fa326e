// SPDX-License-Identifier: Apache-2.0
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>

#include "transports/http/client_codec.hpp"
#include "transports/http/exchange.hpp"
#include "transports/http/http.hpp"
#include "transports/http/pipeline.hpp"
#include "transports/json_codec.hpp"

namespace flexi::transports::http {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

/// What one shard has of a client: its own connections, its own view of the peer's addresses.
class ClientShard {
 public:
  ClientShard(asio::any_io_executor executor, const HttpClientOptions& options, const runtime::net::Authority& authority, const PeerHeader& peer,
              std::shared_ptr<runtime::net::PeerHealth> health, runtime::LogSink& log)
      : options_(options), peer_(peer), scope_(executor, "http client", log), calls_done_(executor, asio::steady_timer::time_point::max()),
        deadlines_(std::make_shared<Deadlines>(executor)), pool_(std::make_shared<Pool>(executor, options, deadlines_)),
        balancer_(scope_, {.set_aside = options.set_aside, .resolve_interval = options.resolve_interval}, authority, std::move(health)) {}

  const asio::any_io_executor& executor() const { return scope_.executor(); }

  core::awaitable<core::Result<core::Reply>> call(core::Request request, core::CallContext context) {
    if (stopping_) co_return core::unavailable("the client has stopped");
    if (context.expired()) co_return core::deadline_exceeded("the request's time was over before it was sent");
    if (!started_) {
      started_ = true;
      scope_.spawn(deadlines_->run());
    }
    const Running running(*this);
    auto ready = co_await balancer_.ready();
    if (!ready) co_return ready.error();
    if (auto text = check_utf8(request.payload); !text) co_return text.error();
    std::string wire;
    append_request(wire, peer_, request, context);
    // One alone may be larger than all that may be held.
    if (held_bytes_ != 0 && held_bytes_ + wire.size() > static_cast<std::size_t>(options_.max_buffered_bytes)) {
      auto error = core::overloaded("too many bytes wait for the service");
      error.retry_after = std::chrono::seconds(1);
      co_return error;
    }
    const Held held(*this, wire.size());
    if (options_.pipeline_logs && !peer_.foreign() && request.action == core::actions::kLog) co_return co_await pipelined(std::move(wire), context);
    co_return co_await pooled(std::move(wire), context);
  }

  core::awaitable<void> stop(std::chrono::milliseconds grace) {
    co_await asio::this_coro::throw_if_cancelled(false);
    stopping_ = true;
    const auto until = std::chrono::steady_clock::now() + grace;
    error_code ignored;
    while (running_ != 0 && std::chrono::steady_clock::now() < until) {
      calls_done_.expires_at(until);
      co_await calls_done_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
    deadlines_->stop();
    pool_->close();
    for (auto& pipeline : pipelines_) pipeline->close();
    // Once more for whoever began to wait while the others were told.
    while (running_ != 0) {
      deadlines_->expire_all();
      co_await asio::post(executor(), asio::use_awaitable);
    }
    deadlines_->expire_all();  // event streams
    scope_.cancel();
    co_await scope_.join();
  }

 private:
  struct Running {
    explicit Running(ClientShard& s) : shard(s) { ++shard.running_; }
    ~Running() {
      if (--shard.running_ == 0) shard.calls_done_.cancel();
    }
    ClientShard& shard;
  };

  /// Counts a request's bytes until it has been answered.
  struct Held {
    Held(ClientShard& s, std::size_t b) : shard(s), bytes(b) { shard.held_bytes_ += bytes; }
    ~Held() { shard.held_bytes_ -= bytes; }
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;
    ClientShard& shard;
    const std::size_t bytes;
  };

  core::awaitable<core::Result<core::Reply>> pooled(std::string wire, core::CallContext context) {
    for (auto fresh : {Pool::Fresh::no, Pool::Fresh::yes}) {
      auto lease = co_await pool_->acquire(balancer_, fresh, context);
      if (!lease) co_return lease.error();
      const bool reused = lease.value().reused();
      const auto endpoint = lease.value()->endpoint;
      const auto allowed = context.remaining();
      bool nothing_written = false;
      auto reply = co_await exchange(lease.value(), wire, options_.max_answer_bytes, context, nothing_written, peer_.foreign() ? Peer::foreign : Peer::ours);
      // A kept connection that died since its last use: the request has not left.
      if (!reply && nothing_written && reused && fresh == Pool::Fresh::no && !context.expired()) continue;
      balancer_.report(endpoint, reply, allowed);
      co_return reply;
    }
    co_return core::unavailable("the connection to the service broke");
  }

  core::awaitable<core::Result<core::Reply>> pipelined(std::string wire, core::CallContext context) {
    for (std::size_t attempt = 1;; ++attempt) {
      auto& pipeline = pipeline_to(balancer_.next());
      bool connected = true;
      const auto allowed = context.remaining();
      auto reply = co_await pipeline.call(wire, context, connected);
      if (connected) {
        balancer_.report(pipeline.endpoint(), reply, allowed);
        co_return reply;
      }
      balancer_.set_aside(pipeline.endpoint());
      if (attempt >= balancer_.size() || context.expired()) co_return reply;
    }
  }

  Pipeline& pipeline_to(const Pipeline::Endpoint& endpoint) {
    for (auto& pipeline : pipelines_)
      if (pipeline->endpoint() == endpoint) return *pipeline;
    return *pipelines_.emplace_back(std::make_unique<Pipeline>(scope_, options_, *deadlines_, endpoint));
  }

  const HttpClientOptions& options_;
  const PeerHeader& peer_;
  runtime::TaskScope scope_;
  asio::steady_timer calls_done_;
  std::shared_ptr<Deadlines> deadlines_;
  std::shared_ptr<Pool> pool_;
  runtime::net::Balancer balancer_;
  std::vector<std::unique_ptr<Pipeline>> pipelines_;  ///< one per address ever seen
  std::size_t running_ = 0, held_bytes_ = 0;
  bool started_ = false, stopping_ = false;
};

core::awaitable<void> call_there(ClientShard* shard, core::Request request, core::CallContext context, std::optional<core::Result<core::Reply>>* result) {
  result->emplace(co_await shard->call(std::move(request), std::move(context)));
}

/// The Host header names one: the first, where there are several.
std::string host_of(runtime::net::Authority authority) {
  authority.host.resize(std::min(authority.host.find(','), authority.host.size()));
  return runtime::net::to_authority(authority);
}

class HttpClient final : public core::Client {
 public:
  HttpClient(HttpClientOptions options, const Process& process, const runtime::net::Authority& authority, PeerHeader peer)
      : options_(std::move(options)), peer_(std::move(peer)),
        health_(std::make_shared<runtime::net::PeerHealth>("http://" + runtime::net::to_authority(authority),
                                                           runtime::net::OutlierOptions{options_.set_aside, options_.max_set_aside, options_.failures})) {
    if (process.peers) process.peers->add(health_);
    for (unsigned i = 0; i < process.shards.size(); ++i)
      shards_.push_back(std::make_unique<ClientShard>(process.shards.executor(i), options_, authority, peer_, health_, process.log));
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
  const HttpClientOptions options_;
  const PeerHeader peer_;
  const std::shared_ptr<runtime::net::PeerHealth> health_;
  std::vector<std::unique_ptr<ClientShard>> shards_;
};

}  // namespace

core::Result<std::unique_ptr<core::Client>> connect(HttpClientOptions options, Process process, std::string endpoint) {
  FLEXI_TRY(auto authority, runtime::net::parse_endpoint(endpoint, "http", 80));
  PeerHeader peer{host_of(authority), process.admin_token, {}, process.process_key};
  return std::unique_ptr<core::Client>(std::make_unique<HttpClient>(std::move(options), process, authority, std::move(peer)));
}

core::Result<std::unique_ptr<core::Client>> connect_foreign(HttpClientOptions options, Process process, std::string url) {
  FLEXI_TRY(auto parsed, runtime::net::parse_url(url, "http", 80));
  // Without our token: it is no business of another's.
  PeerHeader peer{host_of(parsed.authority), {}, parsed.target};
  return std::unique_ptr<core::Client>(std::make_unique<HttpClient>(std::move(options), process, parsed.authority, std::move(peer)));
}

}  // namespace flexi::transports::http
