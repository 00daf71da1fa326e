// SPDX-License-Identifier: Apache-2.0
#include "runtime/postgres/options.hpp"

#include "runtime/postgres/conninfo.hpp"

namespace flexi::runtime::postgres {

using std::chrono::milliseconds;

void PostgresOptions::describe(OptionVisitor& v) {
  v.field("dsn", dsn, "PostgreSQL, as libpq takes it: \"host=postgres port=5432 user=u password=p dbname=users sslmode=disable\" or "
          "postgresql://u:p@postgres/users",
          {.secret = OptionVisitor::Secret::yes, .also_env = "DSN"});
  v.field("connections", connections, "Connections of this process, at most; half of them are for writes");
  v.field("pipeline_depth", pipeline_depth, "Statements sent over one connection and not yet answered");
  v.field("queue_limit", queue_limit, "Reads, and writes, under way; one more is refused with 429");
  v.field("connect_timeout", connect_timeout, "For one address to be reached, TLS and login included");
  v.field("statement_timeout", statement_timeout,
          "After which PostgreSQL gives a statement up; one that answers nothing for 2 s more loses its connection");
  v.field("reconnect_delay", reconnect_delay, "First pause before connecting again");
  v.field("max_reconnect_delay", max_reconnect_delay, "Longest pause before connecting again");
}

Problems PostgresOptions::validate() const {
  Problems problems;
  if (dsn.empty()) return problems;
  if (auto parsed = Conninfo::parse(dsn); !parsed) problems.push_back({"dsn", parsed.error().message});
  auto check = [&](const char* path, std::int64_t value, std::int64_t least, std::int64_t most) {
    if (value < least || value > most) problems.push_back({path, "must be " + std::to_string(least) + " to " + std::to_string(most)});
  };
  auto check_time = [&](const char* path, milliseconds value, milliseconds least, milliseconds most) {
    if (value < least || value > most)
      problems.push_back({path, "must be " + std::to_string(least.count()) + "ms to " + std::to_string(most.count()) + "ms"});
  };
  check("connections", connections, 2, 1'000);
  check("pipeline_depth", pipeline_depth, 1, 10'000);
  check("queue_limit", queue_limit, 1, 10'000'000);
  check_time("connect_timeout", connect_timeout, milliseconds(20), milliseconds(60'000));
  check_time("statement_timeout", statement_timeout, milliseconds(10), milliseconds(3'600'000));
  check_time("reconnect_delay", reconnect_delay, milliseconds(1), milliseconds(60'000));
  check_time("max_reconnect_delay", max_reconnect_delay, reconnect_delay, milliseconds(3'600'000));
  return problems;
}

}  // namespace flexi::runtime::postgres
