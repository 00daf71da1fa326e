// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>

#include "runtime/options.hpp"

namespace flexi::runtime::postgres {

struct PostgresOptions {
  std::string dsn{};                ///< libpq's keyword string or URL; empty: there is no PostgreSQL
  std::int64_t connections = 4;     ///< per process, at most; half of them for writes, so that a slow one holds no look-up up
  std::int64_t pipeline_depth = 256;  ///< statements sent over one connection and not yet answered; the rest wait here
  std::int64_t queue_limit = 10'000;  ///< calls under way, reads and writes counted apart; one more is `overloaded`
  std::chrono::milliseconds connect_timeout{3'000};    ///< for one address, TLS and login included
  std::chrono::milliseconds statement_timeout{5'000};  ///< after which the server gives a statement up; a little later its connection is
  std::chrono::milliseconds reconnect_delay{100};      ///< grows to the next, with jitter
  std::chrono::milliseconds max_reconnect_delay{5'000};

  void describe(OptionVisitor& visitor);
  Problems validate() const;
};

}  // namespace flexi::runtime::postgres
