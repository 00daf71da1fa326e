// SPDX-License-Identifier: Apache-2.0
#include "services/authentication/bcrypt.hpp"

#include <crypt.h>
#include <string.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

namespace flexi::services::authentication {

namespace {

constexpr std::size_t kHashBytes = 60, kPrefixBytes = 7;  // "$2b$12$", 22 of salt, 31 of digest

bool is_digit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

bool is_bcrypt(std::string_view hash) {
  if (hash.size() != kHashBytes || (!hash.starts_with("$2a$") && !hash.starts_with("$2b$") && !hash.starts_with("$2y$"))) return false;
  if (!is_digit(hash[4]) || !is_digit(hash[5]) || hash[6] != '$') return false;
  if (const auto cost = bcrypt_cost(hash); cost < kMinBcryptCost || cost > kMaxBcryptCost) return false;
  return std::all_of(hash.begin() + kPrefixBytes, hash.end(),
                     [](char c) { return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '/'; });
}

std::int64_t bcrypt_cost(std::string_view hash) { return (hash[4] - '0') * 10 + (hash[5] - '0'); }

core::Result<std::string> new_bcrypt(const std::string& password, std::int64_t cost) {
  const std::unique_ptr<char, decltype(&std::free)> setting(::crypt_gensalt_ra("$2b$", static_cast<unsigned long>(cost), nullptr, 0), &std::free);
  if (!setting) return core::internal("internal error", "crypt_gensalt_ra failed");
  auto hash = bcrypt(password, setting.get());
  if (!is_bcrypt(hash)) return core::internal("internal error", "crypt_r refused its own salt");
  return hash;
}

std::string bcrypt(const std::string& password, const std::string& setting) {
  auto data = std::make_unique<crypt_data>();  // 32 KiB
  const char* result = ::crypt_r(password.c_str(), setting.c_str(), data.get());
  std::string hash = result && result[0] == '$' ? result : "";
  ::explicit_bzero(data.get(), sizeof *data);
  return hash;
}

std::string nobodys_bcrypt(std::int64_t cost) {
  // Made by hand: computing a real one would hold up the start by a whole login's work.
  return std::string("$2b$") + static_cast<char>('0' + cost / 10) + static_cast<char>('0' + cost % 10) + "$abcdefghijklmnopqrstuu" + std::string(31, '.');
}

}  // namespace flexi::services::authentication
