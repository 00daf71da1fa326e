// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/cancellation_signal.hpp>
#include <functional>
#include <list>
#include <memory>
#include <optional>

#include "transports/rpc/codec.hpp"
#include "transports/rpc/server_shard.hpp"
#include "transports/rpc/wire.hpp"

namespace flexi::transports::rpc {

/// One client's connection: its exported objects and the calls that run for it.
/// Lifetime/threads: the shard's thread; its objects, calls and tails share it, so it ends with the last of them
class Session final : public std::enable_shared_from_this<Session> {
 public:
  using Clock = std::chrono::steady_clock;
  /// Where a call's answer is put, made when it is known how long that is.
  using MakeAnswer = std::function<schema::Answer::Builder(capnp::MessageSize)>;

  Session(ServerShard& shard, boost::asio::ip::tcp::socket socket, bool same_machine, std::string client);
  ~Session();

  boost::asio::awaitable<void> run();
  /// Called every tick: enforces the time-outs, the deadlines and the stop.
  void tick(Clock::time_point now);

  /// Runs the plan's handler; the promise is done when the answer stands in what `make` has made. Dropping the promise
  /// cancels the handler.
  kj::Promise<void> answer(core::Result<Plan> plan, MakeAnswer make, kj::Maybe<schema::EventSink::Client> events = nullptr);

  const Registry& registry() const { return shard_.shared().registry; }
  const CallRules& rules() const { return rules_; }

 private:
  struct Call;
  class Waiter;
  struct Tail;
  class SubscriptionObject;
  enum class Cancelled { no, deadline, gone, stopping };

  std::optional<core::Error> refusal() const;
  static boost::asio::awaitable<void> run_call(std::shared_ptr<Session> self, std::shared_ptr<Call> call, boost::asio::cancellation_signal* signal);
  static boost::asio::awaitable<void> run_tail(std::shared_ptr<Session> self, std::shared_ptr<Tail> tail, boost::asio::cancellation_signal* signal);
  void finish(Call& call, core::Result<core::Reply> result);
  void start_tail(Call& call, std::unique_ptr<core::EventStream> events, schema::Reply::Builder reply);
  void log_failure(const Call& call, const core::Error& error) const;
  void cancel(Call& call, Cancelled why);
  static void cancel_later(const std::shared_ptr<Session>& self, const std::shared_ptr<Call>& call);
  bool quiet() const { return calls_.empty() && tails_.empty(); }

  ServerShard& shard_;
  const RpcServerOptions& options_;
  const std::string client_;  ///< its address
  CallRules rules_;
  Wire wire_;
  std::optional<capnp::RpcSystem<two::VatId>> rpc_;
  std::list<std::shared_ptr<Call>> calls_;
  std::list<std::shared_ptr<Tail>> tails_;
  std::uint64_t seen_messages_ = 0;
  Clock::time_point opened_at_, heard_at_, message_since_;
};

/// The bootstrap object of a session.
schema::ExportTable::Client make_export_table(std::shared_ptr<Session> session);

}  // namespace flexi::transports::rpc
