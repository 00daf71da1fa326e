// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <thread>

namespace flexi::testing {

/// The RabbitMQ of this test run, which tools/run-tests starts: `if (auto why = RabbitMq::missing()) GTEST_SKIP() << *why;`
class RabbitMq {
 public:
  static std::optional<std::string> missing() {
    if (std::getenv("FLEXI_TEST_AMQP_URL")) return std::nullopt;
    return "not run: no RabbitMQ; with one: tests/support/rabbitmq.py run -- ctest …";
  }
  /// Blocks until it answers.
  RabbitMq() : url_(std::getenv("FLEXI_TEST_AMQP_URL")) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(90);
    while (!answers()) {
      if (std::chrono::steady_clock::now() > until) throw std::runtime_error("no RabbitMQ answers at " + url_);
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }
  const std::string& url() const { return url_; }  ///< "amqp://guest:guest@127.0.0.1:PORT/%2F"
  std::uint16_t port() const { return static_cast<std::uint16_t>(std::atoi(url_.c_str() + url_.rfind(':') + 1)); }
  std::string url_of(const std::string& vhost) const { return url_.substr(0, url_.rfind('/') + 1) + vhost; }

  /// One Erlang expression, evaluated in the server. Takes 0.3 s.
  std::string eval(const std::string& expression) const { return run(std::getenv("FLEXI_TEST_RABBITMQEVAL"), "'" + expression + "'"); }
  /// `ctl("list_queues -p … name")`. Takes 1 s.
  std::string ctl(const std::string& arguments) const { return run(std::getenv("FLEXI_TEST_RABBITMQCTL"), arguments); }

 private:
  bool answers() const {
    const int s = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ::sockaddr_in address{};
    address.sin_family = AF_INET, address.sin_port = htons(port()), address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const timeval patience{2, 0};
    ::setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    char byte = 0;
    const bool well = ::connect(s, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 && ::send(s, "AMQP\0\0\x09\x01", 8, MSG_NOSIGNAL) == 8 &&
                      ::recv(s, &byte, 1, 0) == 1 && byte == 1;  // a method frame: connection.start
    ::close(s);
    return well;
  }
  static std::string run(const std::string& program, const std::string& arguments) {
    const auto pipe = ::popen((program + " " + arguments + " 2>&1").c_str(), "r");
    std::string text;
    char buffer[4096];
    for (std::size_t n; (n = ::fread(buffer, 1, sizeof buffer, pipe)) > 0;) text.append(buffer, n);
    EXPECT_EQ(::pclose(pipe), 0) << program << " " << arguments << ": " << text;
    return text;
  }
  std::string url_;
};

/// A vhost of one test's own.
class RabbitVhost {
 public:
  explicit RabbitVhost(const RabbitMq& server) : server_(server), name_("test-" + std::to_string(::getpid()) + "-" + std::to_string(++count_)) {
    server.eval("rabbit_vhost:add(<<\"" + name_ + "\">>, <<\"guest\">>), rabbit_auth_backend_internal:set_permissions(<<\"guest\">>, <<\"" + name_ +
                "\">>, <<\".*\">>, <<\".*\">>, <<\".*\">>, <<\"guest\">>)");
  }
  ~RabbitVhost() { server_.eval("rabbit_vhost:delete(<<\"" + name_ + "\">>, <<\"guest\">>)"); }
  std::string url() const { return server_.url_of(name_); }
  const std::string& name() const { return name_; }

 private:
  static inline int count_ = 0;
  const RabbitMq& server_;
  std::string name_;
};

}  // namespace flexi::testing
