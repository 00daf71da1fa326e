// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/completion.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>
#include <iostream>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

namespace flexi::apps::cli {

namespace {

/// What an argument or an option's value can be, where that is a choice.
constexpr std::pair<std::string_view, std::string_view> kChoices[] = {
    {"send", "log mail auth"},         {"completion", "bash zsh fish"},       {"--via", "auto inproc http rpc grpc amqp"}, {"--ack", "accepted stored"},
    {"--log-format", "auto json human"}, {"--log-level", "debug info warning error"},
    {"export", "users logs all"},      {"--only", "users logs"},             {"--profile", "host container"},   {"--role", "broker authentication logger mail listener front-end"}};

std::string choices_of(std::string_view name) {
  for (auto& [key, choices] : kChoices)
    if (key == name) return std::string(choices);
  return "";
}

std::string joined(const std::vector<std::string>& words) {
  std::string all;
  for (auto& word : words) all += (all.empty() ? "" : " ") + word;
  return all;
}

/// What may stand after a command.
struct Offers {
  std::string words;  ///< its subcommands, or what its argument can be; empty: files
  std::string flags;
};

Offers offers_of(const CLI::App& app) {
  std::vector<std::string> words, flags;
  for (auto* sub : app.get_subcommands({})) words.push_back(sub->get_name());
  const auto add_flags = [&flags](const CLI::App& of) {
    for (auto* option : of.get_options())
      for (auto& name : option->get_lnames())
        if (auto flag = "--" + name; std::find(flags.begin(), flags.end(), flag) == flags.end()) flags.push_back(std::move(flag));
  };
  add_flags(app);
  // A role takes the program's own flags, the settings, too.
  if (auto* parent = app.get_parent(); parent && app.get_fallthrough()) add_flags(*parent);
  return {words.empty() ? choices_of(app.get_name()) : joined(words), joined(flags)};
}

/// `visit(path, app)` for the program ("") and each command below it ("users add").
void each_command(const CLI::App& app, const std::string& path, const std::function<void(const std::string&, const CLI::App&)>& visit) {
  visit(path, app);
  for (auto* sub : app.get_subcommands({})) each_command(*sub, path.empty() ? sub->get_name() : path + " " + sub->get_name(), visit);
}

/// Every flag that takes a value, as "|--url|--via|".
std::string flags_with_values(const CLI::App& app) {
  std::set<std::string> names;
  each_command(app, "", [&](const std::string&, const CLI::App& command) {
    for (auto* option : command.get_options())
      for (auto& name : option->get_lnames())
        if (option->get_expected_min() > 0 && option->get_type_size() > 0) names.insert("--" + name);
  });
  std::string all = "|";
  for (auto& name : names) all += name + "|";
  return all;
}

// zsh runs this too, and there `path` and `words` are special: hence other names.
void print_bash(const CLI::App& app) {
  std::string commands = "|";
  each_command(app, "", [&](const std::string& path, const CLI::App&) { commands += path + "|"; });
  std::cout << "_flexiconnect() {\n"
               "  local at= offers= flags= word before= valued='" << flags_with_values(app) << "'\n"
               "  local cur=\"${COMP_WORDS[COMP_CWORD]}\" prev=\"${COMP_WORDS[COMP_CWORD-1]}\"\n"
               "  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
               "    case $valued in *\"|$before|\"*) ;; *)\n"
               "      case '" << commands << "' in *\"|${at:+$at }$word|\"*) at=\"${at:+$at }$word\" ;; esac ;;\n"
               "    esac\n"
               "    before=$word\n"
               "  done\n"
               "  case $at in\n";
  each_command(app, "", [](const std::string& path, const CLI::App& command) {
    const auto offers = offers_of(command);
    std::cout << "    \"" << path << "\") offers=\"" << offers.words << "\" flags=\"" << offers.flags << "\" ;;\n";
  });
  std::cout << "  esac\n"
               "  case $cur in -*) offers=$flags ;; esac\n"
               "  case $valued in *\"|$prev|\"*) offers= ;; esac\n"
               "  case $prev in\n";
  for (auto& [name, choices] : kChoices)
    if (name.starts_with("--")) std::cout << "    " << name << ") offers=\"" << choices << "\" ;;\n";
  std::cout << "  esac\n"
               "  COMPREPLY=($(compgen -W \"$offers\" -- \"$cur\"))\n"
               "  [ -n \"$offers\" ] || COMPREPLY=($(compgen -f -- \"$cur\"))\n}\n"
               "complete -F _flexiconnect flexiconnect\n";
}

void print_fish(const CLI::App& app) {
  each_command(app, "", [](const std::string& path, const CLI::App& command) {
    std::string when = path.empty() ? "__fish_use_subcommand" : "__fish_seen_subcommand_from " + path;
    // "users list" and "dlq list" are told apart by both words.
    if (const auto space = when.find(' ', when.find(' ') + 1); space != when.npos) when.replace(space, 1, "; and __fish_seen_subcommand_from ");
    const auto offers = offers_of(command);
    std::cout << "complete -c flexiconnect " << (offers.words.empty() ? "" : "-f ") << "-n '" << when << "' -a '" << offers.words << " " << offers.flags << "'\n";
  });
}

}  // namespace

int print_completion(const CLI::App& app, const std::string& shell) {
  if (shell == "fish") {
    print_fish(app);
    return 0;
  }
  // zsh reads bash's completions through its own bridge.
  if (shell == "zsh") std::cout << "autoload -U +X bashcompinit && bashcompinit\n";
  print_bash(app);
  return 0;
}

}  // namespace flexi::apps::cli
