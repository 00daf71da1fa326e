// SPDX-License-Identifier: Apache-2.0
// Private to this folder's sources.
#pragma once

#include <mutex>
#include <random>

#include "core/handler.hpp"
#include "runtime/readiness.hpp"
#include "transports/amqp/events.hpp"
#include "transports/amqp/topology.hpp"

namespace flexi::transports::amqp {

/// Whether RabbitMQ can be used, over all connections of one transport: readiness, part "rabbitmq", and the log.
/// Lifetime/threads: any thread
class Health {
 public:
  Health(runtime::Readiness& readiness, runtime::LogSink& log) : readiness_(readiness), log_(log) {}
  /// @param why empty: well; else what a stranger may read. `detail` goes to the log.
  void report(const std::string& part, std::string why, const std::string& detail = {});
  /// The part is no more.
  void forget(const std::string& part);

 private:
  void tell();
  runtime::Readiness& readiness_;
  runtime::LogSink& log_;
  std::mutex mutex_;
  std::map<std::string, std::string> parts_;
};

/// What every part of one transport shares.
/// Lifetime: outlives them all
struct Shared {
  const AmqpOptions options;
  const Endpoint endpoint;
  const Topology topology;
  runtime::LogSink& log;
  Teller& teller;
  Health& health;
};

/// Who works over a connection that is made again and again. Told on the session's executor.
class SessionUser {
 public:
  virtual ~SessionUser() = default;
  /// A new connection, with everything declared that could be. Sets up its channels.
  virtual core::awaitable<core::Result<void>> on_connected(Connection& connection, const Problems& problems) = 0;
  /// It works now.
  virtual void on_up() = 0;
  /// The connection is over, or could not be made. It is gone when this returns.
  virtual void on_down(const core::Error& why, bool was_up) = 0;
  /// What stood in the way of some queue has changed.
  virtual core::awaitable<void> on_problems(const Problems&) { co_return; }
  /// What it met itself: told with the others, and looked at again (on_problems) as often.
  virtual Problems own_problems() const { return {}; }
};

/// Keeps one connection to RabbitMQ: connects, declares, and connects again with growing, jittered pauses.
/// Lifetime/threads: one executor's thread; stop() before it is destroyed
class Session {
 public:
  Session(boost::asio::any_io_executor executor, Shared& shared, std::string name, SessionUser& user);

  void start();
  /// Says good-bye and ends. The user has finished with it.
  core::awaitable<void> stop();
  /// Something that was declared seems to be gone. Declares all again, at most once a second.
  void declare_again();
  const boost::asio::any_io_executor& executor() const { return scope_.executor(); }

  static constexpr std::uint16_t kTopologyChannel = 1;  ///< the user's channels have higher numbers

 private:
  core::awaitable<void> run();
  core::awaitable<core::Result<void>> set_up(Connection& connection);
  core::awaitable<void> keep(Connection& connection);
  core::awaitable<void> try_fatal();
  core::awaitable<void> pause(unsigned failures);
  void report();

  Shared& shared_;
  const std::string name_;
  SessionUser& user_;
  runtime::TaskScope scope_;
  boost::asio::steady_timer timer_;
  Connection* current_ = nullptr;
  Connection* probe_ = nullptr;
  Problems problems_;
  Problems fatal_;  ///< those of them that cost a connection: left out of this one, and tried over others
  core::CallContext::Clock::time_point declared_at_{};
  bool stopping_ = false, again_ = false;
  std::minstd_rand random_{std::random_device{}()};
};

}  // namespace flexi::transports::amqp
