// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "core/ledger.hpp"
#include "runtime/postgres/database.hpp"

namespace flexi::stores::postgres {

/// The ledger's numbers in a database, beside what they count. All processes of one database have one book: who adds accounts up counts it once.
/// @param database not yet started
/// Lifetime/threads: any thread; `database` outlives it
std::unique_ptr<core::LedgerSource> open_ledger(runtime::postgres::Database& database);

}  // namespace flexi::stores::postgres
