// SPDX-License-Identifier: Apache-2.0
#include "services/authentication/password_policy.hpp"

#include <algorithm>
#include <fstream>

#include "services/authentication/account_rules.hpp"

namespace flexi::services::authentication {

namespace {

constexpr std::streamoff kMaxFileBytes = 16 << 20;

/// ASCII alone: what a store folds of an e-mail is no more.
std::string folded(std::string_view text) {
  std::string out(text);
  for (auto& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

std::int64_t characters(std::string_view utf8) {
  return std::count_if(utf8.begin(), utf8.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; });
}

bool is_one_of_owners(const std::string& password, std::initializer_list<std::string_view> owner) {
  for (auto text : owner) {
    const auto name = folded(text);
    if (!name.empty() && (password == name || password == name.substr(0, name.find('@')))) return true;
  }
  return false;
}

}  // namespace

core::Result<void> PasswordPolicy::add_common(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return core::unavailable("can't read the list of common passwords " + file);
  in.seekg(0, std::ios::end);
  if (in.tellg() > kMaxFileBytes) return core::invalid_argument("the list of common passwords " + file + " must be at most 16 MiB");
  in.seekg(0);
  for (std::string line; std::getline(in, line);) {
    if (line.ends_with('\r')) line.pop_back();
    if (!line.empty()) more_.insert(folded(line));
  }
  return core::ok();
}

core::Result<void> PasswordPolicy::check(std::string_view password, std::initializer_list<std::string_view> owner) const {
  FLEXI_TRY(check_password(password));
  if (characters(password) < least_) return core::invalid_argument("password must be at least " + std::to_string(least_) + " characters long");
  const auto known = folded(password);
  if (is_one_of_owners(known, owner)) return core::invalid_argument("password must not be its user's e-mail address or name");
  if (more_.contains(known) || is_common_password(password))
    return core::invalid_argument("password is one of those that are tried first: choose one that is not a common word or a pattern");
  return core::ok();
}

}  // namespace flexi::services::authentication
