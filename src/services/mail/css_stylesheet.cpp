// SPDX-License-Identifier: Apache-2.0
#include "services/mail/css_stylesheet.hpp"

#include <algorithm>

namespace flexi::services::mail {

namespace {

/// Comments become a space, except in strings.
std::string without_comments(std::string_view css) {
  std::string out;
  out.reserve(css.size());
  char quote = 0;
  for (std::size_t i = 0; i < css.size(); ++i) {
    const char c = css[i];
    if (!quote && c == '/' && i + 1 < css.size() && css[i + 1] == '*') {
      const auto end = css.find("*/", i + 2);
      out += ' ';
      if (end == std::string_view::npos) break;
      i = end + 1;
      continue;
    }
    if (c == '\\' && i + 1 < css.size()) {
      out += c;
      out += css[++i];
      continue;
    }
    if (quote) {
      if (c == quote || c == '\n') quote = 0;
    } else if (c == '"' || c == '\'') {
      quote = c;
    }
    out += c;
  }
  // What hides a style sheet from browsers of the last century.
  for (std::string_view marker : {"<!--", "-->"})
    for (auto at = out.find(marker); at != std::string::npos; at = out.find(marker, at)) out.replace(at, marker.size(), " ");
  return out;
}

/// The end of the block that opens at `open` (past its brace), else css.size().
std::size_t block_end(std::string_view css, std::size_t open) {
  std::size_t depth = 0;
  for (std::size_t i = open; i < css.size(); ++i) {
    i = find_css(css, i, "{}");
    if (i == css.size()) break;
    if (css[i] == '{') ++depth;
    else if (--depth == 0) return i + 1;
  }
  return css.size();
}

class SheetParser {
 public:
  explicit SheetParser(std::string_view css) : css_(css) {}

  core::Result<CssStylesheet> run() {
    while (true) {
      at_ = css_.find_first_not_of(" \t\r\n\f;}", at_);
      if (at_ == std::string_view::npos) break;
      if (css_[at_] == '@') {
        read_at_rule();
        continue;
      }
      const auto open = find_css(css_, at_, "{");
      if (open == css_.size()) break;
      const auto end = block_end(css_, open);
      const bool closed = css_[end - 1] == '}' && end > open + 1;
      FLEXI_TRY(add_rule(css_.substr(at_, open - at_), css_.substr(open + 1, end - open - 1 - (closed ? 1 : 0))));
      at_ = end;
    }
    std::stable_sort(sheet_.rules.begin(), sheet_.rules.end(),
                     [](auto& a, auto& b) { return a.selector.specificity < b.selector.specificity; });
    return std::move(sheet_);
  }

 private:
  void read_at_rule() {
    const auto stop = find_css(css_, at_, ";{");
    const auto end = stop == css_.size() ? stop : css_[stop] == ';' ? stop + 1 : block_end(css_, stop);
    // One that nobody closed would swallow what is written behind it.
    if (css_[end - 1] == ';' || css_[end - 1] == '}') sheet_.left.append(css_.substr(at_, end - at_)).append("\n");
    at_ = end;
  }

  core::Result<void> add_rule(std::string_view selectors, std::string_view body) {
    auto declarations = std::make_shared<const std::vector<CssDeclaration>>(parse_declarations(body));
    if (declarations->empty()) return core::ok();
    std::string left;
    for (std::size_t at = 0; at <= selectors.size();) {
      const auto end = find_css(selectors, at, ",");
      const auto text = trim_css(selectors.substr(at, end - at));
      at = end + 1;
      if (text.empty()) continue;
      if (++selectors_ > CssStylesheet::kMaxRules)
        return core::invalid_argument("the style sheet has more than " + std::to_string(CssStylesheet::kMaxRules) + " selectors");
      if (auto selector = parse_selector(text)) {
        sheet_.rules.push_back({std::move(*selector), declarations});
      } else {
        if (!left.empty()) left += ',';
        left += text;
      }
    }
    if (left.empty()) return core::ok();
    auto forced = *declarations;
    for (auto& declaration : forced) declaration.important = true;
    sheet_.left.append(left).append("{").append(to_css(forced)).append("}\n");
    return core::ok();
  }

  std::string_view css_;
  std::size_t at_ = 0;
  std::size_t selectors_ = 0;
  CssStylesheet sheet_;
};

}  // namespace

core::Result<CssStylesheet> parse_stylesheet(std::string_view css) {
  const auto text = without_comments(css);
  return SheetParser(text).run();
}

}  // namespace flexi::services::mail
