// SPDX-License-Identifier: Apache-2.0
#include "transports/rpc/frames.hpp"

#include <cstring>

namespace flexi::transports::rpc {

namespace {

constexpr std::size_t kKeepBytes = 256 * 1024;  // a rare large message doesn't stay in memory

std::uint32_t little_endian(const char* bytes) {
  const auto* b = reinterpret_cast<const unsigned char*>(bytes);
  return std::uint32_t(b[0]) | std::uint32_t(b[1]) << 8 | std::uint32_t(b[2]) << 16 | std::uint32_t(b[3]) << 24;
}

}  // namespace

std::span<char> FrameReader::room(std::size_t size) {
  if (begin_ == end_) {
    begin_ = end_ = 0;
    if (buffer_.size() > kKeepBytes && size <= kKeepBytes) buffer_ = {};
  }
  if (buffer_.size() - end_ < size && begin_ != 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  if (buffer_.size() - end_ < size) buffer_.resize(end_ + std::max(size, end_));
  return {buffer_.data() + end_, buffer_.size() - end_};
}

/// Finds out the size of the message at begin_, as soon as its segment table is there.
/// @return false where it makes no sense
bool FrameReader::measure() {
  if (size_ != 0 || buffered() < 4) return true;
  const char* at = buffer_.data() + begin_;
  const std::uint64_t segments = std::uint64_t(little_endian(at)) + 1;
  if (segments > kMaxSegments) {
    problem_ = "the message claims " + std::to_string(segments) + " segments";
    return false;
  }
  const std::size_t table = (4 + 4 * segments + 7) / 8 * 8;
  if (buffered() < table) return true;
  std::uint64_t bytes = table;
  for (std::uint64_t i = 0; i < segments; ++i) bytes += std::uint64_t(little_endian(at + 4 + 4 * i)) * sizeof(capnp::word);
  if (bytes > max_bytes_) {
    problem_ = "the message is larger than " + std::to_string(max_bytes_) + " bytes";
    return false;
  }
  size_ = bytes;
  return true;
}

bool FrameReader::ready() { return !problem_.empty() || !measure() || (size_ != 0 && buffered() >= size_); }

FrameReader::Step FrameReader::next(kj::Array<capnp::word>& message) {
  if (!problem_.empty() || !measure()) return Step::malformed;
  if (size_ == 0 || buffered() < size_) return Step::need_more;
  message = kj::heapArray<capnp::word>(size_ / sizeof(capnp::word));
  std::memcpy(message.begin(), buffer_.data() + begin_, size_);
  begin_ += size_;
  size_ = 0;
  return Step::complete;
}

}  // namespace flexi::transports::rpc
