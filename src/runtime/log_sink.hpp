// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <variant>

namespace flexi::runtime {

enum class LogLevel { debug, info, warning, error };
enum class LogFormat { automatic, json, human };  ///< automatic: human on a terminal, else JSON lines

/// One key and its value. Holds views: lives no longer than the call that takes it.
struct LogField {
  std::string_view key;
  std::variant<std::string_view, std::int64_t, double, bool> value;

  LogField(std::string_view k, std::string_view v) : key(k), value(v) {}
  LogField(std::string_view k, const char* v) : key(k), value(std::string_view(v)) {}
  LogField(std::string_view k, const std::string& v) : key(k), value(std::string_view(v)) {}
  LogField(std::string_view k, bool v) : key(k), value(v) {}
  LogField(std::string_view k, double v) : key(k), value(v) {}
  LogField(std::string_view k, std::integral auto v) : key(k), value(static_cast<std::int64_t>(v)) {}
};

/// Structured log of the process: one event a line, on standard error.
/// Lifetime/threads: any thread; outlives everything that logs
class LogSink {
 public:
  using Fields = std::initializer_list<LogField>;

  LogSink(LogLevel least, LogFormat format);
  ~LogSink();
  /// Swallows everything: for tests that don't look at the log.
  static LogSink& none();

  void write(LogLevel level, std::string_view event, Fields fields);
  void debug(std::string_view event, Fields fields = {}) { write(LogLevel::debug, event, fields); }
  void info(std::string_view event, Fields fields = {}) { write(LogLevel::info, event, fields); }
  void warning(std::string_view event, Fields fields = {}) { write(LogLevel::warning, event, fields); }
  void error(std::string_view event, Fields fields = {}) { write(LogLevel::error, event, fields); }

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace flexi::runtime
