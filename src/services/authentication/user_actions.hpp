// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "services/authentication/user_administration.hpp"

namespace flexi::services::authentication {

/// A user as the contract shows it; without the password.
std::string to_json(const core::User& user);

/// Answers "users.list", "users.get", "users.create", "users.update", "users.delete" and "users.reset_password": their parameters as
/// JSON to UserAdministration, and back. Whoever calls has made sure that an administrator asks.
/// Lifetime/threads: any thread; its collaborators outlive it
class UserActions final : public core::Handler {
 public:
  explicit UserActions(UserAdministration administration) : administration_(administration) {}
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override;

 private:
  core::awaitable<core::Result<core::Reply>> list(core::CallContext context);
  UserAdministration administration_;
};

}  // namespace flexi::services::authentication
