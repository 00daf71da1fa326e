// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace flexi::apps::cli {

/// What scripts can rely on.
enum ExitCode { exit_ok = 0, exit_refused = 1, exit_usage = 2, exit_unreachable = 3 };

/// How to reach a running FlexiConnect.
struct Target {
  std::string url{};
  std::string token_file{};  ///< administrator's token; empty: none
  bool json = false;         ///< print data as JSON instead of for people
};

struct SendOptions {
  std::string action;                ///< "log", "mail", "auth", or an action of the configuration
  std::vector<std::string> fields;   ///< "name=value" pairs of the payload
  std::string payload{};             ///< the payload as JSON instead; "-": from standard input
  std::string via{}, ack{}, key{};
  long timeout_ms = 0;               ///< 0: the server's default
  unsigned repeat = 1;               ///< how many times; progress is shown on a terminal
};

struct TailOptions {
  std::string name{}, words{};
  bool follow = true;
  unsigned lines = 10;                       ///< of those that are there already
  std::chrono::seconds reconnect_for{300};  ///< how long a server that went away is waited for
};

struct DlqOptions {
  enum class What { list, show, replay, discard } what = What::list;
  std::string id{};
  std::string action{};  ///< of the letter, where those of several have its id
  bool all = false;
  unsigned limit = 50;
  std::string cursor{};  ///< where an earlier page ended
  bool yes = false;      ///< don't ask before all are discarded
};

// Each prints its result on standard output, its errors on standard error, and returns an ExitCode.
int send(const Target& target, SendOptions options);
int tail(const Target& target, const TailOptions& options);
int dlq(const Target& target, const DlqOptions& options);
int status(const Target& target);
/// Where one message is. @return exit_refused also where nobody has heard of it
int receipt(const Target& target, const std::string& id, const std::string& action);
/// What became of all messages. @return exit_refused also where it does not add up
int ledger(const Target& target);
int healthcheck(const Target& target);

}  // namespace flexi::apps::cli
