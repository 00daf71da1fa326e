// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "core/request.hpp"

namespace flexi::core {

/// "2026-11-24T09:30:00.123456Z": UTC, microseconds. Source: RFC 3339 section 5.6
std::string to_rfc3339(Timestamp time);
/// Any RFC 3339 date-time, any offset; a date alone is its midnight in UTC.
/// @return invalid_argument that says what would be right
Result<Timestamp> parse_rfc3339(std::string_view text);

/// Microseconds since 1970-01-01T00:00:00Z: how times are kept in stores and on our own wires.
std::int64_t to_unix_micros(Timestamp time);
Timestamp from_unix_micros(std::int64_t micros);

}  // namespace flexi::core
