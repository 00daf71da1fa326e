// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/progress.hpp"

#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <string>

namespace flexi::apps::cli {

namespace {

/// Source: ECMA-48 section 8.3.41, erase in line
constexpr const char* kBeginLine = "\r\x1b[K";

std::string bar(int percent) {
  constexpr int kWidth = 30;
  const auto done = static_cast<std::size_t>(std::clamp(percent, 0, 100) * kWidth / 100);
  return std::to_string(percent) + " % [" + std::string(done, '#') + std::string(kWidth - done, ' ') + "]";
}

void show(std::string_view what, std::optional<int> percent) {
  std::cerr << kBeginLine << what << " " << (percent ? bar(*percent) : "…") << std::flush;
}

}  // namespace

ProgressLine::ProgressLine() : shown_(::isatty(STDERR_FILENO) != 0) {}
ProgressLine::~ProgressLine() {
  if (shown_) std::cerr << kBeginLine << std::flush;
}
Progress ProgressLine::progress() const { return shown_ ? Progress(show) : Progress(); }

}  // namespace flexi::apps::cli
