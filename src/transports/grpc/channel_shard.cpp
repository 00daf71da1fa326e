// SPDX-License-Identifier: Apache-2.0
#include "transports/grpc/channel_shard.hpp"

#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/this_coro.hpp>

#include "transports/grpc/client_stream.hpp"

namespace flexi::transports::grpc {

namespace asio = boost::asio;
using boost::system::error_code;
using Endpoint = runtime::net::Balancer::Endpoint;

namespace {

constexpr std::chrono::milliseconds kTick{20}, kIdleTick{250};
constexpr std::size_t kMaxOldPeers = 32;  // addresses without a connection that are remembered

core::Error too_late() { return core::deadline_exceeded("the request's time was over before it was sent"); }

ClientResult unsent(const core::Error& error) {
  ClientResult result;
  result.status = to_status(error);
  result.sent = core::Sent::no;
  return result;
}

}  // namespace

struct ChannelShard::Running {
  explicit Running(ChannelShard& s) : shard(s) { ++shard.running_; }
  ~Running() {
    if (--shard.running_ == 0 && shard.stopping_) shard.calls_done_.cancel();
  }
  ChannelShard& shard;
};

/// One address: its connection, and who waits for it.
class ChannelShard::Peer final : public ConnectionOwner {
 public:
  Peer(ChannelShard& shard, const Endpoint& endpoint) : shard_(shard), endpoint_(endpoint) {}

  const Endpoint& endpoint() const { return endpoint_; }
  ClientConnection* at_hand() { return current_ && waiters_.empty() && current_->usable() && current_->has_room() ? current_ : nullptr; }
  bool unused() const { return open_.empty() && !connecting_ && within_ == 0; }

  /// Returns when there is room, or a reason why there will be none.
  core::awaitable<core::Result<ClientConnection*>> wait(Clock::time_point deadline) {
    if (!connecting_ && !(current_ && current_->usable())) {
      connecting_ = true;
      shard_.scope_.spawn(connect());
    }
    ++shard_.waiting_, ++within_;
    auto start = [this, deadline](std::shared_ptr<runtime::Completion<void>> completion) { waiters_.push_back({std::move(completion), deadline}); };
    auto woken = co_await runtime::wait_for_completion<void>(std::move(start), core::cancelled("the call was cancelled"));
    --shard_.waiting_, --within_;
    if (!woken && woken.error().kind == core::ErrorKind::cancelled && Clock::now() >= deadline) co_return too_late();
    if (!woken) co_return woken.error();
    co_return current_ && current_->usable() && current_->has_room() ? current_ : nullptr;
  }

  void connection_ready() override {
    connecting_ = false;
    current_ = open_.back();
    shard_.balancer_.reached(endpoint_);
    connection_has_room();
  }
  void connection_leaving() override { current_ = nullptr; }
  void connection_has_room() override {
    // Each goes on at once, so that the room it was told of is still there.
    while (!waiters_.empty() && !connecting_ && (!current_ || current_->has_room())) {
      auto waiter = std::move(waiters_.front());
      waiters_.pop_front();
      waiter.completion->resolve(core::ok());
    }
  }

  void tick(Clock::time_point now) {
    for (auto it = waiters_.begin(); it != waiters_.end();) {
      if (!it->completion->waiting()) {
        it = waiters_.erase(it);
      } else if (now >= it->deadline) {
        it->completion->complete(too_late());
        it = waiters_.erase(it);
      } else {
        ++it;
      }
    }
    for (std::size_t i = 0; i < open_.size(); ++i) open_[i]->tick_all(now);
  }
  void stop(const core::Error& why) {
    fail(why);
    for (std::size_t i = 0; i < open_.size(); ++i) open_[i]->stop(why.message);
  }
  bool has_calls() const {
    for (auto* connection : open_)
      if (connection->calls() != 0) return true;
    return false;
  }
  bool has_connections() const { return !open_.empty(); }

 private:
  core::awaitable<void> connect() {
    co_await asio::this_coro::throw_if_cancelled(false);
    asio::ip::tcp::socket socket(shard_.executor());
    const auto ec = co_await runtime::net::connect_within(socket, endpoint_, shard_.shared_.options.connect_timeout);
    std::string why = ec ? ec.message() : "";
    if (!ec && !shard_.stopping_) {
      ClientConnection connection(shard_.shared_, *this, std::move(socket), endpoint_, Clock::now());
      open_.push_back(&connection);
      shard_.stir();
      why = co_await connection.run();
      std::erase(open_, &connection);
      if (current_ == &connection) current_ = nullptr;
      if (why.empty()) {  // it served; whoever waits tries anew
        connection_has_room();
        shard_.forget_old_peers();
        co_return;
      }
    }
    connecting_ = false;
    if (!shard_.stopping_) shard_.balancer_.set_aside(endpoint_);
    shard_.shared_.log.debug("can't connect to gRPC peer", {{"peer", shard_.shared_.authority}, {"address", endpoint_.address().to_string()}, {"error", why}});
    fail(core::unavailable("the service can't be reached", why));
  }
  void fail(const core::Error& error) {
    for (auto& waiter : std::exchange(waiters_, {})) waiter.completion->resolve(error);
  }

  ChannelShard& shard_;
  const Endpoint endpoint_;
  ClientConnection* current_ = nullptr;      ///< takes new calls
  std::vector<ClientConnection*> open_;      ///< that, and those that still end their calls
  std::list<Waiter> waiters_;
  std::size_t within_ = 0;  ///< coroutines in wait()
  bool connecting_ = false;
};

ChannelShard::ChannelShard(asio::any_io_executor executor, const ClientShared& shared, runtime::net::Authority peer,
                           std::shared_ptr<runtime::net::PeerHealth> health)
    : shared_(shared), scope_(executor, "grpc client", shared.log),
      balancer_(scope_,
                {.set_aside = shared.options.set_aside,
                 .resolve_interval = shared.options.resolve_interval,
                 .max_set_aside = shared.options.max_set_aside,
                 .failures = shared.options.failures},
                std::move(peer), std::move(health)),
      ticker_(executor), calls_done_(executor, Clock::time_point::max()) {}

ChannelShard::~ChannelShard() = default;

// --- calls ---

core::Result<void> ChannelShard::may_begin(const core::CallContext& context) {
  if (stopping_) return core::unavailable("the client has stopped");
  if (context.expired()) return too_late();
  if (!started_) {
    started_ = true;
    scope_.spawn(watch());
  }
  busy_at_ = now_;
  if (dozing_) stir();
  return core::ok();
}

ClientConnection* ChannelShard::at_hand(std::optional<Endpoint>& turn) {
  if (balancer_.size() == 0) return nullptr;
  turn = balancer_.next();
  return peer_at(*turn).at_hand();
}

core::awaitable<core::Result<ClientConnection*>> ChannelShard::acquire(core::CallContext context, std::optional<Endpoint> turn) {
  for (std::size_t failures = 0;;) {
    if (stopping_) co_return core::unavailable("the client has stopped");
    if (context.expired()) co_return too_late();
    auto known = co_await balancer_.ready();
    if (!known) co_return known.error();
    auto& peer = peer_at(turn ? *turn : balancer_.next());
    turn.reset();
    if (auto* connection = peer.at_hand()) co_return connection;
    if (waiting_ >= static_cast<std::size_t>(shared_.options.max_waiting)) {
      auto error = core::overloaded("too many requests wait for the service");
      error.retry_after = std::chrono::seconds(1);
      co_return error;
    }
    auto connection = co_await peer.wait(context.deadline);
    if (connection && connection.value()) co_return connection.value();
    if (connection) continue;
    // Nothing has left yet: another address may do.
    if (connection.error().kind != core::ErrorKind::unavailable || ++failures >= balancer_.size()) co_return connection.error();
  }
}

core::awaitable<ClientResult> ChannelShard::unary(std::string_view path, std::string message, Metadata metadata, core::CallContext context) {
  if (auto allowed = may_begin(context); !allowed) co_return unsent(allowed.error());
  const Running running(*this);
  CallStart start{.path = path, .metadata = std::move(metadata), .context = std::move(context), .unary = true, .message = std::move(message)};
  for (std::size_t moves = 0;; ++moves) {
    std::optional<Endpoint> turn;
    auto* connection = at_hand(turn);
    if (!connection) {
      auto acquired = co_await acquire(start.context, turn);
      if (!acquired) co_return unsent(acquired.error());
      connection = acquired.value();
    }
    const auto endpoint = connection->endpoint();
    const auto allowed = start.context.remaining();
    auto call = connection->start(std::move(start));
    co_await call->wait_until_done();
    auto& result = call->result();
    // A connection that takes no more calls, because its server goes, is no failure of the call's: each address gets one more try.
    if (result.sent == core::Sent::no && result.status.code == Code::unavailable && moves < balancer_.size() && !stopping_) {
      start = call->again();
      continue;
    }
    report(endpoint, result.status, allowed);
    co_return std::move(result);
  }
}

core::awaitable<core::Result<std::unique_ptr<ClientStream>>> ChannelShard::open(std::string_view path, Metadata metadata, core::CallContext context) {
  if (auto allowed = may_begin(context); !allowed) co_return allowed.error();
  const Running running(*this);
  std::optional<Endpoint> turn;
  auto* connection = at_hand(turn);
  if (!connection) {
    auto acquired = co_await acquire(context, turn);
    if (!acquired) co_return acquired.error();
    connection = acquired.value();
  }
  co_return make_client_stream(connection->start({.path = path, .metadata = std::move(metadata), .context = std::move(context), .unary = false}));
}

// --- addresses ---

void ChannelShard::report(const Endpoint& endpoint, const Status& status, std::chrono::milliseconds allowed) {
  if (status.ok()) balancer_.report(endpoint, core::Reply{}, allowed);
  else balancer_.report(endpoint, to_error(status, core::Sent::maybe), allowed);
}

ChannelShard::Peer& ChannelShard::peer_at(const Endpoint& endpoint) {
  for (auto& peer : peers_)
    if (peer->endpoint() == endpoint) return *peer;
  return *peers_.emplace_back(std::make_unique<Peer>(*this, endpoint));
}

void ChannelShard::forget_old_peers() {
  if (peers_.size() > kMaxOldPeers) busy_at_ = now_;  // tick() does it, where nobody is within a peer
}

// --- time ---

void ChannelShard::stir() {
  dozing_ = false;
  ticker_.cancel();
}

core::awaitable<void> ChannelShard::watch() {
  co_await asio::this_coro::throw_if_cancelled(false);
  now_ = Clock::now();
  while (!done_) {
    bool connections = stopping_, calls = waiting_ != 0;
    for (auto& peer : peers_) connections = connections || peer->has_connections(), calls = calls || peer->has_calls();
    const bool busy = calls || stopping_ || now_ - busy_at_ < std::chrono::seconds(1);
    dozing_ = !busy;
    ticker_.expires_after(busy ? kTick : connections ? kIdleTick : std::chrono::milliseconds(std::chrono::hours(1)));
    error_code ignored;
    co_await ticker_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    now_ = Clock::now();
    if (!dozing_) busy_at_ = std::max(busy_at_, calls ? now_ : busy_at_);
    tick(now_);
  }
}

void ChannelShard::tick(Clock::time_point now) {
  for (std::size_t i = 0; i < peers_.size(); ++i) peers_[i]->tick(now);
  if (peers_.size() > kMaxOldPeers) std::erase_if(peers_, [](auto& peer) { return peer->unused(); });
  // A call finds its connection at hand; that names are resolved again is seen to here.
  if (now - resolved_at_ < shared_.options.resolve_interval || now - busy_at_ > shared_.options.resolve_interval || refreshing_ || stopping_ || balancer_.size() == 0) return;
  resolved_at_ = now;
  refreshing_ = true;
  scope_.spawn([](ChannelShard* me) -> core::awaitable<void> {
    (void)co_await me->balancer_.ready();
    me->refreshing_ = false;
  }(this));
}

core::awaitable<void> ChannelShard::stop(std::chrono::milliseconds grace) {
  co_await asio::this_coro::throw_if_cancelled(false);
  stopping_ = true;
  const auto until = Clock::now() + grace;
  error_code ignored;
  while (running_ != 0 && Clock::now() < until) {
    calls_done_.expires_at(until);
    co_await calls_done_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
  const auto why = core::unavailable("the client has stopped");
  stir();
  // Again for whoever began to wait while the others were told, and for connections that were just being made.
  asio::steady_timer pause(executor());
  const auto give_up = Clock::now() + std::chrono::seconds(2);
  for (bool busy = true; busy && Clock::now() < give_up;) {
    for (std::size_t i = 0; i < peers_.size(); ++i) peers_[i]->stop(why);
    busy = running_ != 0;
    for (auto& peer : peers_) busy = busy || !peer->unused();
    if (!busy) break;
    pause.expires_after(std::chrono::milliseconds(1));
    co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
  done_ = true;
  ticker_.cancel();
  scope_.cancel();
  while (running_ != 0) co_await asio::post(executor(), asio::use_awaitable);
  co_await scope_.join();
}

}  // namespace flexi::transports::grpc
