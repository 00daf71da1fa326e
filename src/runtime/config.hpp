// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "runtime/options.hpp"

namespace flexi::runtime {

/// Where settings come from, weakest first: defaults, file, environment, flags.
struct ConfigSources {
  std::optional<std::string> file_name{};          ///< for messages
  std::optional<std::string> toml{};               ///< the file's text
  std::map<std::string, std::string> environment;  ///< the process's
  std::vector<std::pair<std::string, std::string>> flags;  ///< {"http-listen", "127.0.0.1:0"}
};

/// Any Options struct, seen through its describe().
using Describe = std::function<void(OptionVisitor&)>;

/// Fills the described options from all sources.
/// @return every problem at once: unknown keys (with the nearest known one), wrong types, bad values; empty: none.
///         An unknown FLEXI_ variable is a problem too; other variables are not ours.
Problems read_config(const Describe& describe, const ConfigSources& sources);

/// The effective settings as a TOML file with their comments. A secret that is set is a comment, so that the file
/// can be read beside whatever gives the secret.
std::string print_config(const Describe& describe);

struct FlagInfo {
  std::string flag;  ///< "http-listen"
  std::string env;   ///< "FLEXI_HTTP_LISTEN"
  std::string key;   ///< "http.listen"
  std::string doc;
  std::string value;   ///< as it stands now, as text
  bool is_bool = false;
  bool is_secret = false;
};
/// All described settings, for --help and shell completion.
std::vector<FlagInfo> list_settings(const Describe& describe);

/// The process's environment.
std::map<std::string, std::string> process_environment();

}  // namespace flexi::runtime
