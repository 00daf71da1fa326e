// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/result.hpp"

namespace flexi::runtime::postgres {

/// A connection string, taken apart by libpq. Source: PostgreSQL manual, 34.1.1 (connection strings)
struct Conninfo {
  using Values = std::map<std::string, std::string>;
  struct Host {
    std::string name;     ///< empty or a folder: a Unix socket
    std::string address;  ///< given with hostaddr: nothing is to be resolved
    std::string port;
    /// A name that must be looked up before libpq connects, which would block the loop over it.
    bool wants_resolving() const;
  };

  Values values;
  std::vector<Host> hosts;  ///< at least one

  /// @return invalid_argument that says what would be right, without repeating anything of it
  static core::Result<Conninfo> parse(const std::string& dsn);
  /// "host:port/database": what messages and logs say.
  std::string where() const;
};

}  // namespace flexi::runtime::postgres
