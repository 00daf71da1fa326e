// SPDX-License-Identifier: Apache-2.0
#include "stores/mongo/log_query.hpp"

#include <bson/bson.h>

#include <algorithm>
#include <charconv>
#include <cstdio>

#include "stores/mongo/document.hpp"

namespace flexi::stores::mongo {

namespace {

constexpr std::size_t kMaxWords = 64;
constexpr std::size_t kDatedCursor = 1 + 16 + 4 + 24, kUndatedCursor = 1 + 24;
constexpr char kNoLetter[] = "[^\\p{L}\\p{N}]";

template <class Number>
bool read_hex(std::string_view digits, Number& value) {
  auto [end, ec] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  return ec == std::errc() && end == digits.data() + digits.size();
}

bool is_space(char c) { return static_cast<unsigned char>(c) <= 0x20 || c == 0x7f; }
/// Beyond ASCII every character counts as a letter: none of them is syntax.
bool is_letter(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || static_cast<unsigned char>(c) >= 0x80; }

template <class Belongs>
std::vector<std::string> split_by(std::string_view text, Belongs belongs) {
  std::vector<std::string> pieces;
  while (!text.empty()) {
    const auto begin = std::find_if(text.begin(), text.end(), belongs);
    const auto end = std::find_if_not(begin, text.end(), belongs);
    if (begin != end) pieces.emplace_back(begin, end);
    text = std::string_view(end, text.end());
  }
  return pieces;
}

bool is_utf8(std::string_view text) { return bson_utf8_validate(text.data(), text.size(), true); }

/// Where nothing is asked for, also the dates that have no room in microseconds.
std::int64_t to_milliseconds(std::int64_t micros) {
  const bool open = micros == std::numeric_limits<std::int64_t>::min() || micros == std::numeric_limits<std::int64_t>::max();
  return open ? micros : split(micros).milliseconds;
}

/// Entries below `after`, in the order of make_sort(true).
std::vector<Bson> below(const LogPosition& after) {
  std::vector<Bson> ways;
  {
    Bson earlier, less;
    less.date("$lt", after.milliseconds);
    earlier.document("created_at", less);
    ways.push_back(std::move(earlier));
  }
  if (after.micros >= 0) {
    Bson less, same_time, none;
    less.small_integer("$lt", after.micros);
    same_time.date("created_at", after.milliseconds).document("created_us", less);
    none.date("created_at", after.milliseconds).null("created_us");
    ways.push_back(std::move(same_time));
    ways.push_back(std::move(none));
  }
  Bson less, same;
  less.id("$lt", after.id);
  same.date("created_at", after.milliseconds);
  if (after.micros >= 0) same.small_integer("created_us", after.micros);
  else same.null("created_us");
  same.document("_id", less);
  ways.push_back(std::move(same));
  return ways;
}

}  // namespace

std::string to_cursor(const LogPosition& position) {
  if (!position.dated) return "u" + position.id.hex();
  char text[32];
  std::snprintf(text, sizeof text, "d%016llx%04x", static_cast<unsigned long long>(position.milliseconds), static_cast<unsigned>(position.micros) & 0xffff);
  return text + position.id.hex();
}

core::Result<LogPosition> from_cursor(std::string_view cursor) {
  const auto wrong = core::invalid_argument("cursor must be the 'next' of an earlier page");
  LogPosition position;
  if (cursor.size() < kUndatedCursor) return wrong;
  auto id = ObjectId::from_hex(cursor.substr(cursor.size() - 24));
  if (!id) return wrong;
  position.id = *id;
  if (cursor.size() == kUndatedCursor && cursor[0] == 'u') {
    position.dated = false;
    return position;
  }
  std::uint64_t milliseconds = 0;
  unsigned micros = 0;
  if (cursor.size() != kDatedCursor || cursor[0] != 'd' || !read_hex(cursor.substr(1, 16), milliseconds) || !read_hex(cursor.substr(17, 4), micros)) return wrong;
  if (micros > 999 && micros != 0xffff) return wrong;
  position.milliseconds = static_cast<std::int64_t>(milliseconds);
  position.micros = micros == 0xffff ? -1 : static_cast<int>(micros);
  return position;
}

core::Result<LogWords> read_words(std::string_view q) {
  LogWords words;
  const auto pieces = split_by(q, [](char c) { return !is_space(c); });
  if (pieces.size() > kMaxWords) return core::invalid_argument("q may hold at most " + std::to_string(kMaxWords) + " words");
  for (auto& piece : pieces) {
    const bool prefix = piece.back() == '*';
    const auto letters = split_by(piece, is_letter);
    if (letters.empty()) continue;
    std::string pattern = std::string("(^|") + kNoLetter + ")";
    for (auto& word : letters) {
      if (&word != &letters.front()) pattern += std::string(kNoLetter) + "+";
      pattern += word;
      if (!prefix) words.text_search += (words.text_search.empty() ? "\"" : " \"") + word + "\"";
    }
    if (!prefix) pattern += std::string("($|") + kNoLetter + ")";
    words.patterns.push_back(std::move(pattern));
  }
  words.nothing = (!pieces.empty() && words.patterns.empty()) || !is_utf8(q);
  return words;
}

Bson make_filter(const core::LogQuery& query, const LogWords& words, const LogRange& range, const std::optional<LogPosition>& after, bool dated,
                 TextIndex index) {
  Bson filter;
  if (index == TextIndex::present && !words.text_search.empty()) {
    Bson search;
    search.text("$search", words.text_search);
    filter.document("$text", search);
  }
  if (query.name) filter.text("name", *query.name);
  if (query.trace) filter.text("trace_id", core::to_string(*query.trace));
  Bson id;
  id.text("$type", "objectId");  // the contract's, and what there is a way to ask for again
  if (dated) {
    // A range of dates holds dates only: what is no date is asked for by itself.
    Bson time;
    time.date("$gte", to_milliseconds(range.least));
    const auto last = to_milliseconds(range.end);
    time.date("$lte", after ? std::min(after->milliseconds, last) : last);
    filter.document("created_at", time).document("_id", id);
  } else {
    Bson date, none;
    date.text("$type", "date");
    none.document("$not", date);
    if (after) id.id("$lt", after->id);
    filter.document("created_at", none).document("_id", id);
  }
  std::vector<Bson> all;
  if (dated && after) {
    Bson place;
    place.array("$or", below(*after));
    all.push_back(std::move(place));
  }
  for (auto& pattern : words.patterns) {
    std::vector<Bson> either(2);
    either[0].regex("name", pattern, "i");
    either[1].regex("data", pattern, "i");
    Bson place;
    place.array("$or", either);
    all.push_back(std::move(place));
  }
  if (!all.empty()) filter.array("$and", all);
  return filter;
}

Bson make_sort(bool dated) {
  Bson sort;
  if (dated) sort.small_integer("created_at", -1).small_integer("created_us", -1);
  sort.small_integer("_id", -1);
  return sort;
}

}  // namespace flexi::stores::mongo
