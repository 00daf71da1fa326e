// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/sqlite/connection.hpp"

namespace flexi::stores::sqlite {

/// How far the indexes of words and of traces lag behind the entries. Both numbers are `seq`s: entries above `indexed` are not in it.
struct LogIndexState {
  std::int64_t indexed = 0;
  std::int64_t newest = 0;  ///< 0: there is no entry
};
core::Result<LogIndexState> read_index_state(runtime::sqlite::Connection& connection);

/// Indexes the oldest entries that are not yet, until `max_rows` or `max_bytes` is reached.
/// @return the state afterwards
core::Result<LogIndexState> index_rows(runtime::sqlite::Connection& connection, std::int64_t max_rows, std::size_t max_bytes);

}  // namespace flexi::stores::sqlite
