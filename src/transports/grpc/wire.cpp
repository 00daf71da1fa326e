// SPDX-License-Identifier: Apache-2.0
#include "transports/grpc/wire.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace flexi::transports::grpc {

namespace {

constexpr std::int64_t kMaxTimeoutValue = 99'999'999;
constexpr char kBase64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

constexpr std::array<std::int8_t, 256> base64_values() {
  std::array<std::int8_t, 256> values{};
  for (auto& value : values) value = -1;
  for (int i = 0; i < 64; ++i) values[static_cast<unsigned char>(kBase64[i])] = static_cast<std::int8_t>(i);
  return values;
}

}  // namespace

std::string encode_timeout(std::chrono::milliseconds timeout) {
  const std::int64_t ms = std::max<std::int64_t>(timeout.count(), 0);
  if (ms <= kMaxTimeoutValue) return std::to_string(ms) + 'm';
  const auto seconds = (ms - 1) / 1000 + 1;
  return std::to_string(std::min(seconds, kMaxTimeoutValue)) + 'S';
}

std::optional<std::chrono::nanoseconds> decode_timeout(std::string_view text) {
  if (text.size() < 2 || text.size() > 9) return std::nullopt;
  std::int64_t value = 0;
  for (char c : text.substr(0, text.size() - 1)) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + (c - '0');
  }
  static constexpr std::int64_t kYear = 365LL * 24 * 3600;
  const auto seconds = [](std::int64_t count) { return std::chrono::seconds(std::min(count, kYear)); };
  switch (text.back()) {
    case 'H': return seconds(value * 3600);
    case 'M': return seconds(value * 60);
    case 'S': return seconds(value);
    case 'm': return std::chrono::milliseconds(value);
    case 'u': return std::chrono::microseconds(value);
    case 'n': return std::chrono::nanoseconds(value);
    default: return std::nullopt;
  }
}

std::string base64_encode(std::string_view bytes) {
  std::string out;
  out.reserve((bytes.size() * 4 + 2) / 3);
  std::uint32_t bits = 0;
  int count = 0;
  for (unsigned char c : bytes) {
    bits = bits << 8 | c;
    for (count += 8; count >= 6; count -= 6) out += kBase64[bits >> (count - 6) & 63];
  }
  if (count > 0) out += kBase64[bits << (6 - count) & 63];
  return out;
}

std::optional<std::string> base64_decode(std::string_view text) {
  static constexpr auto kValues = base64_values();
  if (text.size() % 4 == 0)
    for (int i = 0; i < 2 && text.ends_with('='); ++i) text.remove_suffix(1);
  if (text.size() % 4 == 1) return std::nullopt;
  std::string out;
  out.reserve(text.size() * 3 / 4);
  std::uint32_t bits = 0;
  int count = 0;
  for (unsigned char c : text) {
    if (kValues[c] < 0) return std::nullopt;
    bits = bits << 6 | static_cast<std::uint32_t>(kValues[c]);
    if ((count += 6) >= 8) out += static_cast<char>(bits >> (count -= 8) & 255);
  }
  return out;
}

bool is_grpc_content_type(std::string_view value) {
  constexpr std::string_view kType = "application/grpc";
  if (!value.starts_with(kType)) return false;
  value.remove_prefix(kType.size());
  if (value.starts_with("+proto")) value.remove_prefix(6);
  return value.empty() || value.front() == ';';
}

bool is_metadata_key(std::string_view key) {
  if (key.empty() || key.starts_with("grpc-")) return false;
  for (auto reserved : {"te", "content-type", "user-agent", "host", "connection", "transfer-encoding", "content-length", "keep-alive", "upgrade", "proxy-connection"})
    if (key == reserved) return false;
  return std::all_of(key.begin(), key.end(), [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.'; });
}

bool is_metadata_text(std::string_view value) {
  return std::all_of(value.begin(), value.end(), [](unsigned char c) { return c >= 0x20 && c <= 0x7e; });
}

bool lists_encoding(std::string_view list, std::string_view encoding) {
  while (!list.empty()) {
    const auto end = std::min(list.find(','), list.size());
    auto item = list.substr(0, end);
    list.remove_prefix(std::min(end + 1, list.size()));
    while (item.starts_with(' ')) item.remove_prefix(1);
    while (item.ends_with(' ')) item.remove_suffix(1);
    if (item == encoding) return true;
  }
  return false;
}

void write_prefix(char (&prefix)[kPrefixBytes], bool compressed, std::size_t size) {
  prefix[0] = compressed ? 1 : 0;
  for (int i = 1; i < 5; ++i) prefix[i] = static_cast<char>(size >> (8 * (4 - i)) & 255);
}

void Deframer::reset(std::size_t max_bytes) {
  max_bytes_ = max_bytes;
  prefix_size_ = length_ = held_ = 0;
  partial_ = {};
  frames_.clear();
  next_ = 0;
}

core::Result<void> Deframer::feed(std::string_view bytes) {
  while (!bytes.empty()) {
    if (prefix_size_ < kPrefixBytes) {
      const auto n = std::min(kPrefixBytes - prefix_size_, bytes.size());
      bytes.copy(prefix_ + prefix_size_, n);
      prefix_size_ += n;
      bytes.remove_prefix(n);
      if (prefix_size_ < kPrefixBytes) break;
      if (prefix_[0] != 0 && prefix_[0] != 1) return core::internal("a message's first byte must be 0 or 1");
      length_ = 0;
      for (int i = 1; i < 5; ++i) length_ = length_ << 8 | static_cast<unsigned char>(prefix_[i]);
      if (length_ > max_bytes_) return core::overloaded("a message of " + std::to_string(length_) + " bytes is over the limit of " + std::to_string(max_bytes_));
      partial_.compressed = prefix_[0] == 1;
    }
    const auto n = std::min(length_ - partial_.bytes.size(), bytes.size());
    // The rest of a message is likely to come: room for it at once, unless that is much more than there is.
    if (partial_.bytes.empty()) partial_.bytes.reserve(std::min(length_, std::max<std::size_t>(bytes.size(), 64 * 1024)));
    partial_.bytes.append(bytes.substr(0, n));
    held_ += n;
    bytes.remove_prefix(n);
    if (partial_.bytes.size() < length_) break;
    frames_.push_back(std::move(partial_));
    partial_ = {};
    prefix_size_ = 0;
  }
  return core::ok();
}

Frame Deframer::take() {
  auto frame = std::move(frames_[next_++]);
  if (next_ == frames_.size()) {
    frames_.clear();
    next_ = 0;
  }
  held_ -= frame.bytes.size();
  return frame;
}

void OutQueue::push(Frame frame) {
  held_ += kPrefixBytes + frame.bytes.size();
  frames_.push_back(std::move(frame));
}

std::size_t OutQueue::read(std::uint8_t* buffer, std::size_t size) {
  std::size_t done = 0;
  while (done < size && held_ != 0) {
    auto& frame = frames_[next_];
    std::size_t n = 0;
    if (offset_ < kPrefixBytes) {
      char prefix[kPrefixBytes];
      write_prefix(prefix, frame.compressed, frame.bytes.size());
      n = std::min(kPrefixBytes - offset_, size - done);
      std::memcpy(buffer + done, prefix + offset_, n);
    } else {
      n = std::min(kPrefixBytes + frame.bytes.size() - offset_, size - done);
      std::memcpy(buffer + done, frame.bytes.data() + (offset_ - kPrefixBytes), n);
    }
    offset_ += n;
    done += n;
    held_ -= n;
    if (offset_ < kPrefixBytes + frame.bytes.size()) continue;
    offset_ = 0;
    if (keep_) break;
    frame = {};
    if (++next_ == frames_.size()) {
      frames_.clear();
      next_ = 0;
    }
  }
  return done;
}

void OutQueue::clear() {
  frames_.clear();
  next_ = offset_ = held_ = 0;
  keep_ = false;
}

Frame OutQueue::take_back() {
  auto frame = frames_.empty() ? Frame{} : std::move(frames_.front());
  clear();
  return frame;
}

}  // namespace flexi::transports::grpc
