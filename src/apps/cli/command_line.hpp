// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace flexi::apps::cli {

/// Everything the program can be asked to do, without arguments: serve all in one process.
/// @return the process's exit code, see ExitCode
int run_command_line(int argc, char** argv);

}  // namespace flexi::apps::cli
