// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "apps/data_directory.hpp"

namespace flexi::apps::cli {

/// One line on the terminal that is written over, and goes at the end. Elsewhere nothing.
class ProgressLine {
 public:
  ProgressLine();
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  /// None where nobody would see it.
  Progress progress() const;

 private:
  bool shown_;
};

}  // namespace flexi::apps::cli
