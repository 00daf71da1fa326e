// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/command_line.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <deque>
#include <iostream>
#include <optional>

#include "apps/cli/client_commands.hpp"
#include "apps/cli/completion.hpp"
#include "apps/cli/local_commands.hpp"
#include "apps/cli/progress.hpp"
#include "apps/cli/transfer_commands.hpp"
#include "apps/data_directory.hpp"
#include "apps/serve.hpp"
#include "apps/settings.hpp"

#ifndef FLEXI_VERSION
#error "the build names the version"
#endif

namespace flexi::apps::cli {

namespace {

constexpr const char* kFooter =
    "Examples:\n"
    "  flexiconnect                                   serve everything in this process\n"
    "  flexiconnect --http-listen 127.0.0.1:0         … on a free port, which is printed\n"
    "  flexiconnect send log name=event data=hello --ack stored\n"
    "  flexiconnect send mail to=you@example.com subject=Hi message=Hello\n"
    "  echo secret | flexiconnect send auth email=admin@example.com\n"
    "  flexiconnect tail --name event\n"
    "  flexiconnect dlq list\n"
    "  flexiconnect receipt 01931b7c-…                where that message is\n"
    "  flexiconnect users add you@example.com\n"
    "  flexiconnect backup saved.db\n"
    "  flexiconnect export all moving.jsonl           users and log entries, for another store\n"
    "\n"
    "Every setting is a flag, a variable and a key of flexiconnect.toml: --http-listen, FLEXI_HTTP_LISTEN, [http] listen.\n"
    "`flexiconnect --help-all` lists the flags, `flexiconnect print-config` all settings with what they do.\n"
    "Exit codes: 0 done, 1 refused, 2 usage, 3 unreachable.";

constexpr const char* kPlaces =
    "A data folder, a PostgreSQL's DSN, a MongoDB's URI; or embedded, postgresql, mongodb, as the settings name them (default: whichever they name). "
    "Others see a password on the command line: put it into DSN and MONGO_URI";
constexpr const char* kServe = "Serve (without a command: everything in this process)";
constexpr const char* kAsk = "Ask a running server";
constexpr const char* kData = "Work on the data folder";
constexpr const char* kOther = "Settings and shell";

/// What is looked for most stands first: the commands and the examples, then the flags, of which there may be hundreds.
class CommandsFirst final : public CLI::Formatter {
 public:
  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override {
    if (app->get_parent() || mode == CLI::AppFormatMode::Sub) return CLI::Formatter::make_help(app, std::move(name), mode);
    return make_description(app) + make_usage(app, std::move(name)) + make_subcommands(app, mode) + "\n" + make_footer(app) + make_groups(app, mode);
  }
};

/// The settings' flags, collected as text: their types are the settings' own business.
struct SettingFlags {
  std::deque<std::pair<std::string, std::string>> given;
  std::string config_file;
  Role role = Role::all_in_one;

  /// @param group the help's heading for them; empty: it leaves them out
  void add_to(CLI::App& command, const std::string& group) {
    command.add_option("--config", config_file, "Settings file (default: ./flexiconnect.toml where it exists; FLEXI_CONFIG)");
    for (auto& setting : runtime::list_settings([](runtime::OptionVisitor& v) { Settings().describe(v); })) {
      if (setting.is_secret) continue;
      auto take = [this, flag = setting.flag](const std::string& value) { given.emplace_back(flag, value); };
      auto* option = command.add_option_function<std::string>("--" + setting.flag, take, setting.doc);
      option->group(group)->default_str(setting.value)->type_name("");
      // Without a value the flag means true; the help shows the default all the same.
      if (setting.is_bool) option->expected(0, 1)->default_str("true")->option_text("=" + setting.value);
    }
  }
  LoadedSettings load() const {
    return load_settings(role, config_file, {given.begin(), given.end()});
  }
};

int report(const runtime::Problems& problems) {
  for (auto& problem : problems) std::cerr << problem.path << ": " << problem.message << "\n";
  return exit_refused;
}

int report(const core::Error& error) {
  std::cerr << "flexiconnect: " << error.message << (error.detail.empty() ? "" : " (" + error.detail + ")") << "\n";
  return exit_refused;
}

int with_settings(const SettingFlags& flags, const std::function<int(const Settings&)>& run) {
  auto loaded = flags.load();
  if (!loaded.problems.empty()) return report(loaded.problems);
  return run(loaded.settings);
}

/// As a server starts: with what the settings lead to on this machine.
int with_servable_settings(const SettingFlags& flags, const std::function<int(const Settings&)>& run) {
  auto loaded = flags.load();
  const auto files = loaded.settings.check_files();
  loaded.problems.insert(loaded.problems.end(), files.begin(), files.end());
  if (!loaded.problems.empty()) return report(loaded.problems);
  return run(loaded.settings);
}

void add_target(CLI::App& command, Target& target, bool with_json) {
  command.add_option("--url", target.url, "Where FlexiConnect is; else where the settings let it listen")->envname("FLEXI_URL");
  command.add_option("--token-file", target.token_file, "File with the administrator's token")->envname("FLEXI_ADMIN_TOKEN_FILE");
  if (with_json) command.add_flag("--json", target.json, "Print data as JSON");
}

}  // namespace

int run_command_line(int argc, char** argv) {
  CLI::App app("FlexiConnect: one message, any transport, stored once.", "flexiconnect");
  app.footer(kFooter);
  app.set_version_flag("--version", "flexiconnect " FLEXI_VERSION);
  app.require_subcommand(0, 1);
  app.formatter(std::make_shared<CommandsFirst>());
  const bool all = std::any_of(argv, argv + argc, [](const char* argument) { return std::string_view(argument) == "--help-all"; });
  SettingFlags flags;
  flags.add_to(app, all ? "Settings" : "");
  int code = exit_ok;
  bool serve = true;
  Target target;
  /// The target, once the command line is read. Who only wants to reach a server need not have valid settings.
  auto reached = [&]() -> const Target& {
    if (target.url.empty()) target.url = flags.load().settings.local_url();
    return target;
  };
  /// A subcommand that runs `action` when it was given.
  auto command = [&](CLI::App& parent, const std::string& name, const std::string& what, std::function<int()> action,
                     const char* group = "Commands") -> CLI::App& {
    auto* sub = parent.add_subcommand(name, what)->group(group);
    sub->footer("");  // else each would repeat the program's examples
    if (action) sub->final_callback([&code, &serve, action = std::move(action)] { serve = false, code = action(); });
    return *sub;
  };

  for (auto& role : kRoles)
    if (!role.command.empty())
      command(app, std::string(role.command), std::string(role.what), [&] {
        flags.role = role.role;
        return with_servable_settings(flags, apps::serve);
      }, kServe).fallthrough()->footer("Every setting is a flag here, too: flexiconnect --help-all lists them.");

  SendOptions sending;
  auto& send_command = command(app, "send", "Send a request to a running broker", [&] { return send(reached(), sending); }, kAsk);
  send_command.add_option("action", sending.action, "log, mail, auth, or an action of the configuration")->required();
  send_command.add_option("fields", sending.fields, "The payload's fields, name=value each (auth asks for its password)");
  send_command.add_option("--payload", sending.payload, "The payload as JSON instead; - reads it from standard input");
  send_command.add_option("--via", sending.via, "auto, inproc, http, rpc, grpc, amqp");
  send_command.add_option("--ack", sending.ack, "accepted (durably queued) or stored (the destination has it)");
  send_command.add_option("--key", sending.key, "Idempotency key: the same key again is the same message");
  send_command.add_option("--timeout-ms", sending.timeout_ms, "How long to wait")->check(CLI::PositiveNumber);
  send_command.add_option("--repeat", sending.repeat, "How many times")->check(CLI::Range(1u, 1000000u));
  add_target(send_command, target, true);

  send_command.footer(
      "Examples:\n"
      "  flexiconnect send log name=event data=hello --ack stored\n"
      "  flexiconnect send log --payload '{\"name\":\"event\",\"data\":\"hello\"}' --via http --json\n"
      "  flexiconnect send mail to=you@example.com subject=Hi message=Hello\n"
      "  echo secret | flexiconnect send auth email=admin@example.com");

  TailOptions tailing;
  bool no_follow = false;
  long reconnect_seconds = tailing.reconnect_for.count();
  auto& tail_command = command(app, "tail", "Show the newest log entries, and those that come", [&] {
    tailing.follow = !no_follow;
    tailing.reconnect_for = std::chrono::seconds(reconnect_seconds);
    return tail(reached(), tailing);
  }, kAsk);
  tail_command.add_option("--name", tailing.name, "Only entries of this name");
  tail_command.add_option("-q,--query", tailing.words, "Only entries that hold these words");
  tail_command.add_option("-n,--lines", tailing.lines, "How many of those that are there already")->capture_default_str()->check(CLI::Range(0u, 500u));
  tail_command.add_flag("--no-follow", no_follow, "Don't wait for more");
  tail_command
      .add_option("--reconnect-for", reconnect_seconds,
                  "Seconds for which a server that went away is tried again; what was missed is shown then. 0: end at once")
      ->capture_default_str()->check(CLI::Range(0L, 86400L * 365));
  add_target(tail_command, target, true);

  UsersOptions user;
  auto& users_command = command(app, "users", "Administer accounts in the data folder, or, with --url, on a running server", nullptr, kData);
  users_command.require_subcommand(1);
  auto users_subcommand = [&](const char* name, const char* what, UsersOptions::What which) -> CLI::App& {
    auto& sub = command(users_command, name, what, [&, which] {
      user.what = which;
      if (!target.url.empty()) return users(target, user);
      return with_settings(flags, [&](const Settings& settings) { return users(settings, user); });
    });
    // No variable: who has set FLEXI_URL for the others did not mean this one.
    sub.add_option("--url", target.url, "A running server instead of the data folder");
    sub.add_option("--token-file", target.token_file, "File with the administrator's token, for --url")->envname("FLEXI_ADMIN_TOKEN_FILE");
    if (which != UsersOptions::What::list) sub.add_option("email", user.email, "E-mail address, or the account's id")->required();
    sub.add_flag("--json", user.json, "Print data as JSON");
    sub.add_option_function<std::string>("--data-dir", [&](const std::string& value) { flags.given.emplace_back("data-dir", value); }, "The data folder");
    return sub;
  };
  auto& add_command = users_subcommand("add", "Add an account; its password is typed, or read from standard input", UsersOptions::What::add);
  add_command.add_option("--first-name", user.first_name, "First name");
  add_command.add_option("--last-name", user.last_name, "Last name");
  add_command.add_flag("--create", user.create, "Make the data folder where there is none: a server finds the account when it uses this folder");
  users_subcommand("list", "List the accounts", UsersOptions::What::list);
  users_subcommand("disable", "Refuse this account's logins", UsersOptions::What::disable);
  users_subcommand("enable", "Accept them again", UsersOptions::What::enable);
  users_subcommand("delete", "Delete an account", UsersOptions::What::remove);
  users_subcommand("reset-password", "Set a new password, typed or from standard input", UsersOptions::What::reset_password);

  DlqOptions letters;
  auto& dlq_command = command(app, "dlq", "Messages that failed for good", nullptr, kAsk);
  dlq_command.require_subcommand(1);
  auto dlq_subcommand = [&](const char* name, const char* what, DlqOptions::What which) -> CLI::App& {
    auto& sub = command(dlq_command, name, what, [&, which] {
      letters.what = which;
      if (which != DlqOptions::What::list && letters.id.empty() == !letters.all) {
        std::cerr << "flexiconnect: give one id" << (which == DlqOptions::What::show ? "\n" : ", or --all\n");
        return int{exit_usage};
      }
      return dlq(reached(), letters);
    });
    if (which != DlqOptions::What::list) {
      sub.add_option("id", letters.id, "The message's id");
      sub.add_option("--action", letters.action, "log, mail, …: where messages of several have this id");
    }
    if (which == DlqOptions::What::replay || which == DlqOptions::What::discard) sub.add_flag("--all", letters.all, "All that are there now");
    if (which == DlqOptions::What::discard) sub.add_flag("-y,--yes", letters.yes, "Don't ask on a terminal");
    add_target(sub, target, true);
    return sub;
  };
  auto& list_command = dlq_subcommand("list", "List them, newest first", DlqOptions::What::list);
  list_command.add_option("--limit", letters.limit, "How many")->capture_default_str()->check(CLI::Range(1u, 500u));
  list_command.add_option("--cursor", letters.cursor, "Go on where an earlier list ended, which said how");
  dlq_subcommand("show", "Show one with its payload and reason", DlqOptions::What::show);
  dlq_subcommand("replay", "Put one, or all, back into the queue", DlqOptions::What::replay);
  dlq_subcommand("discard", "Drop one, or all, for good", DlqOptions::What::discard);

  std::string receipt_id, receipt_action;
  auto& receipt_command = command(app, "receipt", "Say where a message is, by its id or your idempotency key",
                                  [&] { return receipt(reached(), receipt_id, receipt_action); }, kAsk);
  receipt_command.add_option("id", receipt_id, "X-Flexi-Id of its answer, or the key that it was sent with")->required();
  receipt_command.add_option("--action", receipt_action, "log, mail, …: where one key was used for several");
  add_target(receipt_command, target, true);
  add_target(command(app, "ledger", "Add up what became of all accepted messages; exit code 1 where some are unaccounted for",
                     [&] { return ledger(reached()); }, kAsk), target, true);

  std::string file;
  using Copy = core::Result<void> (*)(const std::string& data_directory, const std::string& file, const Progress& progress);
  auto data_command = [&](const char* name, const char* what, Copy act, const char* said) {
    auto& sub = command(app, name, what, [&, act, said] {
      return with_settings(flags, [&](const Settings& settings) {
        const auto done = [&] {
          const ProgressLine line;
          return act(settings.data_dir, file, line.progress());
        }();
        if (!done) return report(done.error());
        std::cout << said << " " << file << "\n";
        return int{exit_ok};
      });
    }, kData);
    sub.add_option("file", file, "The backup")->required();
    sub.add_option_function<std::string>("--data-dir", [&](const std::string& value) { flags.given.emplace_back("data-dir", value); }, "The data folder");
  };
  data_command("backup", "Copy the data folder's contents into one file, while it is used or not", backup, "saved to");
  data_command("restore", "Make a data folder from a backup", restore, "restored from");

  ExportOptions exported;
  auto& export_command = command(app, "export", "Write users and log entries to a file, from the data folder or a database", [&] {
    return with_settings(flags, [&](const Settings& settings) { return export_data(settings, exported); });
  }, kData);
  export_command.add_option("what", exported.what, "users, logs or all")->required()->check(CLI::IsMember({"users", "logs", "all"}));
  export_command.add_option("file", exported.file, "The file; it must not exist")->required();
  export_command.add_option("--from", exported.from, kPlaces);
  export_command.footer("Cut short, the same command goes on where it ended. The file holds password hashes.");

  ImportOptions imported;
  auto& import_command = command(app, "import", "Put what `export` wrote into the data folder or a database", [&] {
    return with_settings(flags, [&](const Settings& settings) { return import_data(settings, imported); });
  }, kData);
  import_command.add_option("file", imported.file, "The file")->required();
  import_command.add_option("--only", imported.only, "users or logs; else all that the file holds")->check(CLI::IsMember({"users", "logs"}));
  import_command.add_option("--to", imported.to, kPlaces);
  import_command.footer("What is there already stays, so it may be run again: it goes on where it ended.");
  for (auto* moving : {&export_command, &import_command})
    moving->add_option_function<std::string>("--data-dir", [&](const std::string& value) { flags.given.emplace_back("data-dir", value); }, "The data folder");

  add_target(command(app, "status", "Show a running broker's health, rates, queue and addresses", [&] { return status(reached()); }, kAsk), target, true);
  add_target(command(app, "healthcheck", "Ask a running process whether it lives (for containers)", [&] { return healthcheck(reached()); }, kAsk), target, false);
  std::string role_name;
  auto add_role = [&](CLI::App& sub) {
    std::vector<std::string> names;
    for (auto& role : kRoles)
      if (!role.command.empty()) names.emplace_back(role.command);
    sub.fallthrough()->add_option("--role", role_name, "Of this service alone, which has other defaults")->check(CLI::IsMember(names));
  };
  auto take_role = [&] {
    for (auto& role : kRoles)
      if (role.command == role_name) flags.role = role.role;
  };
  add_role(command(app, "check-config", "Check the settings: every problem at once", [&] {
    take_role();
    return with_servable_settings(flags, [](const Settings&) {
      std::cout << "the settings are valid\n";
      return int{exit_ok};
    });
  }, kOther));
  add_role(command(app, "print-config", "Print the effective settings as a file, with what each does", [&] {
    take_role();
    return with_settings(flags, [](const Settings& settings) {
      Settings copy = settings;
      std::cout << runtime::print_config([&](runtime::OptionVisitor& v) { copy.describe(v); });
      return int{exit_ok};
    });
  }, kOther));
  command(app, "version", "Print the version", [] {
    std::cout << "flexiconnect " FLEXI_VERSION "\n";
    return int{exit_ok};
  }, kOther);
  std::string shell;
  command(app, "completion", "Print shell completion: source <(flexiconnect completion bash)", [&] { return print_completion(app, shell); }, kOther)
      .add_option("shell", shell, "bash, zsh or fish")->required()->check(CLI::IsMember({"bash", "zsh", "fish"}));

  app.add_flag_callback("--help-all", [&] {
    std::cout << app.get_formatter()->make_help(&app, app.get_name(), CLI::AppFormatMode::Normal);
    throw CLI::Success();
  }, "Show this with every setting's flag")->trigger_on_parse();

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // --help and --version "fail" with 0.
    return app.exit(error) == 0 ? exit_ok : exit_usage;
  }
  if (!serve) return code;
  return with_servable_settings(flags, apps::serve);
}

}  // namespace flexi::apps::cli
