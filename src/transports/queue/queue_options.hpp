// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>

#include "runtime/options.hpp"

namespace flexi::transports::queue {

struct QueueOptions {
  std::int64_t max_messages = 1'000'000;          ///< queued and dead-lettered together; one more is refused
  std::int64_t max_bytes = 1'073'741'824;         ///< payloads of the same
  std::int64_t max_waiting_writes = 20'000;       ///< publishes that wait for a commit; one more is refused
  std::int64_t max_waiting_bytes = 268'435'456;   ///< payloads of the same
  std::int64_t max_waiters = 10'000;              ///< callers that wait for `stored`
  std::int64_t max_transient = 1'000;             ///< log-ins that wait in memory for the consumer
  std::chrono::milliseconds max_wait{300'000};    ///< how long a caller without a deadline waits for `stored`
  std::int64_t prefetch = 256;                    ///< messages taken from the queue and not yet finished
  std::int64_t concurrency = 64;                  ///< messages handled at once; 1 keeps the queue's order strictly
  std::chrono::milliseconds attempt_timeout{30'000};  ///< what one attempt may take
  std::chrono::milliseconds retry_delay{200};     ///< before the second attempt
  double retry_factor = 2;                        ///< growth of the delay from attempt to attempt
  std::chrono::milliseconds max_retry_delay{60'000};
  double retry_jitter = 0.2;                      ///< the delay varies by this part of itself, up and down
  std::int64_t max_attempts = 10;                 ///< failures after which a message is dead-lettered; those where nobody took it don't count
  std::int64_t delivery_limit = 10;               ///< deaths of the process under a message after which it is dead-lettered
  std::chrono::milliseconds keep_ids{86'400'000};  ///< how long a finished id is remembered as duplicate
  std::int64_t max_kept_ids = 1'000'000;          ///< and how many, newest first

  void describe(runtime::OptionVisitor& v);
  runtime::Problems validate() const;
};

}  // namespace flexi::transports::queue
