// SPDX-License-Identifier: Apache-2.0
#include "core/call_context.hpp"

#include <algorithm>
#include <charconv>
#include <span>
#include <string_view>

#include "core/random.hpp"

namespace flexi::core {

namespace {

void append_hex(std::string& out, std::span<const std::uint8_t> bytes) {
  static constexpr char kHex[] = "0123456789abcdef";
  for (auto b : bytes) {
    out += kHex[b >> 4];
    out += kHex[b & 15];
  }
}

/// Lower-case hex only, as the standard asks.
bool read_hex(std::string_view text, std::span<std::uint8_t> out) {
  auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; };
  for (std::size_t i = 0; i < out.size(); ++i) {
    const int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    out[i] = static_cast<std::uint8_t>(high << 4 | low);
  }
  return true;
}

}  // namespace

void CallContext::add_hop(std::string_view place) {
  const auto now = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  char time[24];
  const auto digits = static_cast<std::size_t>(std::to_chars(time, time + sizeof time, now).ptr - time);
  if (hops.size() + place.size() + digits + 2 > kMaxHopsBytes) return;
  if (hops.empty()) hops.reserve(128);  // room for the few that follow
  else hops += ' ';
  hops.append(place).append(1, '@').append(time, digits);
}

std::string to_string(const TraceId& id) {
  std::string text;
  if (id == TraceId{}) return text;
  text.reserve(2 * id.size());
  append_hex(text, id);
  return text;
}

std::optional<TraceId> trace_id_from(std::string_view hex) {
  TraceId id{};
  if (hex.size() != 2 * id.size() || !read_hex(hex, id) || id == TraceId{}) return std::nullopt;
  return id;
}

TraceContext TraceContext::begin() {
  TraceContext context;
  // The time first: traces that begin one after the other stand side by side in an index. The rest is random, the
  // right half among it. Source: https://www.w3.org/TR/trace-context-2/ section 3.2.2.3 (trace-id)
  std::array<std::uint8_t, 18> random;
  fill_random(random);
  const auto ms = static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count());
  for (std::size_t i = 0; i < 6; ++i) context.trace_id[i] = static_cast<std::uint8_t>(ms >> (40 - 8 * i));
  std::copy_n(random.begin(), 10, context.trace_id.begin() + 6);
  std::copy_n(random.begin() + 10, 8, context.parent_id.begin());
  context.flags = 1;
  return context;
}

std::string TraceContext::to_traceparent() const {
  if (!valid()) return {};
  std::string text = "00-";
  append_hex(text, trace_id);
  text += '-';
  append_hex(text, parent_id);
  text += '-';
  append_hex(text, std::span(&flags, 1));
  return text;
}

TraceContext TraceContext::from_traceparent(std::string_view header) {
  TraceContext context;
  if (header.size() < 55 || header[2] != '-' || header[35] != '-' || header[52] != '-') return {};
  std::uint8_t version = 0;
  if (!read_hex(header.substr(0, 2), std::span(&version, 1)) || version == 0xff) return {};
  if (version == 0 && header.size() != 55) return {};
  if (header.size() > 55 && header[55] != '-') return {};
  if (!read_hex(header.substr(3, 32), context.trace_id) || !read_hex(header.substr(36, 16), context.parent_id) ||
      !read_hex(header.substr(53, 2), std::span(&context.flags, 1)))
    return {};
  if (context.parent_id == decltype(context.parent_id){}) return {};
  return context;
}

}  // namespace flexi::core
