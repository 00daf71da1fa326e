// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/result.hpp"

namespace flexi::apps::transfer {

/// A file's lines, one at a time, of at most kMaxLineBytes each.
/// Lifetime/threads: one thread
class LineReader {
 public:
  /// @return not_found; unavailable
  static core::Result<std::unique_ptr<LineReader>> open(const std::string& file);
  /// @return with its end, valid until the next is read; none at the end; invalid_argument for a last line without end, or one that is too long
  core::Result<std::optional<std::string_view>> next();
  /// Bytes read, and lines.
  std::uint64_t offset() const { return offset_; }
  std::uint64_t number() const { return number_; }
  std::uint64_t size() const { return size_; }

 private:
  LineReader(std::ifstream in, std::uint64_t size) : in_(std::move(in)), size_(size) {}
  std::ifstream in_;
  std::uint64_t size_;
  std::string buffer_;       ///< what was read and is not given yet, from position_
  std::size_t position_ = 0;
  std::uint64_t offset_ = 0, number_ = 0;
};

}  // namespace flexi::apps::transfer
