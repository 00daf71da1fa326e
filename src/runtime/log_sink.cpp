// SPDX-License-Identifier: Apache-2.0
#include "runtime/log_sink.hpp"

#include <spdlog/logger.h>
#include <spdlog/sinks/null_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <unistd.h>

#include <chrono>

#include "core/timestamp.hpp"
#include "runtime/json.hpp"

namespace flexi::runtime {

struct LogSink::Impl {
  std::shared_ptr<spdlog::logger> logger;
  bool json = false;
};

namespace {

/// A field that has nothing to say is left out.
bool is_empty(const LogField& field) {
  auto* text = std::get_if<std::string_view>(&field.value);
  return text && text->empty();
}

spdlog::level::level_enum spd_level(LogLevel level) {
  switch (level) {
    case LogLevel::debug: return spdlog::level::debug;
    case LogLevel::info: return spdlog::level::info;
    case LogLevel::warning: return spdlog::level::warn;
    case LogLevel::error: return spdlog::level::err;
  }
  return spdlog::level::info;
}

const char* level_name(LogLevel level) {
  switch (level) {
    case LogLevel::debug: return "debug";
    case LogLevel::info: return "info";
    case LogLevel::warning: return "warning";
    case LogLevel::error: return "error";
  }
  return "info";
}

std::string json_line(LogLevel level, std::string_view event, LogSink::Fields fields) {
  JsonWriter json;
  json.begin_object().field("time", core::to_rfc3339(std::chrono::system_clock::now())).field("level", level_name(level)).field("event", event);
  for (auto& field : fields) {
    if (is_empty(field)) continue;
    json.key(field.key);
    std::visit([&](auto value) { json.value(value); }, field.value);
  }
  return json.end_object().take();
}

std::string human_line(std::string_view event, LogSink::Fields fields) {
  std::string line(event);
  for (auto& field : fields) {
    if (is_empty(field)) continue;
    line.append("  ").append(field.key).append("=");
    if (auto* text = std::get_if<std::string_view>(&field.value)) {
      // Quoted where it could be misread; escaped, so that data can't forge a line or drive the terminal.
      std::string quoted;
      append_json_string(quoted, *text);
      const bool plain = quoted.size() == text->size() + 2 && text->find(' ') == text->npos;
      line += plain ? std::string(*text) : quoted;
    } else {
      JsonWriter json;
      std::visit([&](auto value) { json.value(value); }, field.value);
      line += json.take();
    }
  }
  return line;
}

}  // namespace

LogSink::LogSink(LogLevel least, LogFormat format) : impl_(std::make_unique<Impl>()) {
  impl_->json = format == LogFormat::json || (format == LogFormat::automatic && ::isatty(STDERR_FILENO) == 0);
  auto sink = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
  impl_->logger = std::make_shared<spdlog::logger>("flexiconnect", std::move(sink));
  impl_->logger->set_pattern(impl_->json ? "%v" : "%H:%M:%S.%e %^%-7l%$ %v");
  impl_->logger->set_level(spd_level(least));
  impl_->logger->flush_on(spdlog::level::debug);
}

LogSink::~LogSink() = default;

LogSink& LogSink::none() {
  static LogSink* sink = [] {
    auto* quiet = new LogSink(LogLevel::error, LogFormat::json);
    quiet->impl_->logger = std::make_shared<spdlog::logger>("none", std::make_shared<spdlog::sinks::null_sink_mt>());
    quiet->impl_->logger->set_level(spdlog::level::off);
    return quiet;
  }();
  return *sink;
}

void LogSink::write(LogLevel level, std::string_view event, Fields fields) {
  if (!impl_->logger->should_log(spd_level(level))) return;
  const auto line = impl_->json ? json_line(level, event, fields) : human_line(event, fields);
  impl_->logger->log(spd_level(level), "{}", line);
}

}  // namespace flexi::runtime
