// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "apps/settings.hpp"

namespace flexi::apps {

/// Serves what the settings' role has until SIGINT or SIGTERM, then stops cleanly. Everything in one process and one
/// service alone are the same composition.
/// @param settings validated ones
/// @return the exit code
int serve(const Settings& settings);

}  // namespace flexi::apps
