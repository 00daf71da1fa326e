// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "core/result.hpp"

namespace ctemplate {
class TemplateDictionary;
}

namespace flexi::services::mail {

inline constexpr std::size_t kMaxTemplateValues = 1000;
inline constexpr unsigned kMaxTemplateDepth = 4;

/// Sets what a caller's JSON object holds: a text or a number is the variable of its name, and shows the section of that
/// name (unless the text is empty); true shows its section; an object is a section with variables of its own; an array shows
/// its section once for each element: an object's variables, or `item` where it is a text or a number.
/// @return invalid_argument that names what is wrong: a name that is none in a template (letters, digits, '_'), an array
///         within an array, more than kMaxTemplateValues values, deeper than kMaxTemplateDepth, a NUL character
core::Result<void> fill(ctemplate::TemplateDictionary& dictionary, std::string_view json);

/// Whether fill() would take it. Empty: there is none.
core::Result<void> check_template_data(std::string_view json);

}  // namespace flexi::services::mail
