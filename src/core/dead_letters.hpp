// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "core/handler.hpp"

namespace flexi::core {

struct DeadLetter {
  MessageId id;
  std::string action;
  std::string payload;  ///< JSON text; passwords never get here
  std::string reason;   ///< the last error's kind and words
  unsigned attempts = 0;
  Timestamp accepted_at{};
  Timestamp dead_at{};
};

struct DeadLetterPage {
  std::vector<DeadLetter> letters;  ///< newest dead_at first
  std::string next;
};

/// What a queue gave up on, kept until somebody replays or discards it.
class DeadLetters {
 public:
  virtual ~DeadLetters() = default;
  virtual awaitable<Result<DeadLetterPage>> list(unsigned limit, std::string cursor, CallContext context) = 0;
  virtual awaitable<Result<DeadLetter>> get(MessageId id, CallContext context) = 0;
  /// Back into the queue with a fresh count of attempts.
  virtual awaitable<Result<void>> replay(MessageId id, CallContext context) = 0;
  virtual awaitable<Result<void>> discard(MessageId id, CallContext context) = 0;
};

}  // namespace flexi::core
