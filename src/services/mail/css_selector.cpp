// SPDX-License-Identifier: Apache-2.0
#include "services/mail/css_selector.hpp"

#include "services/mail/css_declarations.hpp"

namespace flexi::services::mail {

namespace {

using Combinator = CssCompound::Combinator;
using Kind = CssAttributeTest::Kind;

constexpr std::string_view kBlank = " \t\r\n\f";

bool is_name_char(char c) {
  return c == '-' || c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || static_cast<unsigned char>(c) >= 0x80;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  return out;
}

class Parser {
 public:
  explicit Parser(std::string_view text) : rest_(trim_css(text)) {}

  std::optional<CssSelector> run() {
    CssSelector selector;
    auto combinator = Combinator::descendant;
    do {
      CssCompound compound;
      compound.to_left = combinator;
      if (selector.compounds.size() == CssSelector::kMaxCompounds || !read_compound(compound, selector.specificity)) return std::nullopt;
      selector.compounds.push_back(std::move(compound));
    } while (read_combinator(combinator));
    if (!rest_.empty()) return std::nullopt;
    return selector;
  }

 private:
  bool take(char c) {
    if (rest_.empty() || rest_.front() != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  void skip_blank() { rest_.remove_prefix(std::min(rest_.find_first_not_of(kBlank), rest_.size())); }

  std::string_view take_name() {
    std::size_t n = 0;
    while (n < rest_.size() && is_name_char(rest_[n])) ++n;
    // A number is no name. Source: CSS Syntax Module Level 3 section 4.3.9
    if (n > 0 && rest_.front() >= '0' && rest_.front() <= '9') return {};
    const auto name = rest_.substr(0, n);
    rest_.remove_prefix(n);
    return name;
  }

  bool read_combinator(Combinator& combinator) {
    const bool blank = !rest_.empty() && kBlank.find(rest_.front()) != std::string_view::npos;
    skip_blank();
    if (take('>')) combinator = Combinator::child;
    else if (take('+')) combinator = Combinator::next_sibling;
    else if (take('~')) combinator = Combinator::later_sibling;
    else if (blank && !rest_.empty()) combinator = Combinator::descendant;
    else return false;
    skip_blank();
    return true;
  }

  bool read_compound(CssCompound& compound, CssSpecificity& specificity) {
    bool any = take('*');
    if (const auto tag = any ? std::string_view() : take_name(); !tag.empty()) {
      compound.tag = lower(tag);
      ++specificity.tags;
      any = true;
    }
    while (!rest_.empty()) {
      bool good = true;
      if (take('#')) {
        good = read_named(compound, "id", Kind::equals);
        ++specificity.ids;
      } else if (take('.')) {
        good = read_named(compound, "class", Kind::has_word);
        ++specificity.classes;
      } else if (take('[')) {
        good = read_attribute(compound);
        ++specificity.classes;
      } else if (take(':')) {
        good = read_pseudo_class(compound);
        ++specificity.classes;
      } else {
        break;
      }
      if (!good) return false;
      any = true;
    }
    return any;
  }

  bool read_named(CssCompound& compound, const char* attribute, Kind kind) {
    const auto name = take_name();
    if (name.empty()) return false;
    compound.tests.push_back({attribute, kind, std::string(name)});
    return true;
  }

  bool read_pseudo_class(CssCompound& compound) {
    const auto name = lower(take_name());
    if (name == "first-child") return compound.first_child = true;
    if (name == "last-child") return compound.last_child = true;
    return false;
  }

  bool read_attribute(CssCompound& compound) {
    skip_blank();
    CssAttributeTest test;
    test.name = lower(take_name());
    if (test.name.empty()) return false;
    skip_blank();
    if (!take(']')) {
      if (take('~')) test.kind = Kind::has_word;
      else if (take('|')) test.kind = Kind::dash_prefix;
      else if (take('^')) test.kind = Kind::prefix;
      else if (take('$')) test.kind = Kind::suffix;
      else if (take('*')) test.kind = Kind::contains;
      else test.kind = Kind::equals;
      if (!take('=')) return false;
      skip_blank();
      if (!read_value(test.value)) return false;
      skip_blank();
      if (!take(']')) return false;
    }
    compound.tests.push_back(std::move(test));
    return true;
  }

  bool read_value(std::string& value) {
    if (rest_.empty()) return false;
    const char quote = rest_.front();
    if (quote != '"' && quote != '\'') {
      value = take_name();
      return !value.empty();
    }
    const auto end = rest_.find(quote, 1);
    if (end == std::string_view::npos) return false;
    value = rest_.substr(1, end - 1);
    rest_.remove_prefix(end + 1);
    return value.find('\\') == std::string::npos;
  }

  std::string_view rest_;
};

bool has_word(std::string_view text, std::string_view word) {
  if (word.empty()) return false;
  for (std::size_t at = text.find(word); at != std::string_view::npos; at = text.find(word, at + 1)) {
    const auto end = at + word.size();
    const bool starts = at == 0 || kBlank.find(text[at - 1]) != std::string_view::npos;
    if (starts && (end == text.size() || kBlank.find(text[end]) != std::string_view::npos)) return true;
  }
  return false;
}

bool passes(const CssAttributeTest& test, const HtmlElement& element) {
  const std::string* value = element.attribute(test.name);
  if (!value) return false;
  switch (test.kind) {
    case Kind::exists: return true;
    case Kind::equals: return *value == test.value;
    case Kind::has_word: return has_word(*value, test.value);
    case Kind::dash_prefix: return value->starts_with(test.value) && (value->size() == test.value.size() || (*value)[test.value.size()] == '-');
    // An empty value matches nothing. Source: Selectors Level 3 section 6.3.2
    case Kind::prefix: return !test.value.empty() && value->starts_with(test.value);
    case Kind::suffix: return !test.value.empty() && value->ends_with(test.value);
    case Kind::contains: return !test.value.empty() && value->find(test.value) != std::string::npos;
  }
  return false;
}

struct Matcher {
  const std::vector<HtmlElement>& elements;
  const CssSelector& selector;
  MatchBudget& budget;

  bool compound_matches(const CssCompound& compound, const HtmlElement& element) const {
    // Long class lists cost time as well.
    if (!budget.spend(1 + compound.tests.size() * element.attributes.size())) return false;
    if (!compound.tag.empty() && compound.tag != element.tag) return false;
    if (compound.first_child && element.previous != HtmlElement::kNone) return false;
    if (compound.last_child && !element.last_child) return false;
    for (const auto& test : compound.tests)
      if (!passes(test, element)) return false;
    return true;
  }

  /// As deep as the selector has compounds, at most kMaxCompounds.
  bool run(std::size_t compound, int index) const {
    const auto& element = elements[static_cast<std::size_t>(index)];
    if (!compound_matches(selector.compounds[compound], element)) return false;
    if (compound == 0) return true;
    switch (selector.compounds[compound].to_left) {
      case Combinator::child: return element.parent != HtmlElement::kNone && run(compound - 1, element.parent);
      case Combinator::next_sibling: return element.previous != HtmlElement::kNone && run(compound - 1, element.previous);
      case Combinator::descendant: return any(compound - 1, element.parent, &HtmlElement::parent);
      case Combinator::later_sibling: return any(compound - 1, element.previous, &HtmlElement::previous);
    }
    return false;
  }

  bool any(std::size_t compound, int index, int HtmlElement::*next) const {
    for (; index != HtmlElement::kNone && budget.steps > 0; index = elements[static_cast<std::size_t>(index)].*next)
      if (run(compound, index)) return true;
    return false;
  }
};

}  // namespace

std::optional<CssSelector> parse_selector(std::string_view text) { return Parser(text).run(); }

bool matches(const CssSelector& selector, const std::vector<HtmlElement>& elements, std::size_t index, MatchBudget& budget) {
  return Matcher{elements, selector, budget}.run(selector.compounds.size() - 1, static_cast<int>(index));
}

}  // namespace flexi::services::mail
