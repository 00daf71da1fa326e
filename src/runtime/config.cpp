// SPDX-License-Identifier: Apache-2.0
#include "runtime/config.hpp"

#include <unistd.h>

#include <charconv>
#include <fstream>
#include <iterator>
#include <set>
#include <toml++/toml.h>

extern char** environ;

namespace flexi::runtime {

namespace {

using std::chrono::milliseconds;

std::string join(const std::vector<std::string>& parts, std::string_view separator) {
  std::string text;
  for (auto& part : parts) {
    if (!text.empty()) text += separator;
    text += part;
  }
  return text;
}

std::vector<std::string> split_list(std::string_view text) {
  std::vector<std::string> items;
  while (!text.empty()) {
    const auto comma = std::min(text.find(','), text.size());
    auto item = text.substr(0, comma);
    while (!item.empty() && item.front() == ' ') item.remove_prefix(1);
    while (!item.empty() && item.back() == ' ') item.remove_suffix(1);
    if (!item.empty()) items.emplace_back(item);
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return items;
}

template <class Number>
bool parse_number(std::string_view text, Number& value) {
  auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  return ec == std::errc() && end == text.data() + text.size() && !text.empty();
}

constexpr const char* kFileSuffix = "_FILE";  // of the variable that names a file with a secret
constexpr const char* kHidden = "***";  // what stands where a secret is

constexpr std::pair<std::string_view, std::int64_t> kUnits[] = {{"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}, {"d", 86'400'000}};

/// A century: in nanoseconds it can still be added to, and taken from, any clock's time.
constexpr std::int64_t kLongestMs = 36'500 * std::int64_t{86'400'000};

bool parse_duration(std::string_view text, milliseconds& value) {
  const auto digits = std::min(text.find_first_not_of("0123456789"), text.size());
  std::int64_t number = 0;
  if (!parse_number(text.substr(0, digits), number)) return false;
  const auto unit = text.substr(digits);
  if (unit.empty() && number <= kLongestMs) return value = milliseconds(number), true;
  for (auto& [name, factor] : kUnits)
    if (unit == name && number <= kLongestMs / factor) return value = milliseconds(number * factor), true;
  return false;
}

std::string duration_text(milliseconds value) {
  for (auto unit = std::rbegin(kUnits); unit != std::rend(kUnits); ++unit)
    if (value.count() != 0 && value.count() % unit->second == 0) return std::to_string(value.count() / unit->second) + std::string(unit->first);
  return std::to_string(value.count()) + "ms";
}

/// Text as the environment and flags give it, into the field's type; else what would be right.
const char* assign(std::string_view text, std::string& value) { return value = text, nullptr; }
const char* assign(std::string_view text, bool& value) {
  if (text == "true" || text == "1" || text == "yes" || text == "on") return value = true, nullptr;
  if (text == "false" || text == "0" || text == "no" || text == "off") return value = false, nullptr;
  return "must be true or false";
}
const char* assign(std::string_view text, std::int64_t& value) { return parse_number(text, value) ? nullptr : "must be an integer"; }
const char* assign(std::string_view text, double& value) { return parse_number(text, value) ? nullptr : "must be a number"; }
const char* assign(std::string_view text, milliseconds& value) { return parse_duration(text, value) ? nullptr : "must be a duration such as 250ms, 5s, 10m, 24h or 30d, at most 36500d"; }
const char* assign(std::string_view text, std::vector<std::string>& value) { return value = split_list(text), nullptr; }

/// The same from a TOML node.
const char* assign(const toml::node& node, std::string& value) {
  auto text = node.value_exact<std::string>();
  return text ? (value = *text, nullptr) : "must be a string in quotes";
}
const char* assign(const toml::node& node, bool& value) {
  auto flag = node.value_exact<bool>();
  return flag ? (value = *flag, nullptr) : "must be true or false";
}
const char* assign(const toml::node& node, std::int64_t& value) {
  auto number = node.value_exact<std::int64_t>();
  return number ? (value = *number, nullptr) : "must be an integer";
}
const char* assign(const toml::node& node, double& value) {
  auto number = node.value<double>();
  return number && node.is_number() ? (value = *number, nullptr) : "must be a number";
}
const char* assign(const toml::node& node, milliseconds& value) {
  if (auto number = node.value_exact<std::int64_t>(); number && *number >= 0 && *number <= kLongestMs) return value = milliseconds(*number), nullptr;
  return assign(std::string_view(node.value_exact<std::string>().value_or("?")), value);
}
const char* assign(const toml::node& node, std::vector<std::string>& value) {
  const char* wrong = "must be a list of strings, e.g. [\"a\", \"b\"]";
  if (auto text = node.value_exact<std::string>()) return assign(std::string_view(*text), value);
  auto* array = node.as_array();
  if (!array) return wrong;
  std::vector<std::string> items;
  for (auto& item : *array) {
    auto text = item.value_exact<std::string>();
    if (!text) return wrong;
    items.push_back(*text);
  }
  value = std::move(items);
  return nullptr;
}

std::string text_of(const std::string& value) { return value; }
std::string text_of(bool value) { return value ? "true" : "false"; }
std::string text_of(std::int64_t value) { return std::to_string(value); }
std::string text_of(double value) {
  char text[32];
  auto [end, ec] = std::to_chars(text, text + sizeof text, value);
  return std::string(text, end);
}
std::string text_of(milliseconds value) { return duration_text(value); }
std::string text_of(const std::vector<std::string>& value) { return join(value, ","); }

std::string toml_text(const std::string& value) {
  std::string text = "\"";
  for (char c : value) {
    if (c == '"' || c == '\\') text += '\\';
    // Source: TOML 1.0, "String": control characters must be escaped
    if (const auto byte = static_cast<unsigned char>(c); byte >= 0x20 && byte != 0x7f) {
      text += c;
    } else {
      static constexpr char kHex[] = "0123456789abcdef";
      text.append("\\u00").append(1, kHex[byte >> 4]).append(1, kHex[byte & 15]);
    }
  }
  return text + '"';
}
std::string toml_text(const std::vector<std::string>& value) {
  std::vector<std::string> quoted;
  for (auto& item : value) quoted.push_back(toml_text(item));
  return "[" + join(quoted, ", ") + "]";
}
std::string toml_text(milliseconds value) { return toml_text(duration_text(value)); }
std::string toml_text(auto value) { return text_of(value); }

std::string upper(std::string_view key, char separator) {
  std::string text;
  for (char c : key) text += c == '.' || c == '-' ? separator : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

std::string env_name(std::string_view key) { return "FLEXI_" + upper(key, '_'); }

std::string flag_name(std::string_view key) {
  std::string text(key);
  for (char& c : text)
    if (c == '.' || c == '_') c = '-';
  return text;
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    auto diagonal = row[0]++;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const auto above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::string unknown(const std::string& name, const std::set<std::string>& known) {
  const std::string* nearest = nullptr;
  std::size_t best = 4;
  for (auto& candidate : known)
    if (auto distance = edit_distance(name, candidate); distance < best) best = distance, nearest = &candidate;
  return nearest ? "is not a known setting; did you mean " + *nearest + "?" : "is not a known setting; print-config lists them all";
}

/// One visit that calls `visit(key, value, doc, extra)` for every field, whatever its type, with its absolute key.
template <class Derived>
class EachField : public OptionVisitor {
 public:
  void field(std::string_view key, std::string& value, std::string_view doc, Extra extra) override { pass(key, value, doc, extra); }
  void field(std::string_view key, bool& value, std::string_view doc, Extra extra) override { pass(key, value, doc, extra); }
  void field(std::string_view key, std::int64_t& value, std::string_view doc, Extra extra) override { pass(key, value, doc, extra); }
  void field(std::string_view key, double& value, std::string_view doc, Extra extra) override { pass(key, value, doc, extra); }
  void field(std::string_view key, milliseconds& value, std::string_view doc, Extra extra) override { pass(key, value, doc, extra); }
  void field(std::string_view key, std::vector<std::string>& value, std::string_view doc, Extra extra) override { pass(key, value, doc, extra); }
  void begin_group(std::string_view key, std::string_view doc) override {
    groups_.emplace_back(key);
    static_cast<Derived*>(this)->group_begins(join(groups_, "."), doc);
  }
  void end_group() override { groups_.pop_back(); }
  void group_begins(const std::string&, std::string_view) {}

 protected:
  std::string absolute(std::string_view key) const {
    auto path = join(groups_, ".");
    if (!path.empty()) path += '.';
    return path.append(key);
  }

 private:
  void pass(std::string_view key, auto& value, std::string_view doc, Extra extra) {
    static_cast<Derived*>(this)->visit(absolute(key), value, doc, extra);
  }
  std::vector<std::string> groups_;
};

class Reader final : public EachField<Reader> {
 public:
  Reader(const ConfigSources& sources, const toml::table& file) : sources_(sources), file_(file) {}

  void visit(const std::string& key, auto& value, std::string_view, Extra extra) {
    keys_.insert(key);
    envs_.insert(env_name(key));
    if (extra.secret == Secret::yes) envs_.insert(env_name(key) + kFileSuffix);
    if (auto node = file_.at_path(key)) {
      if (auto* wrong = assign(*node.node(), value)) problems.push_back({key, std::string(wrong) + in_file()});
    }
    // The contract's own name is weaker than ours: it may be set for another program.
    if (extra.also_env) from_environment(extra.also_env, value, extra);
    from_environment(env_name(key), value, extra);
    if (extra.secret == Secret::yes && text_of(value) == kHidden)
      problems.push_back({key, "is \"***\", which earlier versions printed in a secret's place: set the secret itself"});
    if (extra.secret == Secret::yes) return;  // other users could read a secret flag in the process list
    flags_.insert(flag_name(key));
    for (auto& [flag, text] : sources_.flags)
      if (flag == flag_name(key))
        if (auto* wrong = assign(std::string_view(text), value)) problems.push_back({"--" + flag, std::string(wrong) + ", not \"" + text + "\""});
  }

  void find_unknown() {
    find_unknown_in(file_, "");
    for (auto& [name, text] : sources_.environment)
      if (name.starts_with("FLEXI_") && !envs_.contains(name)) problems.push_back({name, unknown(name, envs_)});
    for (auto& [flag, text] : sources_.flags)
      if (!flags_.contains(flag)) problems.push_back({"--" + flag, unknown(flag, flags_)});
  }

  Problems problems;

 protected:
  std::vector<std::string> section_names(std::string_view key, std::string_view sign) override {
    const auto table = absolute(key);
    tables_.insert(table);
    std::vector<std::string> names;
    if (auto* sections = file_.at_path(table).as_table())
      for (auto& [name, node] : *sections)
        if (node.is_table() && is_section_name(name.str())) names.emplace_back(name.str());
    // In capitals a name's dash and underscore are the same: what the file has goes before a new one.
    const auto before = env_name(table) + "_", after = "_" + upper(sign, '_');
    for (auto& [variable, text] : sources_.environment) {
      if (!variable.starts_with(before) || !variable.ends_with(after) || variable.size() <= before.size() + after.size()) continue;
      auto name = variable.substr(before.size(), variable.size() - before.size() - after.size());
      if (std::any_of(names.begin(), names.end(), [&](auto& known) { return upper(known, '_') == name; })) continue;
      for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      if (is_section_name(name)) names.push_back(name);
    }
    return names;
  }

 private:
  static bool is_section_name(std::string_view name) {
    return !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '_'; });
  }
  void from_environment(const std::string& name, auto& value, Extra extra) {
    if (extra.secret == Secret::yes) from_secret_file(name, value);
    auto it = sources_.environment.find(name);
    if (it == sources_.environment.end()) return;
    if (auto* wrong = assign(std::string_view(it->second), value)) problems.push_back({name, std::string(wrong) + " (environment)"});
  }
  /// NAME_FILE names a file with the secret, which is how Docker and Kubernetes hand them out; editors end it with a line break.
  void from_secret_file(const std::string& name, auto& value) {
    const auto variable = name + kFileSuffix;
    auto it = sources_.environment.find(variable);
    if (it == sources_.environment.end() || it->second.empty()) return;
    if (sources_.environment.contains(name)) return problems.push_back({variable, "stands beside " + name + ": set one of them"});
    std::ifstream in(it->second, std::ios::binary);
    std::string text(std::istreambuf_iterator<char>(in), {});
    if (!in || in.bad()) return problems.push_back({variable, it->second + " can't be read"});
    while (text.ends_with('\n') || text.ends_with('\r')) text.pop_back();
    if (text.empty()) return problems.push_back({variable, it->second + " is empty"});
    if (auto* wrong = assign(std::string_view(text), value)) problems.push_back({variable, wrong});
  }
  void find_unknown_in(const toml::table& table, const std::string& prefix) {
    for (auto& [name, node] : table) {
      const auto key = prefix + std::string(name.str());
      if (!prefix.empty() && tables_.contains(prefix.substr(0, prefix.size() - 1)) && !is_section_name(name.str())) {
        problems.push_back({key, "a name may only hold letters, digits, - and _" + in_file()});
        continue;
      }
      const bool is_group = tables_.contains(key) || std::any_of(keys_.begin(), keys_.end(), [&](auto& known) { return known.starts_with(key + "."); });
      if (auto* inner = node.as_table(); inner && is_group) find_unknown_in(*inner, key + ".");
      else if (!keys_.contains(key)) problems.push_back({key, unknown(key, keys_) + in_file()});
    }
  }
  std::string in_file() const { return sources_.file_name ? " (" + *sources_.file_name + ")" : ""; }

  const ConfigSources& sources_;
  const toml::table& file_;
  std::set<std::string> keys_, envs_, flags_;
  std::set<std::string> tables_;  ///< whose sections the user names
};

/// A TOML table's own keys stand before its inner tables, in whatever order they were described.
class Printer final : public EachField<Printer> {
 public:
  void group_begins(const std::string& path, std::string_view doc) { sections_.push_back({path, "\n# " + std::string(doc) + "\n[" + path + "]\n"}); }
  void visit(const std::string& key, auto& value, std::string_view doc, Extra extra) {
    const auto dot = key.rfind('.');
    const auto name = key.substr(dot + 1), path = dot == key.npos ? "" : key.substr(0, dot);
    auto& text = std::find_if(sections_.begin(), sections_.end(), [&](auto& section) { return section.path == path; })->text;
    const bool hidden = extra.secret == Secret::yes && !text_of(value).empty();
    text += "# " + std::string(doc) + " (" + env_name(key) + (extra.also_env ? std::string(", ") + extra.also_env : "") +
            (extra.secret == Secret::yes ? "; a file that holds it: the same with _FILE" : "") + ")\n";
    // A comment: who reads this file must not take it for the secret.
    if (hidden) text += "# " + name + " = \"" + kHidden + "\"  (set)\n";
    else text += name + " = " + toml_text(value) + "\n";
  }
  std::string take() {
    std::string all;
    for (auto& section : sections_) all += section.text;
    return all;
  }

 private:
  struct Section {
    std::string path, text;
  };
  std::vector<Section> sections_{{"", ""}};
};

class Lister final : public EachField<Lister> {
 public:
  void visit(const std::string& key, auto& value, std::string_view doc, Extra extra) {
    const bool secret = extra.secret == Secret::yes;
    settings.push_back({flag_name(key), env_name(key), key, std::string(doc), secret ? kHidden : text_of(value),
                        std::is_same_v<std::remove_cvref_t<decltype(value)>, bool>, secret});
  }
  std::vector<FlagInfo> settings;
};

}  // namespace

void append_problems(Problems& all, std::string_view group, const Problems& problems) {
  for (auto& problem : problems) all.push_back({std::string(group) + "." + problem.path, problem.message});
}

Problems read_config(const Describe& describe, const ConfigSources& sources) {
  toml::table file;
  if (sources.toml) {
    try {
      file = toml::parse(*sources.toml);
    } catch (const toml::parse_error& error) {
      const auto& where = error.source().begin;
      return {{sources.file_name.value_or("configuration"),
               "line " + std::to_string(where.line) + ", column " + std::to_string(where.column) + ": " + std::string(error.description())}};
    }
  }
  Reader reader(sources, file);
  describe(reader);
  reader.find_unknown();
  return reader.problems;
}

std::string print_config(const Describe& describe) {
  Printer printer;
  describe(printer);
  return printer.take();
}

std::vector<FlagInfo> list_settings(const Describe& describe) {
  Lister lister;
  describe(lister);
  return lister.settings;
}

std::map<std::string, std::string> process_environment() {
  std::map<std::string, std::string> result;
  for (char** entry = environ; *entry; ++entry) {
    std::string_view text = *entry;
    if (const auto equals = text.find('='); equals != text.npos) result.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return result;
}

}  // namespace flexi::runtime
