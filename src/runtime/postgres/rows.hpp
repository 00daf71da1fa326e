// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/request.hpp"

namespace flexi::runtime::postgres {

/// What a statement answered, in PostgreSQL's binary format.
/// Lifetime/threads: a value of one thread at a time
class Rows {
 public:
  Rows() = default;
  /// @param result a PGresult, which is the Rows' from now on
  explicit Rows(void* result);

  int size() const;
  /// How many rows an INSERT, UPDATE or DELETE touched.
  std::int64_t touched() const;
  bool is_null(int row, int column) const;
  /// "" where NULL. Valid as long as the Rows.
  std::string_view text(int row, int column) const;
  /// Of any integer type or boolean; 0 where NULL.
  std::int64_t integer(int row, int column) const;
  /// Of a timestamp, read as UTC where it has no zone; 1970 where NULL, the ends of what a Timestamp can hold where infinite.
  core::Timestamp time(int row, int column) const;
  /// Of a bytea; empty where NULL.
  std::string_view bytes(int row, int column) const { return text(row, column); }

 private:
  std::shared_ptr<void> result_;
};

/// A parameter of a statement. Each is cast in the statement's text ($1::text), which gives it its type.
struct Value {
  bool null = false;
  bool binary = false;
  std::string bytes{};
};
inline Value text(std::string value) { return {.binary = true, .bytes = std::move(value)}; }
inline Value number(std::int64_t value) { return {.bytes = std::to_string(value)}; }
inline Value truth(bool value) { return {.bytes = value ? "t" : "f"}; }
/// For $1::timestamp, which ignores the zone: UTC.
Value time(core::Timestamp value);
/// For $1::bytea.
Value bytes(std::string_view value);
/// For $1::text[].
Value text_array(const std::vector<std::string>& values);

/// A statement, prepared on each connection when it is first used there.
struct Statement {
  const char* name;  ///< unique in the program
  const char* sql;
};

struct Query {
  const Statement* statement;  ///< static
  std::vector<Value> values{};
};

/// Whether PostgreSQL takes it as text: UTF-8 without NUL.
bool is_text(std::string_view value);

}  // namespace flexi::runtime::postgres
