// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "apps/settings.hpp"

namespace flexi::apps {

/// Serves everything in this process until SIGINT or SIGTERM.
/// @return the process's exit code
int serve_all_in_one(const Settings& settings);

}  // namespace flexi::apps
