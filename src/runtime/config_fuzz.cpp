// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdlib>

#include "runtime/config.hpp"

namespace {

using namespace flexi::runtime;

struct Section {
  std::string url;
  std::int64_t limit = 3;
  void describe(OptionVisitor& v) {
    v.field("url", url, "Where it is");
    v.field("limit", limit, "How many");
  }
};

/// One field of every kind, in the shapes that the program's own settings have.
struct Everything {
  std::string text = "default", secret;
  bool flag = false;
  std::int64_t number = 7;
  double ratio = 0.5;
  std::chrono::milliseconds time{250};
  std::vector<std::string> list{"a", "b"};
  Section inner;
  std::map<std::string, Section> named;
  void describe(OptionVisitor& v) {
    v.field("text", text, "Any text", {.also_env = "MAIL_HOST"});
    v.field("secret", secret, "A secret", {.secret = OptionVisitor::Secret::yes});
    v.field("flag", flag, "A switch");
    v.field("number", number, "A number");
    v.field("ratio", ratio, "A ratio");
    v.field("time", time, "A time");
    v.field("list", list, "Names");
    v.group("inner", "A group", inner);
    v.sections("named", "What the user names", "url", named);
  }
};

/// A TOML file, then, behind a line "%%", variables "NAME=value" and flags "--name=value", one a line.
ConfigSources sources_of(std::string_view input) {
  ConfigSources sources;
  const auto split = input.find("%%\n");
  sources.toml.emplace(input.substr(0, split));
  sources.file_name = "fuzz.toml";
  auto rest = split == input.npos ? std::string_view() : input.substr(split + 3);
  while (!rest.empty()) {
    const auto end = std::min(rest.find('\n'), rest.size());
    const auto line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    const auto equals = line.find('=');
    if (equals == line.npos) continue;
    std::string name(line.substr(0, equals)), value(line.substr(equals + 1));
    if (name.starts_with("--")) sources.flags.emplace_back(name.substr(2), std::move(value));
    else sources.environment.insert_or_assign(std::move(name), std::move(value));
  }
  return sources;
}

}  // namespace

// Every problem has a place and words; what is read without one is printed as TOML that is read as the same again.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  Everything read;
  const auto describe = [](Everything& options) { return [&options](OptionVisitor& v) { options.describe(v); }; };
  const auto problems = read_config(describe(read), sources_of(input));
  for (auto& problem : problems)
    if (problem.path.empty() || problem.message.empty()) std::abort();
  const auto printed = print_config(describe(read));
  (void)list_settings(describe(read));
  if (!problems.empty()) return 0;
  Everything again;
  again.secret = read.secret;  // no secret is printed: it comes from where it came from before
  ConfigSources file;
  file.toml = printed;
  if (!read_config(describe(again), file).empty() || print_config(describe(again)) != printed) {
    // A variable may hold bytes that are no text; no TOML file can.
    const bool ascii = std::all_of(printed.begin(), printed.end(), [](unsigned char c) { return c < 0x80; });
    if (ascii) std::abort();
  }
  return 0;
}
