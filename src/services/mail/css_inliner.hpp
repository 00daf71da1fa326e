// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "core/result.hpp"

namespace flexi::services::mail {

struct CssInlinerLimits {
  std::size_t max_html_bytes = 8u << 20;    ///< a message of 1 MiB grows to up to 6 MiB when it is escaped
  std::size_t max_css_bytes = 256u << 10;   ///< of all <style> elements together
  std::size_t max_tags = 20'000;
  std::size_t max_output_bytes = 16u << 20;
};

/// The same HTML with its <style> rules as style attributes, because many mail readers ignore <style>. Everything else
/// stays byte for byte; what can't be inlined (at-rules, a:hover, <style media=print>) stays in a <style>. A style
/// attribute beats rules without !important.
/// @return invalid_argument where a limit is passed; never anything else for any input, and never more than a few
///         seconds
/// Lifetime/threads: any thread, no state
core::Result<std::string> inline_css(std::string_view html, const CssInlinerLimits& limits = {});

}  // namespace flexi::services::mail
