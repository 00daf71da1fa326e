// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/handler.hpp"
#include "core/known_ids.hpp"

namespace flexi::core {

struct LogRecord {
  MessageId id;
  std::string name;
  std::string data;
  Timestamp created_at{};  ///< when the broker accepted the message
  Timestamp updated_at{};
  TraceId trace_id{};         ///< all zero: none
  std::string hops{};         ///< CallContext::hops
  Via via = Via::automatic;   ///< the way it came by; what came in process without the broker has none
  bool published = false;     ///< by a broker, whose publisher counts its acceptance
  bool moved = false;         ///< brought here from another store, whose ledger has it: this one's counts nothing
};

struct LogQuery {
  std::optional<std::string> name{};  ///< exactly this name
  std::string q{};                    ///< words that name or data must hold; empty: all
  std::optional<Timestamp> since{};   ///< created_at >= since
  std::optional<Timestamp> until{};   ///< created_at < until
  std::optional<TraceId> trace{};     ///< of this trace
  unsigned limit = 50;                ///< 1 to 500
  std::string cursor{};               ///< `next` of the page before; empty: the first page
};

struct LogPage {
  std::vector<LogRecord> records;  ///< newest created_at first
  std::string next;                ///< empty on the last page
};

/// One entry with what is known beside it.
struct FoundLog {
  LogRecord record;
  std::optional<unsigned> duplicates{};  ///< how often it came again; none: not counted here
};

enum class Appended { stored, duplicate };

/// Where log entries live. Append is idempotent by id: the same id and payload again is `duplicate`, the same id with
/// another payload is `conflict`.
/// Lifetime/threads: any thread; outlives its calls
class LogStore {
 public:
  virtual ~LogStore() = default;
  /// @return when the record is durable; unavailable where the store can't take it (full disk)
  virtual awaitable<Result<Appended>> append(LogRecord record, CallContext context) = 0;
  /// @return invalid_argument for a cursor that is not one
  virtual awaitable<Result<LogPage>> list(LogQuery query, CallContext context) = 0;
  /// @return not_found
  virtual awaitable<Result<FoundLog>> find(MessageId id, CallContext context) = 0;
  /// Which of at most KnownIds::kMost ids it has, also those that retention keeps from being listed already.
  virtual awaitable<Result<KnownIds>> known(std::vector<MessageId> ids, CallContext context) = 0;
  /// About how many entries can be listed, to show how far a long reading is; none: that would take as long.
  virtual awaitable<Result<std::optional<std::uint64_t>>> count(CallContext) { co_return std::optional<std::uint64_t>(); }
};

}  // namespace flexi::core
