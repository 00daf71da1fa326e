// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <capnp/rpc.h>

#include <boost/asio/ip/tcp.hpp>
#include <memory>
#include <optional>
#include <vector>

#include "transports/rpc/codec.hpp"
#include "transports/rpc/deadlines.hpp"
#include "transports/rpc/event_queue.hpp"
#include "transports/rpc/options.hpp"
#include "transports/rpc/wire.hpp"

namespace flexi::transports::rpc {

/// Resolves those whose answers have come, when kj's events have run: together, and not from within their own event.
class Answers final : private KjLoop::AfterEvents {
 public:
  explicit Answers(std::shared_ptr<KjLoop> loop) : loop_(std::move(loop)) {}
  ~Answers() { loop_->forget(*this); }
  void came(std::shared_ptr<runtime::Completion<void>> waiting) {
    if (waiting_.empty()) loop_->call_after_events(*this, KjLoop::Order::answers);
    waiting_.push_back(std::move(waiting));
  }

 private:
  void after_events() override {
    auto waiting = std::exchange(waiting_, {});
    for (auto& one : waiting) one->resolve(core::ok());
  }
  const std::shared_ptr<KjLoop> loop_;
  std::vector<std::shared_ptr<runtime::Completion<void>>> waiting_;
};

/// What all connections of one shard's client share.
struct ClientShared {
  const RpcClientOptions& options;
  const Shown shown;
  runtime::LogSink& log;
  runtime::TaskScope& scope;
  std::shared_ptr<KjLoop> loop;
  Answers answers;
  Deadlines deadlines{};
};

/// The kept connection to one address. Once it has ended it stays so: the shard makes another.
/// Lifetime/threads: the shard's thread
class ClientConnection final : public std::enable_shared_from_this<ClientConnection> {
 public:
  using Endpoint = boost::asio::ip::tcp::endpoint;
  using Clock = std::chrono::steady_clock;

  ClientConnection(ClientShared& shared, Endpoint endpoint);
  ~ClientConnection();

  /// Returns when it is connected; starts to, where nobody has.
  /// @return unavailable: another address may be tried
  core::awaitable<core::Result<void>> ready();
  /// @param going_away set where the peer answered that it is stopping
  core::awaitable<core::Result<core::Reply>> call(const core::Request& request, const core::CallContext& context, bool& going_away);

  /// No more calls: it closes when those that run have ended.
  void leave();
  /// Closes; calls that wait fail.
  void end();
  void tick(Clock::time_point now);
  const Endpoint& endpoint() const { return endpoint_; }
  bool usable() const { return state_ != State::ended && !leaving_; }
  bool ended() const { return state_ == State::ended; }
  bool taken_for_dead() const { return dead_; }

 private:
  enum class State { fresh, connecting, up, ended };
  struct Objects;

  boost::asio::awaitable<void> run();
  boost::asio::awaitable<void> serve(boost::asio::ip::tcp::socket socket);
  void told(const core::Result<void>& result);
  capnp::RemotePromise<schema::Answer> send(const core::Request& request, const core::CallContext& context, const std::shared_ptr<EventQueue>& events);
  core::Error broken(const kj::Exception& exception) const;
  void leave_if_unused();

  ClientShared& shared_;
  const Endpoint endpoint_;
  State state_ = State::fresh;
  std::optional<Wire> wire_;
  std::optional<capnp::RpcSystem<two::VatId>> rpc_;
  std::unique_ptr<Objects> objects_;
  std::vector<std::shared_ptr<runtime::Completion<void>>> waiting_;
  std::vector<std::weak_ptr<EventQueue>> tails_;
  std::size_t running_ = 0;
  Clock::time_point used_at_;
  bool leaving_ = false, dead_ = false;
};

}  // namespace flexi::transports::rpc
