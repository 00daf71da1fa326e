// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/completion.hpp"

#include <CLI/CLI.hpp>
#include <iostream>

namespace flexi::apps::cli {

namespace {

std::string words_of(const CLI::App& app) {
  std::string words;
  for (auto* sub : app.get_subcommands({})) words += sub->get_name() + " ";
  for (auto* option : app.get_options())
    for (auto& name : option->get_lnames()) words += "--" + name + " ";
  if (!words.empty()) words.pop_back();
  return words;
}

/// `visit(path, words)` for the program ("") and each command below it ("users add").
void each_command(const CLI::App& app, const std::string& path, const std::function<void(const std::string&, const std::string&)>& visit) {
  visit(path, words_of(app));
  for (auto* sub : app.get_subcommands({})) each_command(*sub, path.empty() ? sub->get_name() : path + " " + sub->get_name(), visit);
}

void print_bash(const CLI::App& app) {
  std::cout << "_flexiconnect() {\n  local path= word\n  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n    case $word in -*) ;; *) path=\"${path:+$path }$word\" ;; esac\n"
               "  done\n  local words=\n  case $path in\n";
  each_command(app, "", [](const std::string& path, const std::string& words) { std::cout << "    \"" << path << "\") words=\"" << words << "\" ;;\n"; });
  std::cout << "  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n"
               "  [ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- \"${COMP_WORDS[COMP_CWORD]}\"))\n}\n"
               "complete -F _flexiconnect flexiconnect\n";
}

void print_fish(const CLI::App& app) {
  each_command(app, "", [](const std::string& path, const std::string& words) {
    const std::string when = path.empty() ? "__fish_use_subcommand" : "__fish_seen_subcommand_from " + path.substr(path.rfind(' ') + 1);
    std::cout << "complete -c flexiconnect -f -n '" << when << "' -a '" << words << "'\n";
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
