// SPDX-License-Identifier: Apache-2.0
#include "services/mail/css_inliner.hpp"

#include <algorithm>
#include <vector>

#include "services/mail/css_stylesheet.hpp"

namespace flexi::services::mail {

namespace {

/// Replaces a stretch of the text; an empty stretch inserts.
struct Edit {
  TextRange range;
  std::string text;
};

std::size_t count_tags(std::string_view html) {
  std::size_t tags = 0;
  for (std::size_t at = html.find('<'); at != std::string_view::npos; at = html.find('<', at + 1)) ++tags;
  return tags;
}

core::Error too_big(const char* what, std::size_t limit) {
  return core::invalid_argument(std::string("the HTML is too big to inline its style: ") + what + " is " + std::to_string(limit));
}

/// A style sheet for other media than screens can't be inlined.
bool is_for_screen(const HtmlStyleElement& style) {
  const auto media = trim_css(style.media);
  return media.empty() || media == "all" || media == "screen";
}

std::string style_attribute(const std::vector<CssDeclaration>& declarations) {
  std::string out = "style=\"";
  for (char c : to_css(declarations)) {
    if (c == '"') out += "&quot;";
    else if (c == '&') out += "&amp;";
    else out += c;
  }
  return out += '"';
}

/// The declarations of the rules that match; empty where none does.
std::vector<CssDeclaration> style_of(const CssStylesheet& sheet, const std::vector<HtmlElement>& elements, std::size_t index, MatchBudget& budget) {
  std::vector<CssDeclaration> style;
  for (const auto& rule : sheet.rules) {
    if (!matches(rule.selector, elements, index, budget)) continue;
    for (const auto& declaration : *rule.declarations) {
      if (!budget.spend(1 + style.size())) return {};
      cascade(style, declaration);
    }
  }
  if (style.empty()) return style;
  if (const auto* own = elements[index].attribute("style")) {
    for (const auto& declaration : parse_declarations(*own)) {
      if (!budget.spend(1 + style.size())) return {};
      cascade(style, declaration);
    }
  }
  return style;
}

Edit edit_of(const HtmlElement& element, const std::vector<CssDeclaration>& style) {
  for (const auto& attribute : element.attributes)
    if (attribute.name == "style" && attribute.range.end > 0) return {attribute.range, style_attribute(style)};
  return {{element.after_name, element.after_name}, " " + style_attribute(style)};
}

/// The rules that stay go where the first <style> stood.
void replace_styles(const HtmlElements& html, const std::string& left, std::vector<Edit>& edits) {
  bool first = true;
  for (const auto& style : html.styles) {
    if (!is_for_screen(style)) continue;
    edits.push_back({style.range, first && !left.empty() ? "<style>\n" + left + "</style>" : std::string()});
    first = false;
  }
}

std::string apply(std::string_view html, std::vector<Edit>& edits) {
  std::stable_sort(edits.begin(), edits.end(), [](auto& a, auto& b) { return a.range.begin < b.range.begin; });
  std::string out;
  std::size_t at = 0;
  for (const auto& edit : edits) {
    // Broken HTML can give one stretch of text to two elements: the first keeps it.
    if (edit.range.begin < at || edit.range.end > html.size()) continue;
    out.append(html.substr(at, edit.range.begin - at)).append(edit.text);
    at = edit.range.end;
  }
  return out.append(html.substr(at));
}

}  // namespace

core::Result<std::string> inline_css(std::string_view html, const CssInlinerLimits& limits) {
  if (html.size() > limits.max_html_bytes) return too_big("the limit of bytes", limits.max_html_bytes);
  if (count_tags(html) > limits.max_tags) return too_big("the limit of tags", limits.max_tags);
  FLEXI_TRY(auto read, read_html(html));

  std::string css;
  for (const auto& style : read.styles)
    if (is_for_screen(style)) css.append(style.css).append("\n");
  if (css.size() > limits.max_css_bytes) return too_big("the limit of CSS bytes", limits.max_css_bytes);
  FLEXI_TRY(auto sheet, parse_stylesheet(css));

  std::vector<Edit> edits;
  MatchBudget budget;
  std::size_t output_bytes = html.size() + sheet.left.size();
  for (std::size_t i = 0; i < read.elements.size(); ++i) {
    if (read.elements[i].after_name == 0) continue;
    const auto style = style_of(sheet, read.elements, i, budget);
    if (budget.steps == 0) return core::invalid_argument("the style sheet takes too long to match: use fewer or simpler selectors");
    if (style.empty()) continue;
    edits.push_back(edit_of(read.elements[i], style));
    output_bytes += edits.back().text.size();
    if (output_bytes > limits.max_output_bytes) return too_big("the limit of bytes with styles", limits.max_output_bytes);
  }
  replace_styles(read, sheet.left, edits);
  return apply(html, edits);
}

}  // namespace flexi::services::mail
