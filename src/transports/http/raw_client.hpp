// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <string_view>

namespace flexi::transports::http {

/// A client for tests that sends any bytes; blocking, each wait bounded.
class RawClient {
 public:
  explicit RawClient(const std::string& endpoint) {
    const auto port = static_cast<std::uint16_t>(std::stoi(endpoint.substr(endpoint.rfind(':') + 1)));
    fd_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  ~RawClient() { close(); }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  RawClient& send(std::string_view bytes) {
    while (!bytes.empty()) {
      const auto n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) break;
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return *this;
  }
  void end_sending() { ::shutdown(fd_, SHUT_WR); }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  void reset() {
    linger abort{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &abort, sizeof abort);
    close();
  }
  /// What comes until `stop` says so, or the server closes.
  template <class Stop>
  const std::string& read_until(Stop stop) {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!closed_ && !stop(received_)) {
      pollfd fd{fd_, POLLIN, 0};
      if (::poll(&fd, 1, 1000) == 1) {
        char bytes[65536];
        const auto n = ::recv(fd_, bytes, sizeof bytes, 0);
        if (n <= 0) closed_ = true;
        else received_.append(bytes, static_cast<std::size_t>(n));
      }
      if (std::chrono::steady_clock::now() > give_up) {
        ADD_FAILURE() << "the server neither answered nor closed; it sent: " << received_;
        break;
      }
    }
    return received_;
  }
  const std::string& read_to_end() {
    return read_until([](auto&) { return false; });
  }
  /// Until `count` answers have begun and their bodies are there.
  const std::string& read_answers(std::size_t count) {
    return read_until([count](const std::string& text) { return complete_answers(text) >= count; });
  }
  bool closed() const { return closed_; }
  /// Whether the server has said something, or closed.
  bool hears_within(std::chrono::milliseconds time) {
    pollfd fd{fd_, POLLIN, 0};
    return ::poll(&fd, 1, static_cast<int>(time.count())) == 1;
  }
  void forget() { received_.clear(); }

  static std::size_t complete_answers(std::string_view text) {
    std::size_t count = 0;
    for (;;) {
      const auto end = text.find("\r\n\r\n");
      if (end == text.npos) return count;
      const auto length = text.substr(0, end).find("Content-Length: ");
      const std::size_t body = length == text.npos ? 0 : static_cast<std::size_t>(std::stoul(std::string(text.substr(length + 16, 12))));
      if (text.size() < end + 4 + body) return count;
      text.remove_prefix(end + 4 + body);
      ++count;
    }
  }

 private:
  int fd_ = -1;
  std::string received_;
  bool closed_ = false;
};

}  // namespace flexi::transports::http
