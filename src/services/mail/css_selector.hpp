// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "services/mail/html_elements.hpp"

namespace flexi::services::mail {

/// A condition on one attribute; classes and ids are such conditions too.
struct CssAttributeTest {
  enum class Kind { exists, equals, has_word, dash_prefix, prefix, suffix, contains };
  std::string name;  ///< lower case
  Kind kind = Kind::exists;
  std::string value;
};

/// What one element must be, e.g. `p.lead[lang]:first-child`.
struct CssCompound {
  enum class Combinator { descendant, child, next_sibling, later_sibling };
  Combinator to_left = Combinator::descendant;  ///< how it hangs on the compound to its left
  std::string tag;                              ///< lower case; empty: any
  std::vector<CssAttributeTest> tests;
  bool first_child = false;
  bool last_child = false;
};

/// Source: Selectors Level 3 section 9
struct CssSpecificity {
  unsigned ids = 0, classes = 0, tags = 0;
  auto operator<=>(const CssSpecificity&) const = default;
};

struct CssSelector {
  static constexpr std::size_t kMaxCompounds = 16;
  std::vector<CssCompound> compounds;  ///< left to right, never empty
  CssSpecificity specificity;
};

/// Type, universal, class, id and attribute selectors, :first-child, :last-child, and all four combinators.
/// @return none for what depends on the reader (a:hover, ::before) or is not understood: it stays in <style>
std::optional<CssSelector> parse_selector(std::string_view text);

/// What matching may cost before it is given up: a selector with many parts on a deep tree takes exponential time.
struct MatchBudget {
  std::size_t steps = 5'000'000;
  bool spend(std::size_t n = 1) {
    if (steps < n) return steps = 0, false;
    steps -= n;
    return true;
  }
};

/// Whether the element is the selector's. False once the budget is spent: ask it afterwards.
bool matches(const CssSelector& selector, const std::vector<HtmlElement>& elements, std::size_t index, MatchBudget& budget);

}  // namespace flexi::services::mail
