// SPDX-License-Identifier: Apache-2.0
#include "stores/sqlite/log_search.hpp"

#include <sqlite3.h>

#include <algorithm>
#include <charconv>
#include <cstdio>

namespace flexi::stores::sqlite {

using runtime::sqlite::Connection;

namespace {

constexpr std::size_t kMaxWords = 64;

/// `text` as a string of the index's query language: nothing in it is syntax. Source: https://sqlite.org/fts5.html section 3.1
void append_quoted(std::string& out, std::string_view text) {
  out += '"';
  for (char c : text) {
    if (c == '"') out += '"';
    out += c == '\0' ? ' ' : c;  // a NUL would end the expression; in a text it separates words, as a space does
  }
  out += '"';
}

bool is_space(char c) { return static_cast<unsigned char>(c) <= 0x20 || c == 0x7f; }

std::vector<std::string_view> split_at_spaces(std::string_view text) {
  std::vector<std::string_view> pieces;
  while (!text.empty()) {
    const auto begin = std::find_if_not(text.begin(), text.end(), is_space);
    const auto end = std::find_if(begin, text.end(), is_space);
    if (begin != end) pieces.emplace_back(begin, end);
    text = std::string_view(end, text.end());
  }
  return pieces;
}

}  // namespace

std::string to_cursor(const LogPosition& position) {
  char text[40];
  std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(position.created_at),
                static_cast<unsigned long long>(position.seq));
  return text;
}

core::Result<LogPosition> from_cursor(std::string_view cursor) {
  const auto number = [](std::string_view digits, std::int64_t& value) {
    std::uint64_t bits = 0;
    auto [end, ec] = std::from_chars(digits.data(), digits.data() + digits.size(), bits, 16);
    value = static_cast<std::int64_t>(bits);
    return ec == std::errc() && end == digits.data() + digits.size();
  };
  LogPosition position;
  if (cursor.size() != 32 || !number(cursor.substr(0, 16), position.created_at) || !number(cursor.substr(16), position.seq) || position.seq < 0)
    return core::invalid_argument("cursor must be the 'next' of an earlier page");
  return position;
}

core::Result<LogTokenizer> LogTokenizer::open(Connection& connection) {
  // Source: https://sqlite.org/fts5.html section 7 (Extending FTS5)
  fts5_api* api = nullptr;
  sqlite3_stmt* statement = nullptr;
  if (const int code = sqlite3_prepare_v2(connection.handle(), "SELECT fts5(?1)", -1, &statement, nullptr); code != SQLITE_OK)
    return connection.error(code, "find the full text index");
  sqlite3_bind_pointer(statement, 1, &api, "fts5_api_ptr", nullptr);
  sqlite3_step(statement);
  sqlite3_finalize(statement);
  void* user_data = nullptr;
  fts5_tokenizer functions{};
  if (!api || api->xFindTokenizer(api, "unicode61", &user_data, &functions) != SQLITE_OK)
    return core::internal("internal error", "SQLite was built without FTS5");
  LogTokenizer tokenizer;
  const char* arguments[] = {"remove_diacritics", "2"};  // as in the table's definition
  if (const int code = functions.xCreate(user_data, arguments, 2, &tokenizer.tokenizer_); code != SQLITE_OK)
    return connection.error(code, "make a tokenizer");
  tokenizer.destroy_ = functions.xDelete;
  tokenizer.tokenize_ = functions.xTokenize;
  return tokenizer;
}

LogTokenizer::LogTokenizer(LogTokenizer&& other) noexcept
    : tokenizer_(std::exchange(other.tokenizer_, nullptr)), destroy_(other.destroy_), tokenize_(other.tokenize_) {}

LogTokenizer::~LogTokenizer() {
  if (tokenizer_) destroy_(tokenizer_);
}

void LogTokenizer::split(std::string_view text, std::vector<std::string>& words) const {
  struct Sink {
    std::vector<std::string>& words;
    std::size_t count = 0;
  } sink{words};
  const auto add = [](void* context, int, const char* word, int size, int, int) {
    auto& out = *static_cast<Sink*>(context);
    if (out.count == out.words.size()) out.words.emplace_back();
    out.words[out.count++].assign(word, static_cast<std::size_t>(size));
    return SQLITE_OK;
  };
  tokenize_(tokenizer_, &sink, FTS5_TOKENIZE_DOCUMENT, text.data(), static_cast<int>(text.size()), add);
  words.resize(sink.count);
}

core::Result<LogFilter> LogFilter::make(Connection& connection, const core::LogQuery& query) {
  FLEXI_TRY(auto tokenizer, LogTokenizer::open(connection));
  LogFilter filter(std::move(tokenizer), query);
  const auto add_and = [&] {
    if (!filter.expression_.empty()) filter.expression_ += " AND ";
  };
  const auto pieces = split_at_spaces(query.q);
  if (pieces.size() > kMaxWords) return core::invalid_argument("q may hold at most " + std::to_string(kMaxWords) + " words");
  for (auto piece : pieces) {
    Phrase phrase;
    phrase.prefix = piece.back() == '*';
    filter.tokenizer_.split(piece, phrase.words);
    if (phrase.words.empty()) continue;
    add_and();
    append_quoted(filter.expression_, piece);
    if (phrase.prefix) filter.expression_ += '*';
    filter.phrases_.push_back(std::move(phrase));
  }
  filter.nothing_ = !pieces.empty() && filter.phrases_.empty();
  if (query.name) {
    filter.tokenizer_.split(*query.name, filter.name_words_);
    if (!filter.name_words_.empty()) {
      add_and();
      filter.expression_ += "name : ";
      append_quoted(filter.expression_, *query.name);
    }
  }
  return filter;
}

bool LogFilter::holds(const std::vector<std::string>& words, const Phrase& phrase) {
  const auto& wanted = phrase.words;
  const auto same = [&](const std::string& word, const std::string& want) {
    return phrase.prefix && &want == &wanted.back() ? word.starts_with(want) : word == want;
  };
  return std::search(words.begin(), words.end(), wanted.begin(), wanted.end(), same) != words.end();
}

bool LogFilter::matches(std::string_view name, std::string_view data) {
  if (nothing_) return false;
  if (query_->name && *query_->name != name) return false;
  if (phrases_.empty()) return true;
  tokenizer_.split(name, name_words_);
  tokenizer_.split(data, data_words_);
  return std::all_of(phrases_.begin(), phrases_.end(),
                     [&](const Phrase& phrase) { return holds(name_words_, phrase) || holds(data_words_, phrase); });
}

}  // namespace flexi::stores::sqlite
