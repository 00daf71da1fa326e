// SPDX-License-Identifier: Apache-2.0
#include "services/mail/css_declarations.hpp"

#include <algorithm>

namespace flexi::services::mail {

namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

bool equals_lower(std::string_view text, std::string_view lower_text) {
  return text.size() == lower_text.size() && std::equal(text.begin(), text.end(), lower_text.begin(), [](char a, char b) { return lower(a) == b; });
}

bool is_property(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return c == '-' || c == '_' || (c >= '0' && c <= '9') || (lower(c) >= 'a' && lower(c) <= 'z');
  });
}

}  // namespace

std::string_view trim_css(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n\f";
  const auto begin = text.find_first_not_of(kBlank);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlank) - begin + 1);
}

std::size_t find_css(std::string_view text, std::size_t from, std::string_view stops) {
  char quote = 0;
  std::size_t depth = 0;
  for (std::size_t i = from; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\\') {
      ++i;
    } else if (quote) {
      // A line break ends a string that nobody closed. Source: CSS Syntax Module Level 3 section 4.3.5
      if (c == quote || c == '\n') quote = 0;
    } else if (depth == 0 && stops.find(c) != std::string_view::npos) {
      return i;
    } else if (c == '"' || c == '\'') {
      quote = c;
    } else if (c == '(' || c == '[') {
      ++depth;
    } else if ((c == ')' || c == ']') && depth > 0) {
      --depth;
    }
  }
  return text.size();
}

std::vector<CssDeclaration> parse_declarations(std::string_view text) {
  std::vector<CssDeclaration> declarations;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = find_css(text, at, ";");
    const auto one = text.substr(at, end - at);
    at = end + 1;
    const auto colon = one.find(':');
    if (colon == std::string_view::npos) continue;
    const auto property = trim_css(one.substr(0, colon));
    auto value = trim_css(one.substr(colon + 1));
    CssDeclaration declaration;
    if (const auto bang = value.rfind('!'); bang != std::string_view::npos && equals_lower(trim_css(value.substr(bang + 1)), "important")) {
      declaration.important = true;
      value = trim_css(value.substr(0, bang));
    }
    // A brace would close the rule that the declaration is written into.
    if (!is_property(property) || value.empty() || value.find_first_of("{}") != std::string_view::npos) continue;
    declaration.property.resize(property.size());
    std::transform(property.begin(), property.end(), declaration.property.begin(), lower);
    declaration.value = value;
    declarations.push_back(std::move(declaration));
  }
  return declarations;
}

void cascade(std::vector<CssDeclaration>& declarations, const CssDeclaration& next) {
  auto same = std::find_if(declarations.begin(), declarations.end(), [&](auto& d) { return d.property == next.property; });
  if (same != declarations.end()) {
    if (same->important && !next.important) return;
    declarations.erase(same);  // the winner goes to the end: a later short form resets an earlier long one
  }
  declarations.push_back(next);
}

std::string to_css(const std::vector<CssDeclaration>& declarations) {
  std::string out;
  for (const auto& declaration : declarations) {
    if (!out.empty()) out += ';';
    out.append(declaration.property).append(":").append(declaration.value);
    if (declaration.important) out += " !important";
  }
  return out;
}

}  // namespace flexi::services::mail
