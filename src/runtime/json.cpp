// SPDX-License-Identifier: Apache-2.0
#include "runtime/json.hpp"

#include <simdjson.h>

#include <charconv>
#include <cmath>

namespace flexi::runtime {

namespace {

/// Bytes of the valid UTF-8 sequence at the front; 0 where there is none. Source: RFC 3629 section 4
std::size_t utf8_sequence(std::string_view text) {
  auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  auto tail = [&](std::size_t i) { return (byte(i) & 0xc0) == 0x80; };
  const unsigned b0 = byte(0), b1 = byte(1);
  if (b0 < 0x80) return 1;
  if (b0 >= 0xc2 && b0 <= 0xdf) return tail(1) ? 2 : 0;
  if (b0 >= 0xe0 && b0 <= 0xef) {
    if (b0 == 0xe0 && b1 < 0xa0) return 0;
    if (b0 == 0xed && b1 > 0x9f) return 0;  // surrogates
    return tail(1) && tail(2) ? 3 : 0;
  }
  if (b0 >= 0xf0 && b0 <= 0xf4) {
    if (b0 == 0xf0 && b1 < 0x90) return 0;
    if (b0 == 0xf4 && b1 > 0x8f) return 0;
    return tail(1) && tail(2) && tail(3) ? 4 : 0;
  }
  return 0;
}

}  // namespace

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  std::size_t plain = 0;  // start of the run that needs no change
  const auto flush = [&](std::size_t end) { out.append(text, plain, end - plain); };
  for (std::size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c >= 0x20 && c < 0x80 && c != '"' && c != '\\') {
      ++i;
      continue;
    }
    if (c >= 0x80) {
      if (const auto size = utf8_sequence(text.substr(i)); size != 0) {
        i += size;
        continue;
      }
      flush(i);
      out += "\xEF\xBF\xBD";
    } else {
      flush(i);
      switch (c) {
        case '"': out += "\\\""; break;
        case '\\': out += "\\\\"; break;
        case '\n': out += "\\n"; break;
        case '\r': out += "\\r"; break;
        case '\t': out += "\\t"; break;
        case '\b': out += "\\b"; break;
        case '\f': out += "\\f"; break;
        default: {
          static constexpr char kHex[] = "0123456789abcdef";
          out += "\\u00";
          out += kHex[c >> 4];
          out += kHex[c & 15];
        }
      }
    }
    plain = ++i;
  }
  flush(text.size());
  out += '"';
}

void JsonWriter::separate() {
  if (comma_) out_ += ',';
  comma_ = true;
}

JsonWriter& JsonWriter::open(char bracket) {
  separate();
  out_ += bracket;
  comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::close(char bracket) {
  out_ += bracket;
  comma_ = true;
  return *this;
}

JsonWriter& JsonWriter::key(std::string_view name) {
  separate();
  append_json_string(out_, name);
  out_ += ':';
  comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::value(std::string_view text) {
  separate();
  append_json_string(out_, text);
  return *this;
}

JsonWriter& JsonWriter::value(double number) {
  if (!std::isfinite(number)) return raw("null");
  char text[32];
  auto [end, ec] = std::to_chars(text, text + sizeof text, number);
  return raw(std::string_view(text, static_cast<std::size_t>(end - text)));
}

JsonWriter& JsonWriter::raw(std::string_view json) {
  separate();
  out_ += json;
  return *this;
}

bool is_json(std::string_view text) {
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  return parser.parse(simdjson::padded_string(text)).get(root) == simdjson::SUCCESS;
}

core::Result<JsonObject> JsonObject::parse(std::string_view text) {
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  simdjson::dom::object object;
  simdjson::padded_string padded(text);
  if (parser.parse(padded).get(root)) return core::invalid_argument("the body must be one valid JSON object");
  if (root.get(object)) return core::invalid_argument("the body must be a JSON object");
  JsonObject result;
  for (auto [name, element] : object) {
    Value value;
    switch (element.type()) {
      case simdjson::dom::element_type::STRING: value = std::string(std::string_view(element)); break;
      case simdjson::dom::element_type::INT64: value = std::int64_t(element); break;
      case simdjson::dom::element_type::UINT64:
      case simdjson::dom::element_type::DOUBLE: value = double(element); break;
      case simdjson::dom::element_type::BOOL: value = bool(element); break;
      case simdjson::dom::element_type::NULL_VALUE: break;
      case simdjson::dom::element_type::ARRAY:
      case simdjson::dom::element_type::OBJECT: value = Raw{simdjson::minify(element)}; break;
    }
    result.fields_[std::string(name)] = std::move(value);
  }
  return result;
}

namespace {
core::Error wrong_type(std::string_view name, const char* right) { return core::invalid_argument(std::string(name) + " must be " + right); }
}  // namespace

/// None where it is missing or null.
const JsonObject::Value* JsonObject::ask(std::string_view name) const {
  if (std::find(asked_.begin(), asked_.end(), name) == asked_.end()) asked_.emplace_back(name);
  auto it = fields_.find(name);
  return it == fields_.end() || std::holds_alternative<std::monostate>(it->second) ? nullptr : &it->second;
}

core::Result<std::optional<std::string>> JsonObject::string(std::string_view name) const {
  auto* value = ask(name);
  if (!value) return std::optional<std::string>();
  if (auto* text = std::get_if<std::string>(value)) return std::optional<std::string>(*text);
  return wrong_type(name, "a string");
}

core::Result<std::optional<std::int64_t>> JsonObject::integer(std::string_view name) const {
  auto* value = ask(name);
  if (!value) return std::optional<std::int64_t>();
  if (auto* number = std::get_if<std::int64_t>(value)) return std::optional<std::int64_t>(*number);
  if (auto* text = std::get_if<std::string>(value)) {
    std::int64_t number = 0;
    auto [end, ec] = std::from_chars(text->data(), text->data() + text->size(), number);
    if (ec == std::errc() && end == text->data() + text->size() && !text->empty()) return std::optional<std::int64_t>(number);
  }
  return wrong_type(name, "an integer");
}

core::Result<std::optional<bool>> JsonObject::boolean(std::string_view name) const {
  auto* value = ask(name);
  if (!value) return std::optional<bool>();
  if (auto* flag = std::get_if<bool>(value)) return std::optional<bool>(*flag);
  if (auto* text = std::get_if<std::string>(value)) {
    if (*text == "true") return std::optional<bool>(true);
    if (*text == "false") return std::optional<bool>(false);
  }
  return wrong_type(name, "true or false");
}

core::Result<std::optional<std::vector<std::string>>> JsonObject::strings(std::string_view name) const {
  using Strings = std::vector<std::string>;
  auto* value = ask(name);
  if (!value) return std::optional<Strings>();
  auto* raw = std::get_if<Raw>(value);
  simdjson::dom::parser parser;
  simdjson::dom::array array;
  if (!raw || parser.parse(raw->json).get(array)) return wrong_type(name, "an array of strings");
  Strings all;
  for (auto element : array) {
    std::string_view text;
    if (element.get(text)) return wrong_type(name, "an array of strings");
    all.emplace_back(text);
  }
  return std::optional(std::move(all));
}

core::Result<std::string> JsonObject::required_string(std::string_view name) const {
  FLEXI_TRY(auto value, string(name));
  if (!value) return core::invalid_argument(std::string(name) + " is required");
  return *value;
}

core::Result<void> JsonObject::nothing_unknown() const {
  for (auto& [name, value] : fields_) {
    if (std::find(asked_.begin(), asked_.end(), name) != asked_.end()) continue;
    std::string known;
    for (auto& asked : asked_) known.append(known.empty() ? "" : ", ").append(asked);
    return core::invalid_argument("unknown parameter \"" + name.substr(0, 100) + "\": " + (known.empty() ? "there are none here" : "known are " + known));
  }
  return core::ok();
}

}  // namespace flexi::runtime
