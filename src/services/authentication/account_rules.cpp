// SPDX-License-Identifier: Apache-2.0
#include "services/authentication/account_rules.hpp"

#include <simdjson.h>

#include <algorithm>

#include "services/authentication/password_hasher.hpp"

namespace flexi::services::authentication {

namespace {

constexpr std::size_t kMaxEmailBytes = 254;  // Source: RFC 5321 section 4.5.3.1.3, without the angle brackets
constexpr std::size_t kMaxNameBytes = 255;   // the contract's varchar(255)

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }
bool has_control(std::string_view text) { return std::any_of(text.begin(), text.end(), is_control); }
bool is_utf8(std::string_view text) { return simdjson::validate_utf8(text.data(), text.size()); }

core::Error password_too_long() { return core::invalid_argument("password must be at most 72 bytes long"); }

}  // namespace

core::Result<void> check_email(std::string_view email) {
  if (email.size() > kMaxEmailBytes) return core::invalid_argument("email must be at most 254 bytes long");
  const auto at = email.find('@');
  if (at == email.npos || at == 0 || at + 1 == email.size() || email.find('@', at + 1) != email.npos)
    return core::invalid_argument("email must look like name@example.com");
  if (has_control(email) || email.find(' ') != email.npos || !is_utf8(email))
    return core::invalid_argument("email must not hold spaces, control characters or invalid UTF-8");
  return core::ok();
}

core::Result<void> check_password(std::string_view password) {
  if (password.empty()) return core::invalid_argument("password must not be empty");
  if (password.size() > PasswordHasher::kMaxPasswordBytes) return password_too_long();
  if (password.find('\0') != password.npos || !is_utf8(password)) return core::invalid_argument("password must be UTF-8 without NUL");
  return core::ok();
}

core::Result<void> check_person_name(std::string_view field, std::string_view name) {
  if (name.size() > kMaxNameBytes) return core::invalid_argument(std::string(field) + " must be at most 255 bytes long");
  if (has_control(name) || !is_utf8(name)) return core::invalid_argument(std::string(field) + " must not hold control characters or invalid UTF-8");
  return core::ok();
}

core::Result<void> check_login(std::string_view email, std::string_view password) {
  if (email.find('\0') != email.npos) return core::invalid_argument("email must not hold NUL");
  if (password.size() > PasswordHasher::kMaxPasswordBytes) return password_too_long();
  // crypt(3) would read it up to there and take it for another password.
  if (password.find('\0') != password.npos) return core::invalid_argument("password must not hold NUL");
  return core::ok();
}

}  // namespace flexi::services::authentication
