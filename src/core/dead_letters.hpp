// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <set>
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
  std::string missing;  ///< why there may be more than this and what follows: a place that can't be asked; empty: there is none
};

/// Which letter: ids are scoped by action, so letters of several actions may share one.
struct DeadLetterKey {
  DeadLetterKey(MessageId id_, std::string action_ = {}) : id(std::move(id_)), action(std::move(action_)) {}  // implicit: nearly always the id says it
  MessageId id;
  std::string action;  ///< empty: whichever has the id
};

/// What is said where letters of several actions have the id, and none was named.
inline Error ambiguous_dead_letter(const std::set<std::string>& actions) {
  std::string list;
  for (auto& action : actions) list.append(list.empty() ? "" : ", ").append(action);
  return conflict("dead letters of several actions have this id: say which with action, one of " + list);
}

/// Which letters are replayed, or discarded, together.
struct DeadLetterSweep {
  enum class Fate { replay, discard } fate = Fate::replay;
  std::string action{};  ///< empty: of every action
  Timestamp before{};    ///< dead since then or longer: what dies again after its replay is left alone
};

struct DeadLettersSwept {
  std::uint64_t letters = 0;  ///< that were replayed, or discarded
  bool more = false;          ///< its time was over first: sweep again
};

/// What a queue gave up on, kept until somebody replays or discards it.
class DeadLetters {
 public:
  virtual ~DeadLetters() = default;
  virtual awaitable<Result<DeadLetterPage>> list(unsigned limit, std::string cursor, CallContext context) = 0;
  /// @return not_found; conflict where letters of several actions have the id and `key` names none of them (likewise below)
  virtual awaitable<Result<DeadLetter>> get(DeadLetterKey key, CallContext context) = 0;
  /// Back into the queue with a fresh count of attempts.
  virtual awaitable<Result<void>> replay(DeadLetterKey key, CallContext context) = 0;
  virtual awaitable<Result<void>> discard(DeadLetterKey key, CallContext context) = 0;
  /// As many as the deadline leaves time for; what can't be replayed stays.
  virtual awaitable<Result<DeadLettersSwept>> sweep(DeadLetterSweep what, CallContext context) = 0;
};

}  // namespace flexi::core
