// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/user_store.hpp"
#include "services/authentication/password_hasher.hpp"
#include "services/authentication/password_policy.hpp"

namespace flexi::services::authentication {

struct NewUser {
  std::string email;
  std::string first_name{};
  std::string last_name{};
  std::string password;
  bool active = true;
};

/// What is not there stays as it is.
struct UserChanges {
  std::optional<std::string> email{}, first_name{}, last_name{};
  std::optional<bool> active{};
};

/// What an administrator does to accounts. `who` is an e-mail, found as at a login, or a user's id.
/// Lifetime/threads: any thread; its collaborators outlive it
class UserAdministration {
 public:
  UserAdministration(core::UserStore& users, PasswordHasher& hasher, const PasswordPolicy& policy) : users_(users), hasher_(hasher), policy_(policy) {}

  /// @return the user as stored; invalid_argument that names the field; conflict for an e-mail that is taken
  core::awaitable<core::Result<core::User>> add(NewUser user, core::CallContext context);
  core::awaitable<core::Result<std::vector<core::User>>> list(core::CallContext context);
  core::awaitable<core::Result<core::User>> find(std::string who, core::CallContext context);
  /// @return the user as it is now; as add()
  core::awaitable<core::Result<core::User>> change(std::string who, UserChanges changes, core::CallContext context);
  /// @return the user as it is now
  core::awaitable<core::Result<core::User>> enable(std::string who, core::CallContext context);
  core::awaitable<core::Result<core::User>> disable(std::string who, core::CallContext context);
  /// @return the user as it was
  core::awaitable<core::Result<core::User>> remove(std::string who, core::CallContext context);
  core::awaitable<core::Result<core::User>> reset_password(std::string who, std::string password, core::CallContext context);

 private:
  core::UserStore& users_;
  PasswordHasher& hasher_;
  const PasswordPolicy& policy_;
};

/// Adds the contract's example user (admin@example.com) to a store that has no users.
/// @return whether it was added
core::awaitable<core::Result<bool>> ensure_example_user(core::UserStore& users, core::CallContext context);

}  // namespace flexi::services::authentication
