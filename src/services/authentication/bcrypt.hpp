// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/result.hpp"

namespace flexi::services::authentication {

inline constexpr std::int64_t kMinBcryptCost = 4, kMaxBcryptCost = 16;

/// True for a whole bcrypt string as crypt(3) writes it, with a cost that may be asked of this machine (4 to 16).
/// Anything else would make crypt(3) fall back to DES, or fail.
bool is_bcrypt(std::string_view hash);
/// @param hash is_bcrypt
std::int64_t bcrypt_cost(std::string_view hash);

/// @return a new "$2b$" string with a salt of its own
core::Result<std::string> new_bcrypt(const std::string& password, std::int64_t cost);
/// Computes one bcrypt with the salt and the cost of `setting`.
/// @return empty where crypt(3) refuses
std::string bcrypt(const std::string& password, const std::string& setting);
/// A well-formed hash of nobody's password.
std::string nobodys_bcrypt(std::int64_t cost);

}  // namespace flexi::services::authentication
