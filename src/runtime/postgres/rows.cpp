// SPDX-License-Identifier: Apache-2.0
#include "runtime/postgres/rows.hpp"

#include <libpq-fe.h>

#include <cstdlib>
#include <limits>

#include "core/timestamp.hpp"

namespace flexi::runtime::postgres {

namespace {

const PGresult* of(const std::shared_ptr<void>& result) { return static_cast<const PGresult*>(result.get()); }

/// Between 1970-01-01 and 2000-01-01, PostgreSQL's own beginning of time.
constexpr std::int64_t kEpochMicros = 946'684'800'000'000;

}  // namespace

Rows::Rows(void* result) : result_(result, [](void* each) { PQclear(static_cast<PGresult*>(each)); }) {}

int Rows::size() const { return PQntuples(of(result_)); }
std::int64_t Rows::touched() const { return std::atoll(PQcmdTuples(static_cast<PGresult*>(result_.get()))); }
bool Rows::is_null(int row, int column) const { return PQgetisnull(of(result_), row, column) != 0; }

std::string_view Rows::text(int row, int column) const {
  return {PQgetvalue(of(result_), row, column), static_cast<std::size_t>(PQgetlength(of(result_), row, column))};
}

std::int64_t Rows::integer(int row, int column) const {
  const auto field = text(row, column);
  if (field.empty()) return 0;
  // Big-endian two's complement, 1 to 8 bytes.
  auto value = static_cast<std::uint64_t>(static_cast<std::int64_t>(static_cast<signed char>(field[0])));
  for (std::size_t i = 1; i < field.size() && i < 8; ++i) value = value << 8 | static_cast<unsigned char>(field[i]);
  return static_cast<std::int64_t>(value);
}

core::Timestamp Rows::time(int row, int column) const {
  if (is_null(row, column)) return {};
  const auto micros = integer(row, column);
  constexpr auto kMost = std::numeric_limits<std::int64_t>::max() / 1'000 - kEpochMicros;  // a Timestamp counts nanoseconds
  return core::from_unix_micros(std::min(std::max(micros, -kMost), kMost) + kEpochMicros);
}

Value time(core::Timestamp value) { return {.bytes = core::to_rfc3339(value)}; }

Value bytes(std::string_view value) { return {.binary = true, .bytes = std::string(value)}; }

Value text_array(const std::vector<std::string>& values) {
  std::string list = "{";
  for (auto& value : values) {
    list += list.size() > 1 ? ",\"" : "\"";
    for (char c : value) {
      if (c == '"' || c == '\\') list += '\\';
      list += c;
    }
    list += '"';
  }
  return {.bytes = list + "}"};
}

bool is_text(std::string_view value) {
  for (std::size_t i = 0; i < value.size();) {
    const auto lead = static_cast<unsigned char>(value[i]);
    if (lead == 0) return false;
    const std::size_t length = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
    if (length == 0 || i + length > value.size()) return false;
    for (std::size_t k = 1; k < length; ++k)
      if ((static_cast<unsigned char>(value[i + k]) & 0xc0) != 0x80) return false;
    const auto second = length > 1 ? static_cast<unsigned char>(value[i + 1]) : 0;
    // Overlong forms, surrogates, beyond U+10FFFF. Source: RFC 3629 section 4
    if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f)) return false;
    if ((lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f)) return false;
    i += length;
  }
  return true;
}

}  // namespace flexi::runtime::postgres
