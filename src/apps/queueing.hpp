// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/stop_time.hpp"
#include "apps/storage.hpp"
#include "services/broker/broker.hpp"
#include "services/broker/published_messages.hpp"
#include "services/listener/joined_dead_letters.hpp"
#include "transports/amqp/amqp.hpp"
#include "transports/spool/spool.hpp"

namespace flexi::apps {

/// The queue of this process. RabbitMQ where one is configured, with a spool before it where the broker publishes; else
/// the embedded one where the broker is; else none.
/// Lifetime/threads: made and stopped by one thread, used by any
class Queueing {
 public:
  /// @param asked actions whose stores can be asked what they have
  core::Result<void> open(const Settings& settings, const RoleTraits& role, Storage& storage, Process& process, std::string admin_token,
                          std::vector<std::string> asked);

  /// Where the broker puts messages; none: this process publishes nothing.
  std::optional<services::broker::BrokerWay> way();
  /// What the queue gave up on; null: there is no queue.
  core::DeadLetters* dead_letters() { return letters_; }
  /// Where a message is on its way, in the order in which it passes them.
  std::vector<core::ReceiptSource*> receipts();
  transports::amqp::AmqpTransport* rabbitmq() { return rabbitmq_.get(); }
  transports::spool::Spool* spool() const { return spool_.get(); }
  /// What this process has published to RabbitMQ; null: nothing, ever.
  services::broker::PublishedMessages* published() { return published_ ? &*published_ : nullptr; }

  /// Starts to hand what is queued to the listener.
  core::Result<void> consume(core::Handler& listener);
  /// Starts to take requests for the broker from RabbitMQ's flexi.requests.
  core::Result<void> take_requests(core::Handler& broker);

  core::awaitable<void> stop_requests(core::StopOptions grace);
  core::awaitable<void> stop(const StopTime& time);

 private:
  Storage* storage_ = nullptr;
  std::unique_ptr<transports::amqp::AmqpTransport> rabbitmq_;
  std::unique_ptr<core::Client> publisher_;
  std::optional<services::broker::PublishedMessages> published_;
  std::optional<services::broker::PublishedLetters> published_letters_;
  std::unique_ptr<transports::spool::Spool> spool_;
  std::optional<services::listener::JoinedDeadLetters> joined_;
  core::DeadLetters* letters_ = nullptr;
  std::unique_ptr<core::Server> consumer_, requests_;
};

}  // namespace flexi::apps
