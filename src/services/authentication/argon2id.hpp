// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/result.hpp"

namespace flexi::services::authentication {

/// What one Argon2id costs. Source: RFC 9106 section 3.1
struct Argon2Cost {
  std::int64_t memory_kib = 19 * 1024;
  std::int64_t iterations = 2;
  std::int64_t lanes = 1;

  bool operator==(const Argon2Cost&) const = default;
  /// Eight blocks of 1 KiB a lane at least, as the algorithm wants; and no more than a login may take of this machine.
  bool is_bearable() const;
};

inline constexpr std::int64_t kMinArgon2Kib = 1024, kMaxArgon2Kib = 1024 * 1024, kMaxArgon2Iterations = 64, kMaxArgon2Lanes = 16;

/// A hash in its parts.
struct Argon2Hash {
  Argon2Cost cost;
  std::string salt, digest;  ///< bytes

  /// "$argon2id$v=19$m=…,t=…,p=…$salt$digest".
  /// Source: https://github.com/P-H-C/phc-string-format/blob/master/phc-sf-spec.md
  std::string to_string() const;
  /// Strict: version 19, these three parameters in this order and in bounds, canonical base64 without padding, a salt of 8 to 64 bytes,
  /// a digest of 16 to 64. Anything else never gets near the library.
  static std::optional<Argon2Hash> parse(std::string_view text);
  /// A well-formed hash of nobody's password.
  static Argon2Hash of_nobody(const Argon2Cost& cost);
};

/// Computes one Argon2id in the calling thread, whatever number of lanes there are.
/// @param cost is_bearable()
/// @return `digest_bytes` bytes; overloaded where the machine has no memory left
core::Result<std::string> argon2id(const std::string& password, const std::string& salt, const Argon2Cost& cost, std::size_t digest_bytes);
/// @return a new hash with a salt of its own
core::Result<Argon2Hash> new_argon2id(const std::string& password, const Argon2Cost& cost);

}  // namespace flexi::services::authentication
