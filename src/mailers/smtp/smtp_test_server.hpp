// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "runtime/json.hpp"

#ifndef SMTP_SERVER_SCRIPT  // the build's; else from the project's folder
#define SMTP_SERVER_SCRIPT "src/mailers/smtp/smtp_test_server.py"
#endif

namespace flexi::mailers::smtp {

/// aiosmtpd on a free port in a process of its own, and what it tells.
class TestServer {
 public:
  /// @param arguments smtp_test_server.py says what there are
  explicit TestServer(std::vector<std::string> arguments = {}) {
    std::vector<char*> words{const_cast<char*>("python3"), const_cast<char*>(SMTP_SERVER_SCRIPT)};
    for (auto& argument : arguments) words.push_back(argument.data());
    words.push_back(nullptr);
    int in[2], out[2];
    if (::pipe2(in, O_CLOEXEC) != 0 || ::pipe2(out, O_CLOEXEC) != 0) std::abort();  // another server's child would hold it open
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(in[0], 0);
      ::dup2(out[1], 1);
      ::execv("/usr/bin/python3", words.data());
      ::_exit(127);
    }
    ::close(in[0]);
    ::close(out[1]);
    stdin_ = in[1];
    stdout_ = ::fdopen(out[0], "r");
    auto first = next();
    port_ = first.integer("port").value().value();
  }
  TestServer(const TestServer&) = delete;
  ~TestServer() { stop(); }

  void stop() {
    if (pid_ <= 0) return;
    ::close(stdin_);
    ::fclose(stdout_);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

  runtime::JsonObject next() {
    char* line = nullptr;
    std::size_t size = 0;
    const auto n = ::getline(&line, &size, stdout_);
    std::string text(line, n > 0 ? static_cast<std::size_t>(n) : 0);
    std::free(line);
    auto object = runtime::JsonObject::parse(text);
    if (!object) {
      ADD_FAILURE() << "the test server said: " << text;
      std::abort();
    }
    return object.value();
  }
  std::int64_t port() const { return port_; }

 private:
  pid_t pid_ = 0;
  int stdin_ = -1;
  FILE* stdout_ = nullptr;
  std::int64_t port_ = 0;
};

}  // namespace flexi::mailers::smtp
