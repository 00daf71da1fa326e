// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "core/user_store.hpp"
#include "runtime/sqlite/database.hpp"

namespace flexi::stores::sqlite {

/// Accounts in `database`; brings its tables up to date first. E-mails compare without case for ASCII letters only.
/// @return unavailable where the file can't be written; conflict where a newer program wrote it
/// Lifetime/threads: `database` outlives the store
core::Result<std::unique_ptr<core::UserStore>> open_user_store(runtime::sqlite::Database& database);

}  // namespace flexi::stores::sqlite
