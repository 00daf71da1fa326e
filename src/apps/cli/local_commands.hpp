// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "apps/cli/client_commands.hpp"
#include "apps/settings.hpp"

namespace flexi::apps::cli {

struct UsersOptions {
  enum class What { add, list, disable, enable, remove, reset_password } what = What::list;
  std::string email{};
  std::string first_name{}, last_name{};
  bool json = false;
  bool create = false;  ///< add: make the data folder where there is none
};

/// User administration on the data folder itself, beside a running server or without one.
int users(const Settings& settings, const UsersOptions& options);
/// The same on a running server, over HTTP.
int users(const Target& target, const UsersOptions& options);

}  // namespace flexi::apps::cli
