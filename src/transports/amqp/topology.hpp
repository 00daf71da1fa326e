// SPDX-License-Identifier: Apache-2.0
// Private to this folder's sources.
#pragma once

#include <map>

#include "transports/amqp/connection.hpp"

namespace flexi::transports::amqp {

/// One queue that is worked on, with what belongs to it.
struct WorkQueue {
  std::string action;             ///< empty: flexi.requests, whose messages name their action themselves
  std::string queue;              ///< "flexi.log"
  std::string key;                ///< publishers' routing key in the topic exchange; empty: reached by the queue's name only
  std::string dead;               ///< "flexi.log.dlq"; empty: nothing of it is kept (log-ins)
  std::vector<std::string> retry; ///< its retry queues, shortest delay first
  bool transient = false;         ///< its messages are
};

/// What stands in the way of an exchange or queue, by its name.
using Problems = std::map<std::string, std::string, std::less<>>;

/// Every exchange and queue that this system uses, made of the options.
class Topology {
 public:
  explicit Topology(const AmqpOptions& options);

  const std::string& logs_exchange() const { return logs_exchange_; }
  const std::string& dead_exchange() const { return dead_exchange_; }
  const std::vector<WorkQueue>& works() const { return works_; }
  const WorkQueue* of_action(std::string_view action) const;
  const WorkQueue& requests() const { return works_.back(); }
  /// Whether a name is one of ours that an answer must never go to.
  bool is_ours(std::string_view queue) const;
  /// What keeps messages from this queue, if anything: its own problem, or the exchange's.
  const std::string* problem_of(const WorkQueue& work, const Problems& problems) const;

  /// Declares everything, whatever part of it is there already.
  /// @param channel used and left open
  /// @param fatal what RabbitMQ closed a connection for; it is left out, and what costs this connection is added
  /// @return what exists with other arguments, or may not be declared, each with RabbitMQ's words and how to migrate
  core::awaitable<core::Result<Problems>> declare(Connection& connection, std::uint16_t channel, Problems& fatal) const;
  /// Deletes everything, with its messages: for tests and benchmarks.
  core::awaitable<core::Result<void>> remove(Connection& connection, std::uint16_t channel) const;

 private:
  using Argument = std::pair<std::string, HeaderValue>;
  struct Step {
    enum class Kind { exchange, queue, bind } kind;
    std::string name;      ///< exchange or queue
    std::string exchange;  ///< of a bind: where to; of an exchange: its type
    std::string key;
    std::vector<Argument> arguments;
  };
  void plan(const AmqpOptions& options);
  void plan_quorum(std::string name, std::vector<Argument> arguments);
  void send(Connection& connection, std::uint16_t channel, const Step& step, Connection::OnReply on_reply) const;
  static bool is_refused_by(const Step& step, const Connection::Closed& closed);
  std::string explain(const Step& step, const MethodReply& refusal) const;

  std::string prefix_, logs_exchange_, dead_exchange_, vhost_;
  std::vector<WorkQueue> works_;
  std::vector<Step> steps_;
};

}  // namespace flexi::transports::amqp
