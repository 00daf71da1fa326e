// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/result.hpp"

namespace flexi::apps::cli {

/// A password: typed without echo on a terminal, else the first line of standard input. Never an argument, which other
/// users could read in the process list.
core::Result<std::string> read_password(const std::string& prompt);

/// A password that is to be kept: on a terminal it is typed twice, for nobody sees what was typed.
core::Result<std::string> read_new_password();

/// The first line of a file, e.g. a mounted secret.
core::Result<std::string> read_secret_file(const std::string& file);

}  // namespace flexi::apps::cli
