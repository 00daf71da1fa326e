// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace flexi::services::mail {

struct CssDeclaration {
  std::string property;  ///< lower case
  std::string value;     ///< as written, without !important
  bool important = false;
};

/// The declarations of a rule's body or a style attribute. What is not one is left out, as a browser does.
/// Source: CSS Syntax Module Level 3 section 5.4.4
std::vector<CssDeclaration> parse_declarations(std::string_view text);

/// Adds `next` to what stands so far, which it overrides unless that is !important and it is not.
void cascade(std::vector<CssDeclaration>& declarations, const CssDeclaration& next);

/// "color:red;margin:0 !important"
std::string to_css(const std::vector<CssDeclaration>& declarations);

/// Where the text from `from` first holds one of `stops` outside strings, (), [] and escapes, else text.size().
std::size_t find_css(std::string_view text, std::size_t from, std::string_view stops);

std::string_view trim_css(std::string_view text);

}  // namespace flexi::services::mail
