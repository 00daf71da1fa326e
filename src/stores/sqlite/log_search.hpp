// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "core/log_store.hpp"
#include "runtime/sqlite/connection.hpp"

struct Fts5Tokenizer;

namespace flexi::stores::sqlite {

/// Where a page ended: the next one begins just below. Newest first is the order of (created_at, seq), descending.
struct LogPosition {
  std::int64_t created_at = std::numeric_limits<std::int64_t>::max();
  std::int64_t seq = std::numeric_limits<std::int64_t>::max();
  friend auto operator<=>(const LogPosition&, const LogPosition&) = default;
};
std::string to_cursor(const LogPosition& position);
/// @return invalid_argument for anything that to_cursor() can't have made
core::Result<LogPosition> from_cursor(std::string_view cursor);

/// Cuts text into words exactly as the full text index does, by the index's own tokenizer.
/// Lifetime/threads: of its connection
class LogTokenizer {
 public:
  static core::Result<LogTokenizer> open(runtime::sqlite::Connection& connection);
  LogTokenizer(LogTokenizer&&) noexcept;
  ~LogTokenizer();
  /// Replaces `words`, reusing its memory.
  void split(std::string_view text, std::vector<std::string>& words) const;

 private:
  LogTokenizer() = default;
  Fts5Tokenizer* tokenizer_ = nullptr;
  void (*destroy_)(Fts5Tokenizer*) = nullptr;
  int (*tokenize_)(Fts5Tokenizer*, void*, int, const char*, int, int (*)(void*, int, const char*, int, int, int)) = nullptr;
};

/// Which entries a query asks for: as an expression for the index, and as a test of one entry that gives the same answer
/// for those that are not in the index yet.
/// Lifetime/threads: of its connection; `query` outlives it
class LogFilter {
 public:
  /// @return invalid_argument for too many words
  static core::Result<LogFilter> make(runtime::sqlite::Connection& connection, const core::LogQuery& query);

  /// Neither words nor a name: every entry.
  bool all() const { return phrases_.empty() && !query_->name && !nothing_; }
  /// Words were given, but none with a letter or digit.
  bool nothing() const { return nothing_; }
  /// A query in the index's language; empty where the index can't help. Without position and time.
  const std::string& expression() const { return expression_; }
  bool matches(std::string_view name, std::string_view data);

 private:
  struct Phrase {
    std::vector<std::string> words;
    bool prefix = false;  ///< the last word may go on
  };
  LogFilter(LogTokenizer tokenizer, const core::LogQuery& query) : tokenizer_(std::move(tokenizer)), query_(&query) {}
  static bool holds(const std::vector<std::string>& words, const Phrase& phrase);

  LogTokenizer tokenizer_;
  const core::LogQuery* query_;
  std::vector<Phrase> phrases_;
  std::string expression_;
  bool nothing_ = false;
  std::vector<std::string> name_words_, data_words_;  ///< kept for their memory
};

}  // namespace flexi::stores::sqlite
