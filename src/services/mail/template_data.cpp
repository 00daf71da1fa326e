// SPDX-License-Identifier: Apache-2.0
#include "services/mail/template_data.hpp"

#include <ctemplate/template.h>
#include <simdjson.h>

#include <algorithm>
#include <charconv>

namespace flexi::services::mail {

namespace dom = simdjson::dom;
using ctemplate::TemplateDictionary, ctemplate::TemplateString;

namespace {

constexpr std::string_view kItem = "item";
constexpr std::size_t kMaxName = 64;

TemplateString text_of(std::string_view text) { return TemplateString(text.data(), text.size()); }

bool is_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxName && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  });
}

std::string shown(std::string_view name) { return std::string(name.substr(0, std::min(kMaxName, name.size()))); }

class Filler {
 public:
  core::Result<void> object(TemplateDictionary& dictionary, dom::object values, unsigned depth) {
    if (depth > kMaxTemplateDepth) return core::invalid_argument("data must be at most " + std::to_string(kMaxTemplateDepth) + " objects deep");
    for (auto [name, element] : values) {
      if (!is_name(name)) return core::invalid_argument("data: '" + shown(name) + "' is no name of a template's variable: use letters, digits and _");
      FLEXI_TRY(value(dictionary, name, element, depth));
    }
    return core::ok();
  }

 private:
  core::Result<void> value(TemplateDictionary& dictionary, std::string_view name, dom::element element, unsigned depth) {
    if (++count_ > kMaxTemplateValues) return core::invalid_argument("data must hold at most " + std::to_string(kMaxTemplateValues) + " values");
    dom::object inner;
    dom::array array;
    bool flag = false;
    if (!element.get(inner)) return object(*dictionary.AddSectionDictionary(text_of(name)), inner, depth + 1);
    if (!element.get(array)) return section(dictionary, name, array, depth);
    if (!element.get(flag)) {
      if (flag) dictionary.ShowSection(text_of(name));
      return core::ok();
    }
    if (element.is_null()) return core::ok();
    FLEXI_TRY(const auto text, scalar(name, element));
    dictionary.SetValue(text_of(name), text);
    if (!text.empty()) dictionary.ShowSection(text_of(name));
    return core::ok();
  }

  core::Result<void> section(TemplateDictionary& dictionary, std::string_view name, dom::array array, unsigned depth) {
    for (auto element : array) {
      dom::object inner;
      auto& shown_once = *dictionary.AddSectionDictionary(text_of(name));
      if (!element.get(inner)) {
        if (++count_ > kMaxTemplateValues) return core::invalid_argument("data must hold at most " + std::to_string(kMaxTemplateValues) + " values");
        FLEXI_TRY(object(shown_once, inner, depth + 1));
        continue;
      }
      if (element.is_array()) return core::invalid_argument("data: " + shown(name) + " must not hold arrays: use objects");
      FLEXI_TRY(value(shown_once, kItem, element, depth));
    }
    return core::ok();
  }

  static core::Result<std::string> scalar(std::string_view name, dom::element element) {
    std::string_view text;
    if (!element.get(text)) {
      if (text.find('\0') != text.npos) return core::invalid_argument("data: " + shown(name) + " must not hold a NUL character");
      return std::string(text);
    }
    if (element.is_double()) {
      char digits[32];
      return std::string(digits, std::to_chars(digits, digits + sizeof digits, double(element)).ptr);
    }
    return std::string(simdjson::minify(element));
  }

  std::size_t count_ = 0;
};

}  // namespace

core::Result<void> fill(TemplateDictionary& dictionary, std::string_view json) {
  if (json.empty()) return core::ok();
  dom::parser parser;
  dom::object values;
  if (parser.parse(simdjson::padded_string(json)).get(values)) return core::invalid_argument("data must be a JSON object with the template's values");
  return Filler().object(dictionary, values, 1);
}

core::Result<void> check_template_data(std::string_view json) {
  if (json.empty()) return core::ok();
  TemplateDictionary unused("check");
  return fill(unused, json);
}

}  // namespace flexi::services::mail
