// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/user_store.hpp"

namespace flexi::services::authentication {

struct TokenOptions {
  std::string issuer = "flexiconnect";
  std::chrono::milliseconds lifetime{60 * 60 * 1'000};
};

/// Signed tokens (JWT) that say who logged in. One key, one algorithm: the one that the key is for, whatever a token's header says.
/// Source: RFC 7519; RFC 8725 section 3.1
/// Lifetime/threads: immutable, any thread
class Tokens {
 public:
  static constexpr std::size_t kMaxBytes = 4096;

  /// @param key a PEM private key: P-256 (ES256) or RSA of 2048 bits or more (RS256); anything else is a secret of 32 bytes at
  ///            least, without the line end (HS256)
  /// @return invalid_argument that says what would be right, and never repeats the key
  static core::Result<std::unique_ptr<Tokens>> make(std::string_view key, TokenOptions options);
  /// As make(), from a file.
  static core::Result<std::unique_ptr<Tokens>> open(const std::string& key_file, TokenOptions options);
  ~Tokens();

  /// @return "header.claims.signature" with iss, sub (the id), email, iat, exp
  core::Result<std::string> issue(const core::User& user, core::Timestamp now) const;
  /// @return whose it is; unauthenticated where it is not ours, was changed, or has expired (`detail` says which)
  core::Result<std::int64_t> check(std::string_view token, core::Timestamp now) const;

 private:
  struct Impl;
  explicit Tokens(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Makes `file` with a new secret, mode 0600, unless it is there.
core::Result<void> ensure_token_key(const std::string& file);

}  // namespace flexi::services::authentication
