// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "runtime/log_sink.hpp"
#include "runtime/postgres/rows.hpp"

namespace flexi::runtime::postgres {

/// One step of a component's schema: applied once, in order, in a transaction, and recorded in public.flexi_migrations. Steps only add, so that
/// an older version of the program works on with them.
struct Migration {
  int version;           ///< 1, 2, 3, …
  std::string_view sql;  ///< one or more statements
};

/// An index that is made while the table is used, behind the start, and made again where an attempt broke off.
/// Source: PostgreSQL manual, CREATE INDEX, "Building Indexes Concurrently"
struct ConcurrentIndex {
  std::string name;  ///< in the schema public
  std::string on;    ///< "public.users (lower(email))"
};

/// A question that is asked once the schema is there, and who tells of its answer.
struct Notice {
  std::string sql;
  std::function<void(const Rows&, LogSink&)> tell;
};

/// What one store wants of the database.
struct Schema {
  std::string component;
  std::vector<Migration> steps{};
  std::string check{};  ///< a statement that fails where a table is not what the store needs
  std::vector<ConcurrentIndex> indexes{};
  std::vector<Notice> notices{};
  std::vector<Query> upkeep{};  ///< deletes some rows each time it is run: every ten minutes, until there are none
};

}  // namespace flexi::runtime::postgres
