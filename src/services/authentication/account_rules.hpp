// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "core/result.hpp"

namespace flexi::services::authentication {

/// What a new account must keep. Each says in one sentence what would be right, and never repeats a password.
/// @return invalid_argument that names the field
core::Result<void> check_email(std::string_view email);
core::Result<void> check_password(std::string_view password);
/// @param field the name's name, e.g. "first_name"
core::Result<void> check_person_name(std::string_view field, std::string_view name);

/// What a login may hold at all: no rule for new accounts here, or a stranger could learn from the answer.
core::Result<void> check_login(std::string_view email, std::string_view password);

}  // namespace flexi::services::authentication
