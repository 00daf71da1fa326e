// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "runtime/metrics.hpp"

namespace flexi::transports::amqp {

/// What can become of a message, and of a connection.
enum class EventKind {
  published,      ///< written to RabbitMQ
  confirmed,      ///< RabbitMQ has it durably
  returned,       ///< no queue took it
  nacked,         ///< RabbitMQ refused it
  consumed,       ///< taken from its queue
  redelivered,    ///< taken again
  acked,          ///< finished and out of its queue, however it ended
  stored,         ///< its service has it
  duplicate,      ///< its service had it already
  retried,        ///< failed for now, in a retry queue
  dead_lettered,  ///< failed for good, in the dead-letter queue with its reason
  discarded,      ///< failed while its caller waited and was told so; or an operator discarded it
  expired,        ///< its caller's deadline passed before it was handled
  replayed,       ///< an operator put it back into its queue
  reconnected,    ///< a connection was made again
};
inline constexpr EventKind kAllEventKinds[] = {
    EventKind::published, EventKind::confirmed, EventKind::returned,     EventKind::nacked,    EventKind::consumed,
    EventKind::redelivered, EventKind::acked,   EventKind::stored,       EventKind::duplicate, EventKind::retried,
    EventKind::dead_lettered, EventKind::discarded, EventKind::expired,  EventKind::replayed,  EventKind::reconnected};
std::string_view to_string(EventKind kind);

/// Holds views: lives no longer than the call that is told.
struct Event {
  EventKind kind;
  std::string_view action{};  ///< empty: none of a message
  std::string_view id{};
  std::string_view reason{};  ///< of what failed: kind and words
};

/// Told of everything, in one place: a ledger counts it, receipts note it.
class Events {
 public:
  virtual ~Events() = default;
  /// Any shard's thread; must not wait.
  virtual void on(const Event& event) noexcept = 0;
};

/// Counts each event as flexi_amqp_<kind>_total, then tells the observer.
/// Lifetime/threads: any thread
class Teller {
 public:
  Teller(runtime::Metrics& metrics, Events* events);
  void tell(const Event& event);

 private:
  runtime::Metrics::Counter counters_[std::size(kAllEventKinds)];
  Events* events_;
};

}  // namespace flexi::transports::amqp
