// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "core/user_store.hpp"
#include "runtime/postgres/database.hpp"

namespace flexi::stores::postgres {

/// Accounts in the contract's table public.users, which may have been there before: columns may be NULL, e-mails may repeat. E-mails compare
/// without case as the database's collation has it. Times without zone are UTC.
/// @param database not yet started; its schema is made in the background, and until then the store is `unavailable`
/// Lifetime/threads: `database` outlives the store
std::unique_ptr<core::UserStore> open_user_store(runtime::postgres::Database& database);

}  // namespace flexi::stores::postgres
