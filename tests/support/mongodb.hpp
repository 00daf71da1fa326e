// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>
#include <thread>

namespace flexi::testing {

/// The MongoDB of this test run, which tools/run-tests starts: `if (auto why = MongoDb::missing()) GTEST_SKIP() << *why;`
/// It may be a FerretDB that is still being built: missing() waits for it.
class MongoDb {
 public:
  static std::optional<std::string> missing() {
    if (!std::getenv("FLEXI_TEST_MONGO_URI")) return "not run: no MongoDB; with one: tests/support/mongodb.py run -- ctest …";
    const char* status = std::getenv("FLEXI_TEST_MONGO_STATUS");
    if (!status) return std::nullopt;  // the user's own
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(500);
    while (std::chrono::steady_clock::now() < until) {
      std::ifstream file(status);
      const std::string said(std::istreambuf_iterator<char>(file), {});
      if (said == "ready") return std::nullopt;
      if (!said.empty()) return said;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return "not run: MongoDB was not ready in time";
  }

  static std::string url() { return std::getenv("FLEXI_TEST_MONGO_URI"); }
  static std::string host() { return authority().substr(0, authority().find(':')); }
  static std::uint16_t port() {
    const auto text = authority();
    return text.find(':') == std::string::npos ? 27017 : static_cast<std::uint16_t>(std::atoi(text.c_str() + text.find(':') + 1));
  }
  /// The same server, through a gate on this machine; with another password where one is given.
  static std::string url_through(std::uint16_t port, std::optional<std::string> password = {}) {
    const auto whole = url();
    const auto at = whole.find('@');
    std::string login = at == std::string::npos ? "" : whole.substr(10, at - 10 + 1);
    if (password) login = login.substr(0, login.find(':')) + ":" + *password + "@";
    return "mongodb://" + login + "127.0.0.1:" + std::to_string(port) + "/?directConnection=true";
  }
  /// A name for a database of one test's own.
  static std::string name() {
    static int count = 0;
    return "flexi-test-" + std::to_string(::getpid()) + "-" + std::to_string(++count);
  }

 private:
  static std::string authority() {
    auto rest = url().substr(10);
    if (auto at = rest.find('@'); at != std::string::npos) rest = rest.substr(at + 1);
    return rest.substr(0, rest.find_first_of("/,?"));
  }
};

}  // namespace flexi::testing
