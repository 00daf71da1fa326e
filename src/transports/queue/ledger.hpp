// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace flexi::transports::queue {

/// One action's account. Every accepted message is in exactly one of the five states.
struct LedgerLine {
  std::string action;
  std::int64_t accepted = 0;
  std::int64_t stored = 0;
  std::int64_t dead_lettered = 0;  ///< as of now: a replay moves one to in_flight
  std::int64_t discarded = 0;      ///< by an operator, or failed while its caller waited for `stored` and was told so
  std::int64_t expired = 0;        ///< its caller's deadline passed first; `accepted` ones never do
  std::int64_t in_flight = 0;      ///< queued, being handled, or waiting for its next attempt
  std::int64_t duplicates = 0;     ///< beside the account
  std::int64_t redelivered = 0;    ///< beside the account: attempts after the first
  std::int64_t bytes = 0;          ///< payload held, queued and dead-lettered

  bool adds_up() const { return accepted == stored + dead_lettered + discarded + expired + in_flight; }
  LedgerLine& operator+=(const LedgerLine& other) {
    accepted += other.accepted, stored += other.stored, dead_lettered += other.dead_lettered, discarded += other.discarded;
    expired += other.expired, in_flight += other.in_flight, duplicates += other.duplicates, redelivered += other.redelivered;
    bytes += other.bytes;
    return *this;
  }
};

struct Ledger {
  std::vector<LedgerLine> lines;  ///< by action

  LedgerLine total() const {
    LedgerLine sum;
    for (auto& line : lines) sum += line;
    return sum;
  }
};

}  // namespace flexi::transports::queue
