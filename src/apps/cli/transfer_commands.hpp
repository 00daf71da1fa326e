// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "apps/settings.hpp"

namespace flexi::apps::cli {

struct ExportOptions {
  std::string what{};  ///< users, logs, all
  std::string file{};
  std::vector<std::string> from{};  ///< empty: where the settings keep it
};
int export_data(const Settings& settings, const ExportOptions& options);

struct ImportOptions {
  std::string file{};
  std::string only{};  ///< users or logs; empty: all that the file holds
  std::vector<std::string> to{};
};
int import_data(const Settings& settings, const ImportOptions& options);

}  // namespace flexi::apps::cli
