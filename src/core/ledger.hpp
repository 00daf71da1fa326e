// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/handler.hpp"

namespace flexi::core {

/// What became of one action's messages that went one way. Whoever sees a thing happen counts it, durably and where it
/// happens: a publisher what it accepted, a queue what it holds, a store what it stored. So a line of one source holds
/// its own numbers only, and the sum over all sources adds up unless something was lost or done twice.
struct LedgerLine {
  std::string action;
  std::string way;  ///< "http", "amqp", …
  std::int64_t accepted = 0;       ///< ids that a 202 was given for; an id accepted again after it was stored is taken off again
  std::int64_t stored = 0;
  std::int64_t dead_lettered = 0;  ///< as of now: a replay moves one to in_flight
  std::int64_t discarded = 0;      ///< by an operator, or failed and its caller was told so
  std::int64_t expired = 0;        ///< its caller's deadline passed first
  std::int64_t in_flight = 0;      ///< queued, spooled, or being handled
  std::int64_t duplicates = 0;     ///< beside the account: the same id again
  std::int64_t redelivered = 0;    ///< beside the account: attempts after the first

  /// Above 0: lost. Below 0: counted twice, which messages on their way between two counts are for a moment.
  std::int64_t unaccounted() const { return accepted - stored - dead_lettered - discarded - expired - in_flight; }
  bool empty() const { return !accepted && !stored && !dead_lettered && !discarded && !expired && !in_flight && !duplicates && !redelivered; }
  LedgerLine& operator+=(const LedgerLine& other) {
    accepted += other.accepted, stored += other.stored, dead_lettered += other.dead_lettered, discarded += other.discarded;
    expired += other.expired, in_flight += other.in_flight, duplicates += other.duplicates, redelivered += other.redelivered;
    return *this;
  }
};

/// One set of numbers, under a name that no other has: who is asked by two ways is counted once.
struct Account {
  std::string book;
  std::vector<LedgerLine> lines;
};

/// A message that ended without a store's word, though an attempt may have reached it: its caller was told that it failed,
/// or its time was over. Where the store has it, it is stored, and nothing else.
struct Doubt {
  MessageId id;
  std::string action;
  std::string way{};         ///< by which it was accepted, and at which time: the id alone may stand for another acceptance
  Timestamp accepted_at{};
  Timestamp at{};            ///< of its end
};

/// Counts messages: a publisher, a queue, a spool, a store, or another process that has some of these.
class LedgerSource {
 public:
  virtual ~LedgerSource() = default;
  /// Who this is, for people: "queue", "logger".
  virtual std::string_view source_name() const = 0;
  /// @return unavailable where it can't be asked now
  virtual awaitable<Result<std::vector<Account>>> accounts(CallContext context) = 0;
  /// Some of the ends that this source is in doubt about, oldest first.
  virtual awaitable<Result<std::vector<Doubt>>> doubts(unsigned, CallContext) { co_return std::vector<Doubt>(); }
  /// The store has been asked: counts the end no more where the message is stored, and is in doubt no more.
  virtual awaitable<Result<void>> resolve(Doubt, bool /*stored*/, CallContext) { co_return core::ok(); }
};

}  // namespace flexi::core
