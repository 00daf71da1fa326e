// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace flexi::runtime {

/// One thing wrong with a setting: where it is and what would be right.
struct Problem {
  std::string path;     ///< dotted key, e.g. "http.max_body_bytes"
  std::string message;  ///< e.g. "must be 1 to 1073741824"
};
using Problems = std::vector<Problem>;

/// Visits the fields of an Options struct; reading a file, the environment, flags and printing are all such visits.
/// Each Options struct describes itself once:
///
///   struct HttpOptions {
///     std::string listen = "127.0.0.1:8080";
///     void describe(runtime::OptionVisitor& v) { v.field("listen", listen, "Address and port; port 0 picks a free one"); }
///     runtime::Problems validate() const;   // paths relative to this struct
///   };
///
/// A field `listen` in group `http` is `[http] listen` in the file, FLEXI_HTTP_LISTEN in the environment and
/// `--http-listen` as a flag.
class OptionVisitor {
 public:
  virtual ~OptionVisitor() = default;
  enum class Secret { no, yes };  ///< a secret prints as "***" and is no flag
  struct Extra {
    Secret secret = Secret::no;
    const char* also_env = nullptr;  ///< the contract's name of the same setting, e.g. "MAIL_HOST"
  };

  virtual void field(std::string_view key, std::string& value, std::string_view doc, Extra extra) = 0;
  virtual void field(std::string_view key, bool& value, std::string_view doc, Extra extra) = 0;
  virtual void field(std::string_view key, std::int64_t& value, std::string_view doc, Extra extra) = 0;
  virtual void field(std::string_view key, double& value, std::string_view doc, Extra extra) = 0;
  /// "250ms", "5s", "10m", "24h", "30d"; a bare number is milliseconds.
  virtual void field(std::string_view key, std::chrono::milliseconds& value, std::string_view doc, Extra extra) = 0;
  /// TOML array, or text separated by commas.
  virtual void field(std::string_view key, std::vector<std::string>& value, std::string_view doc, Extra extra) = 0;
  virtual void begin_group(std::string_view key, std::string_view doc) = 0;
  virtual void end_group() = 0;

  void field(std::string_view key, auto& value, std::string_view doc) { field(key, value, doc, Extra{}); }
  void group(std::string_view key, std::string_view doc, auto& options) {
    begin_group(key, doc);
    options.describe(*this);
    end_group();
  }
  /// Sections that the user names, one Options struct each: `[actions.resize]`, `[actions.report]`.
  /// @param sign the field that every section must have; the environment makes one by it: FLEXI_ACTIONS_RESIZE_URL
  template <class Options>
  void sections(std::string_view key, std::string_view doc, std::string_view sign, std::map<std::string, Options>& named) {
    for (auto& name : section_names(key, sign)) named.try_emplace(name);
    begin_group(key, doc);
    for (auto& [name, options] : named) group(name, std::string(doc) + ": " + name, options);
    end_group();
  }

 protected:
  /// The names that this visit's sources know; none where it only looks at what is there.
  virtual std::vector<std::string> section_names(std::string_view key, std::string_view sign) {
    (void)key, (void)sign;
    return {};
  }
};

/// `problems` of a nested Options struct, with their paths made absolute: append_problems(all, "http", http.validate()).
void append_problems(Problems& all, std::string_view group, const Problems& problems);

}  // namespace flexi::runtime
