// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/result.hpp"

namespace flexi::runtime {

/// Appends `text` as a JSON string. `text` is UTF-8; bytes that are not become U+FFFD, so the output is always JSON.
/// Source: RFC 8259 section 7
void append_json_string(std::string& out, std::string_view text);

/// Writes one JSON value from left to right; commas are its own business.
class JsonWriter {
 public:
  JsonWriter& begin_object() { return open('{'); }
  JsonWriter& end_object() { return close('}'); }
  JsonWriter& begin_array() { return open('['); }
  JsonWriter& end_array() { return close(']'); }
  JsonWriter& key(std::string_view name);
  JsonWriter& value(std::string_view text);
  JsonWriter& value(const char* text) { return value(std::string_view(text)); }
  JsonWriter& value(bool flag) { return raw(flag ? "true" : "false"); }
  JsonWriter& value(std::integral auto number) { return raw(std::to_string(number)); }
  JsonWriter& value(double number);
  /// A value that is JSON already.
  JsonWriter& raw(std::string_view json);
  template <class V>
  JsonWriter& field(std::string_view name, const V& v) {
    return key(name).value(v);
  }
  std::string take() { return std::move(out_); }

 private:
  JsonWriter& open(char bracket);
  JsonWriter& close(char bracket);
  void separate();
  std::string out_;
  bool comma_ = false;
};

/// True where the text is exactly one JSON value (with white space around it) in valid UTF-8.
bool is_json(std::string_view text);

/// The fields of one JSON object, for parameters of administrative actions (the hot path reads with its own codec).
/// Reading a field with the wrong type is invalid_argument that names the field and what would be right.
class JsonObject {
 public:
  /// @return invalid_argument unless `text` is one JSON object
  static core::Result<JsonObject> parse(std::string_view text);

  bool has(std::string_view name) const { return fields_.find(name) != fields_.end(); }
  /// Missing or null: none.
  core::Result<std::optional<std::string>> string(std::string_view name) const;
  /// A number, or its decimal text (query parameters are text).
  core::Result<std::optional<std::int64_t>> integer(std::string_view name) const;
  /// true, false, or their text.
  core::Result<std::optional<bool>> boolean(std::string_view name) const;
  /// An array of strings.
  core::Result<std::optional<std::vector<std::string>>> strings(std::string_view name) const;
  /// As above, but missing is invalid_argument "<name> is required".
  core::Result<std::string> required_string(std::string_view name) const;
  /// Once all that is known has been asked for by the calls above: a field that nobody asked for is a mistake of the caller's.
  /// @return invalid_argument that names it and what is known
  core::Result<void> nothing_unknown() const;

 private:
  struct Raw { std::string json; };  ///< arrays and objects
  using Value = std::variant<std::monostate, std::string, std::int64_t, double, bool, Raw>;
  const Value* ask(std::string_view name) const;
  std::map<std::string, Value, std::less<>> fields_;
  mutable std::vector<std::string> asked_;
};

}  // namespace flexi::runtime
