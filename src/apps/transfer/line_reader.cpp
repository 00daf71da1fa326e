// SPDX-License-Identifier: Apache-2.0
#include "apps/transfer/line_reader.hpp"

#include <filesystem>

#include "apps/transfer/export_lines.hpp"

namespace flexi::apps::transfer {

using core::Result;

namespace {

constexpr std::size_t kReadBytes = 256 * 1024;

}  // namespace

Result<std::unique_ptr<LineReader>> LineReader::open(const std::string& file) {
  std::error_code ec;
  if (!std::filesystem::exists(file, ec)) return core::not_found("there is no file " + file);
  const auto size = std::filesystem::file_size(file, ec);
  std::ifstream in(file, std::ios::binary);
  if (ec || !in) return core::unavailable("can't read " + file);
  return std::unique_ptr<LineReader>(new LineReader(std::move(in), size));
}

Result<std::optional<std::string_view>> LineReader::next() {
  std::size_t looked_at = position_;
  for (;;) {
    const auto end = buffer_.find('\n', looked_at);
    if (end != buffer_.npos) {
      const auto begin = std::exchange(position_, end + 1);
      offset_ += position_ - begin;
      ++number_;
      return std::optional(std::string_view(buffer_).substr(begin, position_ - begin));
    }
    buffer_.erase(0, std::exchange(position_, 0));
    looked_at = buffer_.size();
    if (looked_at > kMaxLineBytes) return core::invalid_argument("the line is longer than " + std::to_string(kMaxLineBytes) + " bytes");
    buffer_.resize(looked_at + kReadBytes);
    in_.read(buffer_.data() + looked_at, kReadBytes);
    buffer_.resize(looked_at + static_cast<std::size_t>(in_.gcount()));
    if (in_.bad()) return core::unavailable("the file can't be read");
    if (buffer_.size() > looked_at) continue;
    if (buffer_.empty()) return std::optional<std::string_view>();
    return core::invalid_argument("the line has no end: the file was cut short");
  }
}

}  // namespace flexi::apps::transfer
