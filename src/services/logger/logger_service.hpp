// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/log_store.hpp"
#include "runtime/options.hpp"
#include "services/logger/log_hub.hpp"

namespace flexi::services::logger {

struct LoggerOptions {
  std::int64_t tail_readers = 100;                ///< that may follow the log at once; one more is `overloaded`
  std::int64_t tail_buffer_events = 1000;         ///< that wait for a slow reader before it loses the oldest
  std::int64_t tail_buffer_bytes = 4 * 1024 * 1024;  ///< likewise

  void describe(runtime::OptionVisitor& visitor);
  runtime::Problems validate() const;
};

/// What an entry must keep to be stored.
/// @return invalid_argument that names the field
core::Result<void> check_log(const core::Payload& payload);

/// Answers "log", "logs.list", "logs.get", "logs.known" and "logs.tail".
/// Lifetime/threads: any thread; `store` outlives it
class LoggerService final : public core::Handler {
 public:
  LoggerService(core::LogStore& store, LoggerOptions options);

  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override;
  /// Ends the streams of logs.tail, which would keep their connections open for ever; entries are stored as before.
  void stop_tails() { hub_.close(); }

 private:
  core::awaitable<core::Result<core::Reply>> store_entry(core::Request request, core::CallContext context);
  core::awaitable<core::Result<core::Reply>> read(core::Request request, core::CallContext context);
  core::awaitable<core::Result<core::Reply>> list(core::Json params, core::CallContext context);
  core::awaitable<core::Result<core::Reply>> get(core::Json params, core::CallContext context);
  core::awaitable<core::Result<core::Reply>> known(core::Json params, core::CallContext context);
  core::Result<core::Reply> tail(const core::Json& params);

  core::LogStore& store_;
  LogHub hub_;
};

}  // namespace flexi::services::logger
