// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "services/mail/css_declarations.hpp"
#include "services/mail/css_selector.hpp"

namespace flexi::services::mail {

struct CssRule {
  CssSelector selector;
  std::shared_ptr<const std::vector<CssDeclaration>> declarations;  ///< shared by the selectors of one list; immutable
};

/// What <style> elements say, parted into what can stand in style attributes and what can't.
struct CssStylesheet {
  static constexpr std::size_t kMaxRules = 4000;

  std::vector<CssRule> rules;  ///< weakest first
  /// At-rules as they were, and rules for states of a reader (a:hover). The declarations of the latter are made
  /// !important, or the style attributes written from weaker rules would now beat them.
  std::string left;
};

/// @return invalid_argument for more than kMaxRules selectors
/// Source: CSS Syntax Module Level 3 section 5.4
core::Result<CssStylesheet> parse_stylesheet(std::string_view css);

}  // namespace flexi::services::mail
