// SPDX-License-Identifier: Apache-2.0
// What strangers and other programs' tables give us to read: tokens, stored hashes, addresses, passwords.
#include <cstdint>
#include <cstdlib>

#include "services/authentication/argon2id.hpp"
#include "services/authentication/bcrypt.hpp"
#include "services/authentication/lockout.hpp"
#include "services/authentication/password_policy.hpp"
#include "services/authentication/tokens.hpp"

using namespace flexi::services::authentication;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto tokens = Tokens::make(std::string(32, 'k'), {}).value();
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (tokens->check(text, {})) std::abort();  // its key is nobody's
  // What was read is written as it was: there is one text for each hash.
  if (const auto hash = Argon2Hash::parse(text); hash && (!hash->cost.is_bearable() || hash->to_string() != text)) std::abort();
  if (is_bcrypt(text) && (bcrypt_cost(text) < kMinBcryptCost || bcrypt_cost(text) > kMaxBcryptCost)) std::abort();
  (void)network_of(text);
  (void)PasswordPolicy(8).check(text, {text.substr(0, size / 2)});
  return 0;
}
