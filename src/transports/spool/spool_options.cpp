// SPDX-License-Identifier: Apache-2.0
#include "transports/spool/spool_options.hpp"

namespace flexi::transports::spool {

void SpoolOptions::describe(runtime::OptionVisitor& v) {
  v.field("directory", directory, "Folder on a persistent volume where messages wait while RabbitMQ is down; empty: they are refused with 503");
  v.field("max_messages", max_messages, "Messages the spool holds, dead letters included; more are refused with 503");
  v.field("max_bytes", max_bytes, "Bytes of payload it holds, likewise");
  v.field("patience", patience, "How long an accepted message waits for RabbitMQ's confirm before it goes into the spool");
  v.field("batch", batch, "Messages of one action under way to RabbitMQ at once while the spool drains; 1 keeps the order even where RabbitMQ refuses one");
  v.field("attempt_timeout", attempt_timeout, "How long one of them may take");
  v.field("retry_delay", retry_delay, "Pause before RabbitMQ is tried again; doubles from try to try");
  v.field("max_retry_delay", max_retry_delay, "Longest pause between tries");
  v.field("max_attempts", max_attempts, "Failures other than outages after which a spooled message becomes a dead letter");
  v.field("adopt_interval", adopt_interval, "How often to look for spools of processes that died");
}

runtime::Problems SpoolOptions::validate() const {
  runtime::Problems problems;
  auto range = [&](const char* path, auto value, auto least, auto most) {
    if (value < least || value > most) problems.push_back({path, "must be " + std::to_string(least) + " to " + std::to_string(most)});
  };
  constexpr std::int64_t kBillion = 1'000'000'000, kDayMs = 86'400'000;
  range("max_messages", max_messages, std::int64_t{1}, kBillion);
  range("max_bytes", max_bytes, std::int64_t{1'048'576}, kBillion * 1000);
  range("patience", patience.count(), std::int64_t{1}, kDayMs);
  range("batch", batch, std::int64_t{1}, std::int64_t{10'000});
  range("attempt_timeout", attempt_timeout.count(), std::int64_t{1}, kDayMs);
  range("retry_delay", retry_delay.count(), std::int64_t{1}, kDayMs);
  range("max_retry_delay", max_retry_delay.count(), std::int64_t{1}, kDayMs);
  range("max_attempts", max_attempts, std::int64_t{1}, std::int64_t{1'000'000});
  range("adopt_interval", adopt_interval.count(), std::int64_t{1}, kDayMs);
  return problems;
}

}  // namespace flexi::transports::spool
