// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/secret.hpp"

#include <termios.h>
#include <unistd.h>

#include <fstream>
#include <iostream>

namespace flexi::apps::cli {

namespace {

/// Echo off while it lives. What was typed before is dropped: nobody knew what for.
class Quiet {
 public:
  Quiet() {
    ::tcgetattr(STDIN_FILENO, &before_);
    termios quiet = before_;
    quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
  }
  ~Quiet() { ::tcsetattr(STDIN_FILENO, TCSADRAIN, &before_); }
  Quiet(const Quiet&) = delete;
  Quiet& operator=(const Quiet&) = delete;

 private:
  termios before_{};
};

core::Result<std::string> read_line() {
  std::string line;
  if (!std::getline(std::cin, line)) return core::invalid_argument("no password was given: type it, or pipe it in");
  if (!line.empty() && line.back() == '\r') line.pop_back();
  return line;
}

}  // namespace

core::Result<std::string> read_password(const std::string& prompt) {
  if (!::isatty(STDIN_FILENO)) return read_line();
  Quiet quiet;  // before the question: an answer that comes at once is neither shown nor lost
  std::cerr << prompt << std::flush;
  auto line = read_line();
  std::cerr << "\n";
  return line;
}

core::Result<std::string> read_new_password() {
  FLEXI_TRY(auto password, read_password("New password: "));
  if (!::isatty(STDIN_FILENO)) return password;
  FLEXI_TRY(auto again, read_password("The same again: "));
  if (again != password) return core::invalid_argument("the two passwords differ: nothing was changed");
  return password;
}

core::Result<std::string> read_secret_file(const std::string& file) {
  std::ifstream in(file);
  std::string line;
  if (!in || !std::getline(in, line)) return core::invalid_argument("can't read a secret from " + file);
  while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
  if (line.empty()) return core::invalid_argument(file + " is empty");
  return line;
}

}  // namespace flexi::apps::cli
