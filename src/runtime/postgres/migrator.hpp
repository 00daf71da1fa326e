// SPDX-License-Identifier: Apache-2.0
// Private to this folder's sources: it includes libpq's header.
#pragma once

#include "runtime/postgres/plain_connection.hpp"
#include "runtime/postgres/schema.hpp"

namespace flexi::runtime::postgres {

/// Applies what is lacking. Safe when several processes start at once: one of them does it, under an advisory lock.
/// @return unavailable, with words that say what to do
core::awaitable<core::Result<void>> migrate(PlainConnection& connection, const std::vector<Schema>& schemas, LogSink& log);
/// What takes long, or only tells: indexes and notices. The stores work without.
/// @return unavailable where the connection is lost; what the database refuses is logged
core::awaitable<core::Result<void>> finish_schemas(PlainConnection& connection, const std::vector<Schema>& schemas, LogSink& log);

}  // namespace flexi::runtime::postgres
