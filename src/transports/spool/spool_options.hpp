// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "runtime/options.hpp"

namespace flexi::transports::spool {

struct SpoolOptions {
  std::string directory{};                        ///< on a volume that outlives the process; empty: there is no spool
  std::int64_t max_messages = 1'000'000;          ///< in the spool, dead letters too; one more is refused with 503
  std::int64_t max_bytes = 1'073'741'824;         ///< payloads of the same
  std::chrono::milliseconds patience{3'000};      ///< how long an accepted message waits for the queue's confirm before it is spooled
  std::int64_t batch = 500;                       ///< messages of one action under way to the queue at once while it drains
  std::chrono::milliseconds attempt_timeout{30'000};  ///< how long one of them may take
  std::chrono::milliseconds retry_delay{100};     ///< pause before the queue is tried again; doubles
  std::chrono::milliseconds max_retry_delay{5'000};
  std::int64_t max_attempts = 10;                 ///< failures of the queue's own (not outages) after which a message is a dead letter
  std::chrono::milliseconds adopt_interval{5'000};  ///< how often it looks for spools of processes that died, and for its own volume

  void describe(runtime::OptionVisitor& v);
  runtime::Problems validate() const;
};

}  // namespace flexi::transports::spool
