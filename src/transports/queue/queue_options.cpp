// SPDX-License-Identifier: Apache-2.0
#include "transports/queue/queue_options.hpp"

namespace flexi::transports::queue {

void QueueOptions::describe(runtime::OptionVisitor& v) {
  v.field("max_messages", max_messages, "Messages the embedded queue holds, dead letters included; more are refused with 429");
  v.field("max_bytes", max_bytes, "Bytes of payload it holds, likewise");
  v.field("max_waiting_writes", max_waiting_writes, "Messages that may wait for a commit; more are refused with 429");
  v.field("max_waiting_bytes", max_waiting_bytes, "Bytes of payload that may wait for a commit, likewise");
  v.field("max_waiters", max_waiters, "Callers that may wait for `stored` over the queue; more are refused with 429");
  v.field("max_transient", max_transient, "Log-ins that may wait in memory for the consumer; more are refused with 429");
  v.field("max_wait", max_wait, "How long a caller without a deadline waits for `stored`");
  v.field("prefetch", prefetch, "Messages taken from the queue and not yet finished");
  v.field("concurrency", concurrency, "Messages handled at once; 1 keeps the queue's order strictly");
  v.field("attempt_timeout", attempt_timeout, "What one attempt may take");
  v.field("retry_delay", retry_delay, "Pause before the second attempt");
  v.field("retry_factor", retry_factor, "Growth of the pause from attempt to attempt");
  v.field("max_retry_delay", max_retry_delay, "Longest pause between attempts");
  v.field("retry_jitter", retry_jitter, "Part of itself by which a pause varies at random, 0 to 1");
  v.field("max_attempts", max_attempts, "Failed attempts after which a message is dead-lettered; an outage, in which nobody takes it, does not count");
  v.field("delivery_limit", delivery_limit, "Deaths of the process under a message after which it is dead-lettered");
  v.field("keep_ids", keep_ids, "How long a finished message's id is remembered, so that it is recognised as duplicate");
  v.field("max_kept_ids", max_kept_ids, "How many finished ids are remembered, the newest");
}

runtime::Problems QueueOptions::validate() const {
  runtime::Problems problems;
  auto range = [&](const char* path, auto value, auto least, auto most) {
    if (!(value >= least && value <= most)) problems.push_back({path, "must be " + std::to_string(least) + " to " + std::to_string(most)});
  };
  constexpr std::int64_t kBillion = 1'000'000'000, kDayMs = 86'400'000;
  range("max_messages", max_messages, std::int64_t{1}, kBillion);
  range("max_bytes", max_bytes, std::int64_t{1'048'576}, kBillion * 1000);
  range("max_waiting_writes", max_waiting_writes, std::int64_t{1}, std::int64_t{1'000'000});
  range("max_waiting_bytes", max_waiting_bytes, std::int64_t{1'048'576}, kBillion * 1000);
  range("max_waiters", max_waiters, std::int64_t{0}, std::int64_t{1'000'000});
  range("max_transient", max_transient, std::int64_t{0}, std::int64_t{1'000'000});
  range("max_wait", max_wait.count(), std::int64_t{1}, kDayMs);
  range("prefetch", prefetch, std::int64_t{1}, std::int64_t{10'000});
  range("concurrency", concurrency, std::int64_t{1}, std::int64_t{10'000});
  range("attempt_timeout", attempt_timeout.count(), std::int64_t{1}, kDayMs);
  range("retry_delay", retry_delay.count(), std::int64_t{0}, kDayMs);
  range("retry_factor", retry_factor, 1.0, 100.0);
  range("max_retry_delay", max_retry_delay.count(), std::int64_t{0}, kDayMs);
  range("retry_jitter", retry_jitter, 0.0, 1.0);
  range("max_attempts", max_attempts, std::int64_t{1}, std::int64_t{1'000'000});
  range("delivery_limit", delivery_limit, std::int64_t{2}, std::int64_t{1'000'000});
  range("keep_ids", keep_ids.count(), std::int64_t{0}, kDayMs * 365);
  range("max_kept_ids", max_kept_ids, std::int64_t{0}, kBillion);
  if (concurrency > prefetch) problems.push_back({"concurrency", "must not exceed prefetch"});
  return problems;
}

}  // namespace flexi::transports::queue
