// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/handler.hpp"

namespace flexi::core {

/// Where one message is, as far as one source knows.
struct Receipt {
  enum class State {
    stored,         ///< its destination has it
    queued,         ///< durable in a queue: waiting, being handled, or waiting for its next attempt
    spooled,        ///< durable at the publisher, because its queue is down
    dead_lettered,  ///< given up on; an operator can replay or discard it
    expired,        ///< its caller's deadline passed first
    discarded,      ///< by an operator, or failed and its caller was told so
    unknown,        ///< seen, but what became of it is not kept here
  };

  MessageId id;
  std::string action;
  State state = State::unknown;
  std::string where{};       ///< "queue", "listener", "spool", "logger", …
  std::string reason{};      ///< of a dead letter, or of the last failed attempt where that is kept; may be shown to the caller
  unsigned attempts = 0;     ///< that failed
  Timestamp accepted_at{};
  Timestamp at{};            ///< when it came to this state, or when its next attempt is due; none: not kept
  std::optional<unsigned> duplicates{};  ///< how often it came again; none: not counted there
  std::string way{};         ///< by which it came, e.g. "http"; empty: not kept there
  std::string trace_id{};    ///< 32 hex digits; empty: not kept there
  std::string hops{};        ///< CallContext::hops; empty: not kept there
};

constexpr std::string_view to_string(Receipt::State state) {
  switch (state) {
    case Receipt::State::stored: return "stored";
    case Receipt::State::queued: return "queued";
    case Receipt::State::spooled: return "spooled";
    case Receipt::State::dead_lettered: return "dead_lettered";
    case Receipt::State::expired: return "expired";
    case Receipt::State::discarded: return "discarded";
    case Receipt::State::unknown: return "unknown";
  }
  return "unknown";
}

/// Knows what became of messages: a queue, a spool, a store.
class ReceiptSource {
 public:
  virtual ~ReceiptSource() = default;
  /// @return none where this source has never heard of the id, or has forgotten it
  virtual awaitable<Result<std::optional<Receipt>>> find_receipt(MessageId id, CallContext context) = 0;
};

}  // namespace flexi::core
