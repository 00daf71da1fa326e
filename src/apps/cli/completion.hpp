// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace flexi::apps::cli {

/// Prints a completion script made from the commands and flags that `app` has.
/// @param shell "bash", "zsh" or "fish"
/// @return an ExitCode
int print_completion(const CLI::App& app, const std::string& shell);

}  // namespace flexi::apps::cli
