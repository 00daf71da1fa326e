// SPDX-License-Identifier: Apache-2.0
#include "services/mail/mime_encoding.hpp"

#include <algorithm>
#include <cstdint>

#include "runtime/base64.hpp"

namespace flexi::services::mail {

namespace {

constexpr std::size_t kMaxLine = 76;
constexpr char kHex[] = "0123456789ABCDEF";

bool is_printable_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
}

/// Encoded-words on a line each. 39 bytes make 64 columns, so the first fits beside a field's name.
std::string encoded_words(std::string_view text) {
  constexpr std::size_t kMaxBytes = 39;
  std::string out;
  while (!text.empty()) {
    std::size_t n = std::min(kMaxBytes, text.size());
    // A character may not be split between two words.
    while (n > 1 && n < text.size() && (static_cast<unsigned char>(text[n]) & 0xc0) == 0x80) --n;
    if (!out.empty()) out += "\r\n ";
    out.append("=?UTF-8?B?").append(runtime::base64_encode(text.substr(0, n))).append("?=");
    text.remove_prefix(n);
  }
  return out;
}

/// Folds at single spaces. False where a word is too long for a line.
bool fold(std::string_view text, std::size_t used, std::string& out) {
  std::size_t column = used;
  while (!text.empty()) {
    const auto space = text.find(' ', 1);
    const auto word = text.substr(0, space);
    if (word.size() + 1 > kMaxLine) return false;
    if (column + word.size() > kMaxLine && word.front() == ' ') {
      out += "\r\n";
      column = 0;
    }
    out += word;
    column += word.size();
    text.remove_prefix(word.size());
  }
  return true;
}

}  // namespace

std::string quoted_printable(std::string_view text) {
  std::string out;
  out.reserve(text.size() + text.size() / 8 + 16);
  std::size_t column = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\r' || c == '\n') {
      if (c == '\r' && i + 1 < text.size() && text[i + 1] == '\n') ++i;
      out += "\r\n";
      column = 0;
      continue;
    }
    const bool at_line_end = i + 1 == text.size() || text[i + 1] == '\r' || text[i + 1] == '\n';
    const bool blank = c == ' ' || c == '\t';
    const bool plain = blank ? !at_line_end : c > 0x20 && c < 0x7f && c != '=';
    const std::size_t width = plain ? 1 : 3;
    // The last column belongs to the soft break, unless the line ends here anyway.
    if (column + width > kMaxLine - (at_line_end ? 0 : 1)) {
      out += "=\r\n";
      column = 0;
    }
    if (plain) {
      out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out.append({'=', kHex[byte >> 4], kHex[byte & 15]});
    }
    column += width;
  }
  if (column > 0 || out.empty()) out += "\r\n";
  return out;
}

std::string encode_unstructured(std::string_view text, std::size_t used) {
  // Readers trim the ends, and take "=?" for an encoded-word.
  const bool faithful = is_printable_ascii(text) && text.find("=?") == std::string_view::npos &&
                        text.find("  ") == std::string_view::npos && (text.empty() || (text.front() != ' ' && text.back() != ' '));
  std::string folded;
  if (faithful && fold(text, used, folded)) return folded;
  return encoded_words(text);
}

std::string base64_body(std::string_view bytes) {
  constexpr std::size_t kBytesOfALine = kMaxLine / 4 * 3;
  std::string out;
  out.reserve(bytes.size() / 3 * 4 + bytes.size() / kBytesOfALine * 2 + 8);
  for (std::size_t i = 0; i < bytes.size(); i += kBytesOfALine) {
    runtime::append_base64(out, bytes.substr(i, kBytesOfALine));
    out += "\r\n";
  }
  return out;
}

std::string encode_parameter(std::string_view name, std::string_view value) {
  constexpr std::size_t kMaxValue = 50;  // columns of one line's piece
  const bool simple = is_printable_ascii(value) && value.size() <= kMaxValue;
  std::string out = ";\r\n ";
  if (simple) {
    out.append(name).append("=\"");
    for (char c : value) {
      if (c == '"' || c == '\\') out += '\\';
      out += c;
    }
    return out += '"';
  }
  std::string piece;
  std::size_t pieces = 0;
  const auto flush = [&] {
    if (pieces > 0) out += ";\r\n ";
    out.append(name).append("*").append(std::to_string(pieces)).append(pieces == 0 ? "*=UTF-8''" : "*=").append(piece);
    piece.clear();
    ++pieces;
  };
  for (char c : value) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.' || c == '_';
    if (piece.size() + 3 > kMaxValue) flush();
    const auto byte = static_cast<unsigned char>(c);
    if (plain) piece += c;
    else piece.append({'%', kHex[byte >> 4], kHex[byte & 15]});
  }
  flush();
  return out;
}

std::string encode_phrase(std::string_view name) {
  if (!is_printable_ascii(name) || name.find("=?") != std::string_view::npos || name.size() > 60) return encoded_words(name);
  const bool atoms = !name.empty() && name.front() != ' ' && name.back() != ' ' && name.find("  ") == std::string_view::npos &&
                     name.find_first_of("()<>[]:;@\\,.\"") == std::string_view::npos;
  if (atoms) return std::string(name);
  std::string quoted = "\"";
  for (char c : name) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted += '"';
}

}  // namespace flexi::services::mail
