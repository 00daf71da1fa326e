// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/handler.hpp"

namespace flexi::core {

/// A message that a foreign queue has confirmed, and of which nobody has been seen to end it yet.
struct Published {
  enum class State {
    under_way,
    dead,  ///< in the dead letters
    gone,  ///< was in the dead letters and is there no longer: replayed or discarded by somebody else
  };

  std::string action;
  MessageId id;
  Timestamp accepted_at{};
  Timestamp noted_at{};  ///< when it came to this state
  State state = State::under_way;
  std::int64_t seq = 0;  ///< order; given by the store
};

struct PublishedCount {
  std::string action;
  std::int64_t under_way = 0, dead = 0, gone = 0;
  std::int64_t old = 0;  ///< of those under way: noted before the time that was asked for
};

struct PublishedQuery {
  std::optional<Published::State> state{};  ///< none: any
  std::int64_t after = 0;                   ///< seq
  Timestamp before = Timestamp::max();      ///< noted_at
  unsigned limit = 1000;
};

enum class Noted { added, known, full };

/// Durable notes of what a publisher handed to a queue that is not ours. Bounded: `full` where one more would be too many.
/// Lifetime/threads: any thread; outlives its calls
class PublishedStore {
 public:
  virtual ~PublishedStore() = default;
  /// @return when durable; `known` where there is a note of this action and id already, which stays as it is
  virtual awaitable<Result<Noted>> note(Published message, CallContext context) = 0;
  /// Of all actions, by seq.
  virtual awaitable<Result<std::vector<Published>>> list(PublishedQuery query, CallContext context) = 0;
  virtual awaitable<Result<std::vector<Published>>> find(MessageId id, CallContext context) = 0;
  virtual awaitable<Result<void>> forget(std::string action, std::vector<MessageId> ids, CallContext context) = 0;
  /// Those of them that are noted and not in this state yet come to it, at `now`.
  virtual awaitable<Result<void>> mark(std::string action, std::vector<MessageId> ids, Published::State state, Timestamp now,
                                       CallContext context) = 0;
  /// Forgets them; those that were noted are counted as accepted and discarded, in the same transaction.
  virtual awaitable<Result<void>> discard(std::string action, std::vector<MessageId> ids, CallContext context) = 0;
  virtual awaitable<Result<std::vector<PublishedCount>>> count(Timestamp old_before, CallContext context) = 0;
};

}  // namespace flexi::core
