// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/dead_letters.hpp"
#include "core/transport.hpp"
#include "runtime/log_sink.hpp"
#include "runtime/metrics.hpp"
#include "runtime/readiness.hpp"
#include "runtime/shards.hpp"
#include "transports/amqp/events.hpp"
#include "transports/amqp/options.hpp"

namespace flexi::transports::amqp {

/// What belongs to the process.
/// Lifetime: all outlive the transport
struct Process {
  runtime::Metrics& metrics;
  runtime::Readiness& readiness;  ///< part "rabbitmq", once a server or client is made
  runtime::LogSink& log;
  runtime::Shards& shards;
  std::string admin_token{};      ///< for administrative actions by flexi.requests; empty: refused there
  Events* events = nullptr;       ///< told of everything that becomes of messages
};

/// How full a queue is.
struct QueueDepth {
  enum class Role { work, retry, dead };
  std::string queue;
  std::string action;           ///< empty: flexi.requests
  Role role = Role::work;
  std::uint32_t messages = 0;   ///< that wait; not those in hand
  std::uint32_t consumers = 0;
  bool exists = false;
};

/// RabbitMQ as transport: publishers (connect), the listener (serve), the broker's ingress (serve_requests), and the dead
/// letters of its queues. Everything starts while RabbitMQ is absent, says so on readiness, and recovers alone.
/// Lifetime/threads: any thread; outlives its servers and clients; stop() before it is destroyed
class AmqpTransport final : public core::Transport, public core::DeadLetters {
 public:
  AmqpTransport(AmqpOptions options, Process process);
  ~AmqpTransport() override;

  core::Via via() const override { return core::Via::amqp; }
  /// The listener: consumes the queues of all actions, and gives each message to `handler` with ack = stored.
  core::Result<std::unique_ptr<core::Server>> serve(core::Handler& handler) override;
  /// The broker's ingress: consumes flexi.requests, whose bodies are those of POST /handle, and answers to reply_to.
  core::Result<std::unique_ptr<core::Server>> serve_requests(core::Handler& broker);
  /// A publisher. Where the endpoint names no user, that of options.url signs in.
  core::Result<std::unique_ptr<core::Client>> connect(std::string endpoint) override;
  /// A publisher to options.url.
  core::Result<std::unique_ptr<core::Client>> connect();

  core::awaitable<core::Result<core::DeadLetterPage>> list(unsigned limit, std::string cursor, core::CallContext context) override;
  core::awaitable<core::Result<core::DeadLetter>> get(core::DeadLetterKey key, core::CallContext context) override;
  /// Confirmed in its queue before it leaves the dead letters.
  core::awaitable<core::Result<void>> replay(core::DeadLetterKey key, core::CallContext context) override;
  core::awaitable<core::Result<void>> discard(core::DeadLetterKey key, core::CallContext context) override;
  core::awaitable<core::Result<core::DeadLettersSwept>> sweep(core::DeadLetterSweep what, core::CallContext context) override;

  /// Every queue that exists, asked for now.
  core::awaitable<core::Result<std::vector<QueueDepth>>> depths(core::CallContext context);
  /// RabbitMQ's, as it said when its queues were last asked for; empty: they were not.
  std::string server_version() const;
  /// Deletes every exchange and queue of this topology, with its messages: for tests and benchmarks.
  core::awaitable<core::Result<void>> remove_topology(core::CallContext context);
  /// Whether a server of this transport consumes at the moment.
  bool consuming() const;
  /// Its servers and clients are stopped.
  core::awaitable<void> stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// @return invalid_argument with every problem of the options
core::Result<std::unique_ptr<AmqpTransport>> make_transport(AmqpOptions options, Process process);

}  // namespace flexi::transports::amqp
