// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.hpp"

namespace flexi::services::mail {

/// A stretch of the HTML text.
struct TextRange {
  std::size_t begin = 0;
  std::size_t end = 0;
};

struct HtmlAttribute {
  std::string name;  ///< lower case
  std::string value;
  TextRange range;  ///< name, = and value with its quotes
};

/// One start tag as it stands in the text, with its place in the tree.
struct HtmlElement {
  static constexpr int kNone = -1;

  std::string tag;  ///< lower case
  std::vector<HtmlAttribute> attributes;
  std::size_t after_name = 0;  ///< where the tag's name ends; 0: the text has no such tag (<html> left out)
  int parent = kNone;          ///< index of the parent element
  int previous = kNone;        ///< index of the element before it, below the same parent
  bool last_child = true;      ///< no element follows below the same parent

  const std::string* attribute(std::string_view name) const;
};

struct HtmlStyleElement {
  TextRange range;  ///< from <style> to </style>
  std::string css;
  std::string media;
};

struct HtmlElements {
  std::vector<HtmlElement> elements;  ///< in order of the text, without <head>, what is in it, and <style>
  std::vector<HtmlStyleElement> styles;
};

/// Reads HTML as a browser does and keeps where each tag stood.
/// @return invalid_argument where the text is so broken or so deep that reading it takes more than 64 MiB or a second
/// Source: HTML Living Standard section 13.2 (by gumbo)
core::Result<HtmlElements> read_html(std::string_view html);

}  // namespace flexi::services::mail
