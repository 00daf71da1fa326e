// SPDX-License-Identifier: Apache-2.0
#include "transports/amqp/events.hpp"

namespace flexi::transports::amqp {

std::string_view to_string(EventKind kind) {
  switch (kind) {
    case EventKind::published: return "published";
    case EventKind::confirmed: return "confirmed";
    case EventKind::returned: return "returned";
    case EventKind::nacked: return "nacked";
    case EventKind::consumed: return "consumed";
    case EventKind::redelivered: return "redelivered";
    case EventKind::acked: return "acked";
    case EventKind::stored: return "stored";
    case EventKind::duplicate: return "duplicate";
    case EventKind::retried: return "retried";
    case EventKind::dead_lettered: return "dead_lettered";
    case EventKind::discarded: return "discarded";
    case EventKind::expired: return "expired";
    case EventKind::replayed: return "replayed";
    case EventKind::reconnected: return "reconnected";
  }
  return "published";
}

Teller::Teller(runtime::Metrics& metrics, Events* events) : events_(events) {
  for (auto kind : kAllEventKinds)
    counters_[static_cast<std::size_t>(kind)] =
        metrics.counter("flexi_amqp_" + std::string(to_string(kind)) + "_total", "Messages " + std::string(to_string(kind)) + " over RabbitMQ");
}

void Teller::tell(const Event& event) {
  counters_[static_cast<std::size_t>(event.kind)].add();
  if (events_) events_->on(event);
}

}  // namespace flexi::transports::amqp
