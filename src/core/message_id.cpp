// SPDX-License-Identifier: Apache-2.0
#include "core/message_id.hpp"

#include <array>
#include <chrono>
#include <cstdint>

#include "core/random.hpp"

namespace flexi::core {

MessageId MessageId::generate() {
  // 48 bits of milliseconds, then 12 bits of the sub-millisecond (method 3 of section 6.2), so that ids made in one
  // millisecond are nearly ordered, which keeps the insertion points of an index close together.
  const auto now = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::system_clock::now().time_since_epoch());
  const auto ms = static_cast<std::uint64_t>(now.count() / 1000);
  const auto fraction = static_cast<unsigned>((now.count() % 1000) * 4096 / 1000);
  std::array<unsigned char, 16> b;
  fill_random(std::span(b).subspan(8));
  for (int i = 0; i < 6; ++i) b[i] = static_cast<unsigned char>(ms >> (40 - 8 * i));
  b[6] = static_cast<unsigned char>(0x70 | (fraction >> 8));
  b[7] = static_cast<unsigned char>(fraction);
  b[8] = static_cast<unsigned char>((b[8] & 0x3f) | 0x80);
  static constexpr char kHex[] = "0123456789abcdef";
  std::string text;
  text.reserve(36);
  for (std::size_t i = 0; i < b.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += kHex[b[i] >> 4];
    text += kHex[b[i] & 15];
  }
  return MessageId(std::move(text));
}

Result<MessageId> MessageId::parse(std::string_view text, std::string_view field) {
  const auto bad = [field](const std::string& what) { return invalid_argument(std::string(field) + what); };
  if (text.empty()) return bad(" must not be empty");
  if (text.size() > kMaxBytes) return bad(" must be at most " + std::to_string(kMaxBytes) + " characters");
  for (unsigned char c : text)
    if (c <= 0x20 || c >= 0x7f || c == '"' || c == '\\' || c == '\'')
      return bad(" may hold printable ASCII characters only, without spaces, quotes and backslashes");
  return MessageId(std::string(text));
}

Result<MessageId> MessageId::from_key(std::string_view key, std::string_view caller, std::string_view field) {
  // An empty key stays empty whoever calls.
  if (caller.empty() || key.empty()) {
    if (key.starts_with('~')) return invalid_argument(std::string(field) + " must not begin with '~'");
    return parse(key, field);
  }
  std::string scoped;
  scoped.append("~").append(caller).append("~").append(key);
  return parse(scoped, field);
}

}  // namespace flexi::core
