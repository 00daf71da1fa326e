// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>

#include "core/handler.hpp"
#include "core/log_store.hpp"

namespace flexi::services::logger {

struct LogHubLimits {
  std::size_t subscribers = 100;
  std::size_t events = 1000;                   ///< that wait for one subscriber
  std::size_t bytes = std::size_t{4} << 20;    ///< of events that wait for one subscriber
};

struct TailFilter {
  std::string name{};  ///< exactly this name; empty: all
  std::string q{};     ///< name or data holds it, without case for ASCII letters; empty: all
};

/// A log entry as the contract's readers see it.
std::string to_json(const core::LogRecord& record);

/// Hands new entries to whoever tails them. Without subscribers publishing costs one atomic read.
/// Lifetime/threads: any thread; its streams may outlive it, and then end
class LogHub {
 public:
  explicit LogHub(LogHubLimits limits);
  ~LogHub();  ///< closes

  bool has_subscribers() const;
  void publish(const core::LogRecord& record);
  /// @return overloaded where there are too many; unavailable once closed
  core::Result<std::unique_ptr<core::EventStream>> subscribe(TailFilter filter);
  /// Ends every stream after what it still holds, and refuses new ones.
  void close();

  struct State;

 private:
  std::shared_ptr<State> state_;
};

}  // namespace flexi::services::logger
