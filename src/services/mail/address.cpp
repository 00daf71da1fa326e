// SPDX-License-Identifier: Apache-2.0
#include "services/mail/address.hpp"

#include <idn2.h>
#include <simdjson.h>

#include <algorithm>

namespace flexi::services::mail {

namespace {

constexpr std::size_t kMaxAddressBytes = 254;
constexpr std::size_t kMaxLocalBytes = 64;
constexpr std::size_t kMaxNameBytes = 256;

bool is_alnum(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_atext(char c) { return is_alnum(c) || (c != '\0' && std::string_view("!#$%&'*+-/=?^_`{|}~").find(c) != std::string_view::npos); }

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool is_ascii_text(std::string_view text) {
  return std::none_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
}

/// The C1 controls and the Unicode line ends, which no atom needs and some readers obey.
bool holds_odd_control(std::string_view text) {
  for (std::size_t i = 0; i + 1 < text.size(); ++i) {
    if (text[i] == '\xc2' && static_cast<unsigned char>(text[i + 1]) < 0xa0) return true;
    if (text.substr(i, 3) == "\xe2\x80\xa8" || text.substr(i, 3) == "\xe2\x80\xa9") return true;
  }
  return false;
}

/// Source: RFC 5322 section 3.2.3 (dot-atom-text), RFC 6532 section 3.2 (atext holds UTF8-non-ascii)
bool is_dot_atom(std::string_view text) {
  if (text.empty() || text.front() == '.' || text.back() == '.' || text.find("..") != std::string_view::npos) return false;
  return std::all_of(text.begin(), text.end(), [](char c) { return c == '.' || is_atext(c) || static_cast<unsigned char>(c) >= 0x80; }) &&
         !holds_odd_control(text);
}

/// @return empty where it is no domain
std::string domain_to_ascii(std::string_view domain) {
  if (is_ascii_text(domain)) return std::string(domain);
  const std::string text(domain);
  char* ascii = nullptr;
  if (idn2_to_ascii_8z(text.c_str(), &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) != IDN2_OK) return {};
  std::string out(ascii);
  idn2_free(ascii);
  return out;
}

/// @return empty where it is none
std::string read_addr_spec(std::string_view text) {
  const auto at = text.rfind('@');
  if (at == std::string_view::npos || at > kMaxLocalBytes || text.size() > kMaxAddressBytes || !is_dot_atom(text.substr(0, at))) return {};
  const auto domain = domain_to_ascii(text.substr(at + 1));
  if (!is_domain(domain) || at + 1 + domain.size() > kMaxAddressBytes) return {};
  return std::string(text.substr(0, at + 1)) + domain;
}

core::Error not_an_address(std::string_view field, std::string_view text) {
  // A long hostile text stays out of the answer; the cut may not split a UTF-8 sequence.
  std::size_t end = std::min<std::size_t>(text.size(), 100);
  while (end > 0 && end < text.size() && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return core::invalid_argument(std::string(field) + ": '" + std::string(text.substr(0, end)) +
                                "' is not an e-mail address; write user@example.com or Name <user@example.com>");
}

/// The name in front of <…>, unquoted. None where its quotes are not well-formed.
bool read_name(std::string_view text, std::string& name) {
  if (text.empty() || text.front() != '"') {
    if (text.find_first_of("\"<>") != std::string_view::npos) return false;
    name = text;
    return true;
  }
  for (std::size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '"') return i + 1 == text.size();
    if (text[i] == '\\' && ++i == text.size()) return false;
    name += text[i];
  }
  return false;
}

}  // namespace

bool Address::is_ascii() const { return is_ascii_text(addr_spec); }

bool is_domain(std::string_view text) {
  if (text.empty() || text.size() > 253) return false;
  while (true) {
    const auto dot = text.find('.');
    const auto label = text.substr(0, dot);
    if (label.empty() || label.size() > 63 || label.front() == '-' || label.back() == '-') return false;
    if (!std::all_of(label.begin(), label.end(), [](char c) { return c == '-' || is_alnum(c); })) return false;
    if (dot == std::string_view::npos) return true;
    text.remove_prefix(dot + 1);
  }
}

core::Result<void> check_header_text(std::string_view field, std::string_view text, std::size_t max_bytes) {
  if (text.find_first_of(std::string_view("\r\n\0", 3)) != std::string_view::npos)
    return core::invalid_argument(std::string(field) + " must not contain line breaks or NUL");
  if (text.size() > max_bytes) return core::invalid_argument(std::string(field) + " must be at most " + std::to_string(max_bytes) + " bytes");
  if (!simdjson::validate_utf8(text.data(), text.size())) return core::invalid_argument(std::string(field) + " must be valid UTF-8");
  return core::ok();
}

core::Result<Address> parse_address(std::string_view field, std::string_view text) {
  FLEXI_TRY(check_header_text(field, text, kMaxAddressBytes + kMaxNameBytes + 8));
  const auto whole = trim(text);
  Address address;
  auto spec = whole;
  if (!whole.empty() && whole.back() == '>') {
    const auto open = whole.rfind('<');
    if (open == std::string_view::npos || !read_name(trim(whole.substr(0, open)), address.name)) return not_an_address(field, whole);
    spec = whole.substr(open + 1, whole.size() - open - 2);
  }
  address.addr_spec = read_addr_spec(spec);
  if (address.addr_spec.empty() || address.name.size() > kMaxNameBytes) return not_an_address(field, whole);
  return address;
}

core::Result<std::vector<Address>> parse_address_list(std::string_view field, std::string_view text) {
  std::vector<Address> addresses;
  bool quoted = false;
  std::size_t begin = 0;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    if (i < text.size()) {
      if (quoted && text[i] == '\\') ++i;
      else if (text[i] == '"') quoted = !quoted;
      if (i >= text.size() || text[i] != ',' || quoted) continue;
    }
    if (addresses.size() == kMaxRecipients)
      return core::invalid_argument(std::string(field) + " may hold at most " + std::to_string(kMaxRecipients) + " addresses");
    FLEXI_TRY(auto address, parse_address(field, text.substr(begin, i - begin)));
    addresses.push_back(std::move(address));
    begin = i + 1;
  }
  if (addresses.empty()) return not_an_address(field, text);
  return addresses;
}

}  // namespace flexi::services::mail
