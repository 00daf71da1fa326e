// SPDX-License-Identifier: Apache-2.0
#include "core/timestamp.hpp"

#include <charconv>
#include <chrono>
#include <cstdio>

namespace flexi::core {

namespace ch = std::chrono;

std::int64_t to_unix_micros(Timestamp time) { return ch::duration_cast<ch::microseconds>(time.time_since_epoch()).count(); }

Timestamp from_unix_micros(std::int64_t micros) { return Timestamp(ch::duration_cast<Timestamp::duration>(ch::microseconds(micros))); }

std::string to_rfc3339(Timestamp time) {
  const auto micros = ch::floor<ch::microseconds>(time);
  const auto day = ch::floor<ch::days>(micros);
  const ch::year_month_day date(day);
  const ch::hh_mm_ss clock(micros - day);
  char text[40];
  std::snprintf(text, sizeof text, "%04d-%02u-%02uT%02d:%02d:%02d.%06dZ", int(date.year()), unsigned(date.month()),
                unsigned(date.day()), int(clock.hours().count()), int(clock.minutes().count()),
                int(clock.seconds().count()), int(clock.subseconds().count()));
  return text;
}

namespace {

/// Reads exactly `digits` decimal digits off the front.
bool take_number(std::string_view& text, std::size_t digits, int& value) {
  if (text.size() < digits) return false;
  auto [end, ec] = std::from_chars(text.data(), text.data() + digits, value);
  if (ec != std::errc() || end != text.data() + digits || text.front() == '-' || text.front() == '+') return false;
  text.remove_prefix(digits);
  return true;
}

bool take(std::string_view& text, std::string_view any_of) {
  if (text.empty() || any_of.find(text.front()) == any_of.npos) return false;
  text.remove_prefix(1);
  return true;
}

}  // namespace

Result<Timestamp> parse_rfc3339(std::string_view text) {
  const auto bad = [] { return invalid_argument("a time must look like 2026-11-24T09:30:00Z (RFC 3339)"); };
  int year, month, day, hour = 0, minute = 0, second = 0;
  if (!take_number(text, 4, year) || !take(text, "-") || !take_number(text, 2, month) || !take(text, "-") || !take_number(text, 2, day)) return bad();
  const ch::year_month_day date{ch::year(year), ch::month(unsigned(month)), ch::day(unsigned(day))};
  if (!date.ok()) return bad();
  ch::microseconds fraction{0};
  ch::minutes offset{0};
  if (!text.empty()) {
    if (!take(text, "Tt ") || !take_number(text, 2, hour) || !take(text, ":") || !take_number(text, 2, minute) || !take(text, ":") || !take_number(text, 2, second)) return bad();
    if (hour > 23 || minute > 59 || second > 60) return bad();
    if (take(text, ".")) {
      std::int64_t scale = 100000, micros = 0;
      std::size_t digits = 0;
      for (; !text.empty() && text.front() >= '0' && text.front() <= '9'; text.remove_prefix(1), ++digits, scale /= 10) micros += scale * (text.front() - '0');
      if (digits == 0) return bad();
      fraction = ch::microseconds(micros);
    }
    if (!take(text, "Zz")) {
      const bool west = !text.empty() && text.front() == '-';
      int hours, minutes;
      if (!take(text, "+-") || !take_number(text, 2, hours) || !take(text, ":") || !take_number(text, 2, minutes) || hours > 23 || minutes > 59) return bad();
      offset = ch::minutes((hours * 60 + minutes) * (west ? -1 : 1));
    }
    if (!text.empty()) return bad();
  }
  const auto at = ch::sys_days(date) + ch::hours(hour) + ch::minutes(minute) + ch::seconds(second) + fraction - offset;
  // The clock's nanoseconds reach from 1677 to 2262; who asks for entries until 9999 means all of them.
  constexpr auto kFirst = ch::ceil<ch::microseconds>(Timestamp::min()), kLast = ch::floor<ch::microseconds>(Timestamp::max());
  if (at < kFirst) return Timestamp(kFirst);
  if (at > kLast) return Timestamp(kLast);
  return Timestamp(ch::duration_cast<Timestamp::duration>(at.time_since_epoch()));
}

}  // namespace flexi::core
