// SPDX-License-Identifier: Apache-2.0
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <string>

#include "apps/cli/command_line.hpp"

int main(int argc, char** argv) {
  // A peer that closed, or a file-size limit, is an error of that write, not the end of the process.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  ::umask(077);  // what is stored here holds password hashes and mails
  // MongoDB's driver makes it when it is loaded, for a tool of its own; a process that is killed would leave it behind.
  ::shm_unlink(("/mongoc-" + std::to_string(::getpid())).c_str());
  return flexi::apps::cli::run_command_line(argc, argv);
}
