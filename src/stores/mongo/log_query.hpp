// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/log_store.hpp"
#include "stores/mongo/bson.hpp"

namespace flexi::stores::mongo {

/// Where a page ended: the next one begins just below. The order is newest first by (created_at, created_us, _id); entries whose created_at
/// is no date, which other programs may have written, come last, by _id.
struct LogPosition {
  bool dated = true;
  std::int64_t milliseconds = 0;
  int micros = -1;  ///< of created_us; -1: there is none, as in documents of others
  ObjectId id{};
};
std::string to_cursor(const LogPosition& position);
/// @return invalid_argument for anything that to_cursor() can't have made
core::Result<LogPosition> from_cursor(std::string_view cursor);

/// The words of a search, as the embedded store reads them: each piece between spaces must stand in the name or the data, its words one
/// after the other and whole; a piece that ends with * may go on. Case makes no difference.
struct LogWords {
  std::vector<std::string> patterns;  ///< a regular expression for each piece, for PCRE and RE2 alike
  std::string text_search;            ///< for $text, which finds some more; empty: it can't help
  bool nothing = false;               ///< words were given, but none with a letter or digit
};
/// @return invalid_argument for too many
core::Result<LogWords> read_words(std::string_view q);

/// Which entries a query asks for; times in µs.
struct LogRange {
  std::int64_t least = std::numeric_limits<std::int64_t>::min();  ///< created_at >= least
  std::int64_t end = std::numeric_limits<std::int64_t>::max();    ///< created_at < end
  bool holds(std::int64_t micros) const { return micros >= least && micros < end; }
  /// Entries without a time belong to every page but those of a time.
  bool all_times() const { return end == std::numeric_limits<std::int64_t>::max() && least == std::numeric_limits<std::int64_t>::min(); }
};

enum class TextIndex { absent, present };

/// @param after  the position that the page comes after, where there is one
/// @param dated  entries with a time, or those without
Bson make_filter(const core::LogQuery& query, const LogWords& words, const LogRange& range, const std::optional<LogPosition>& after, bool dated,
                 TextIndex index);
Bson make_sort(bool dated);

}  // namespace flexi::stores::mongo
