// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <unordered_set>

#include "core/result.hpp"

namespace flexi::services::authentication {

/// What a new password must keep: long enough, and not one of those that everybody tries first. No rule about kinds of
/// characters: such rules make passwords worse. Source: NIST SP 800-63B section 5.1.1.2 (revision 3), 3.1.1.2 (revision 4)
/// Lifetime/threads: immutable, any thread
class PasswordPolicy {
 public:
  /// @param least_characters Unicode characters, not bytes
  explicit PasswordPolicy(std::int64_t least_characters) : least_(least_characters) {}

  /// Adds one password a line to those that are too common.
  /// @return unavailable where the file can't be read; invalid_argument where it is larger than 16 MiB
  core::Result<void> add_common(const std::string& file);

  /// @param owner what is known of the user: the e-mail and names, which a password must not be
  /// @return invalid_argument that says what would be right, and never repeats the password
  core::Result<void> check(std::string_view password, std::initializer_list<std::string_view> owner) const;

 private:
  std::int64_t least_;
  std::unordered_set<std::string> more_;  ///< folded
};

/// Whether a password is one that everybody tries first: a well-known word, whatever digits and signs stand around it or for its
/// letters, a walk over the keyboard, or a short piece again and again. Of our own making, by rule and by a list of words.
bool is_common_password(std::string_view password);

}  // namespace flexi::services::authentication
