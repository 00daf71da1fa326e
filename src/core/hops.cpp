// SPDX-License-Identifier: Apache-2.0
#include "core/hops.hpp"

#include <algorithm>
#include <charconv>

#include "core/call_context.hpp"
#include "core/timestamp.hpp"

namespace flexi::core {

namespace {

/// Calls `each(place, number)` for every "place@number" in `hops`.
void for_each_hop(std::string_view hops, auto each) {
  while (!hops.empty()) {
    const auto end = std::min(hops.find(' '), hops.size());
    const auto hop = hops.substr(0, end);
    hops.remove_prefix(std::min(end + 1, hops.size()));
    const auto at = hop.rfind('@');
    if (at == hop.npos || at == 0) continue;
    std::int64_t number = 0;
    const auto digits = hop.substr(at + 1);
    auto [last, ec] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    if (ec == std::errc() && last == digits.data() + digits.size() && !digits.empty()) each(hop.substr(0, at), number);
  }
}

/// Wrapping: a number from a wire may be any.
std::string moved(std::string_view hops, std::uint64_t by) {
  std::string out;
  if (hops.empty()) return out;
  out.reserve(hops.size() + 64);
  for_each_hop(hops, [&](std::string_view place, std::int64_t number) {
    char digits[24];
    const auto sum = static_cast<std::int64_t>(static_cast<std::uint64_t>(number) + by);
    const auto end = std::to_chars(digits, digits + sizeof digits, sum).ptr;
    if (!out.empty()) out += ' ';
    out.append(place).append(1, '@').append(digits, static_cast<std::size_t>(end - digits));
  });
  return out;
}

}  // namespace

bool may_be_hops(std::string_view text) {
  if (text.size() > CallContext::kMaxHopsBytes) return false;
  return std::all_of(text.begin(), text.end(), [](unsigned char c) { return c >= 0x20 && c < 0x7f; });
}

std::vector<Hop> read_hops(std::string_view hops) {
  std::vector<Hop> all;
  // A time that no clock can hold says nothing.
  constexpr std::int64_t kLatest = 9'000'000'000'000'000;  // the year 2255
  for_each_hop(hops, [&](std::string_view place, std::int64_t micros) {
    if (micros >= 0 && micros < kLatest) all.push_back({place, from_unix_micros(micros)});
  });
  return all;
}

std::optional<Via> departed_by(std::string_view hops) {
  constexpr std::string_view kDeparture = "broker>";
  std::optional<Via> last;
  for_each_hop(hops, [&](std::string_view place, std::int64_t) {
    if (place.starts_with(kDeparture)) last = via_from(place.substr(kDeparture.size()));
  });
  return last;
}

bool counted_by_publisher(std::string_view hops) {
  bool counted = false;
  for_each_hop(hops, [&](std::string_view place, std::int64_t) {
    if (place.starts_with("broker>")) counted = place == "broker>amqp";
    else if (place == kRabbitmqHop) counted = false;
  });
  return counted;
}

std::string shorten_hops(std::string_view hops, Timestamp since) { return moved(hops, 0 - static_cast<std::uint64_t>(to_unix_micros(since))); }
std::string lengthen_hops(std::string_view shortened, Timestamp since) { return moved(shortened, static_cast<std::uint64_t>(to_unix_micros(since))); }

}  // namespace flexi::core
