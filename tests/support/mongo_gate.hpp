// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <arpa/inet.h>
#include <bson/bson.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace flexi::testing {

/// A gate between a client and MongoDB that knows the protocol's commands: it holds one back, answers it itself, breaks the connection over
/// it, and remembers what was asked. Source: https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/#op_msg
/// Lifetime/threads: any thread; the destructor cuts all connections
class MongoGate {
 public:
  enum class Cut { before, after };  ///< after: the server has done it, and its answer is lost

  MongoGate(std::string host, std::uint16_t port) : host_(std::move(host)), target_port_(port) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ::sockaddr_in address{};
    address.sin_family = AF_INET, address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ::socklen_t size = sizeof address;
    if (::bind(listener_, reinterpret_cast<::sockaddr*>(&address), size) != 0 || ::listen(listener_, 64) != 0) throw std::runtime_error("no port for a gate");
    ::getsockname(listener_, reinterpret_cast<::sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    threads_.emplace_back([this] { accept_all(); });
  }
  ~MongoGate() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
      held_.clear();
      ::shutdown(listener_, SHUT_RDWR);
      for (int each : sockets_) ::shutdown(each, SHUT_RDWR);
    }
    changed_.notify_all();
    for (std::size_t i = 0; i < threads_.size(); ++i) threads_[i].join();  // more come while the first is joined
    ::close(listener_);
  }
  MongoGate(const MongoGate&) = delete;

  std::uint16_t port() const { return port_; }

  /// `command` on `collection` (empty: any) waits until release().
  void hold(const std::string& command, const std::string& collection = {}) { set([&] { held_[command] = collection; }); }
  /// Returns when so many are waiting.
  void wait_until_held(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waiting_ >= count; });
  }
  void release() {
    set([&] { held_.clear(); });
  }
  /// `command` on `collection` is answered with this JSON, and does not reach the server.
  void answer(const std::string& command, const std::string& collection, const std::string& json) { set([&] { answers_[{command, collection}] = json; }); }
  /// The next `command` on `collection` costs its connection, before or after the server has done it.
  void cut(const std::string& command, const std::string& collection, Cut how) { set([&] { cuts_[{command, collection}] = how; }); }
  void heal() {
    set([&] { held_.clear(), answers_.clear(), cuts_.clear(); });
  }
  /// How often `command` was asked of `collection`.
  std::size_t asked(const std::string& command, const std::string& collection) const {
    std::lock_guard lock(mutex_);
    std::size_t count = 0;
    for (auto& [name, of, json] : seen_) count += name == command && of == collection;
    return count;
  }
  /// The statements of `command` on `collection`, as JSON.
  std::vector<std::string> statements(const std::string& command, const std::string& collection) const {
    std::lock_guard lock(mutex_);
    std::vector<std::string> all;
    for (auto& [name, of, json] : seen_)
      if (name == command && of == collection) all.push_back(json);
    return all;
  }

 private:
  using Key = std::pair<std::string, std::string>;
  struct Statement {
    std::string command, collection, json;
  };
  static constexpr std::int32_t kOpMsg = 2013, kMoreToCome = 2;
  static constexpr std::size_t kHeader = 16;

  void set(auto change) {
    {
      std::lock_guard lock(mutex_);
      change();
    }
    changed_.notify_all();
  }

  void accept_all() {
    for (;;) {
      const int client = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (client < 0) return;
      std::lock_guard lock(mutex_);
      if (stopping_) {
        ::close(client);
        return;
      }
      sockets_.push_back(client);
      threads_.emplace_back([this, client] { serve(client); });
    }
  }

  int connect_to_server() {
    ::addrinfo hints{}, *found = nullptr;
    hints.ai_family = AF_INET, hints.ai_socktype = SOCK_STREAM;
    if (::getaddrinfo(host_.c_str(), std::to_string(target_port_).c_str(), &hints, &found) != 0) return -1;
    const int server = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool connected = ::connect(server, found->ai_addr, found->ai_addrlen) == 0;
    ::freeaddrinfo(found);
    if (connected) return server;
    ::close(server);
    return -1;
  }

  static bool read_all(int from, char* data, std::size_t size) {
    while (size > 0) {
      const auto n = ::recv(from, data, size, 0);
      if (n <= 0) return false;
      data += n, size -= static_cast<std::size_t>(n);
    }
    return true;
  }
  static bool write_all(int to, const std::string& data) {
    for (std::size_t done = 0; done < data.size();) {
      const auto n = ::send(to, data.data() + done, data.size() - done, MSG_NOSIGNAL);
      if (n <= 0) return false;
      done += static_cast<std::size_t>(n);
    }
    return true;
  }
  static std::int32_t number_at(const std::string& message, std::size_t at) {
    std::int32_t number = 0;
    std::memcpy(&number, message.data() + at, sizeof number);
    return number;
  }
  static bool read_message(int from, std::string& message) {
    message.resize(kHeader);
    if (!read_all(from, message.data(), kHeader)) return false;
    const auto size = number_at(message, 0);
    if (size < static_cast<std::int32_t>(kHeader) || size > 64'000'000) return false;
    message.resize(static_cast<std::size_t>(size));
    return read_all(from, message.data() + kHeader, message.size() - kHeader);
  }

  /// Its first field names the command, and its value the collection.
  static Statement read_statement(const std::string& message) {
    if (number_at(message, 12) != kOpMsg || message.size() < kHeader + 9 || message[kHeader + 4] != 0) return {};
    ::bson_t document;
    const auto at = kHeader + 5;
    const auto size = static_cast<std::size_t>(number_at(message, at));
    if (at + size > message.size() || !::bson_init_static(&document, reinterpret_cast<const std::uint8_t*>(message.data() + at), size)) return {};
    ::bson_iter_t first;
    if (!::bson_iter_init(&first, &document) || !::bson_iter_next(&first)) return {};
    Statement statement{.command = ::bson_iter_key(&first), .collection = BSON_ITER_HOLDS_UTF8(&first) ? ::bson_iter_utf8(&first, nullptr) : "", .json = {}};
    if (char* json = ::bson_as_relaxed_extended_json(&document, nullptr)) {
      statement.json = json;
      ::bson_free(json);
    }
    return statement;
  }
  static std::string make_answer(const std::string& request, const std::string& json) {
    ::bson_error_t error;
    ::bson_t* document = ::bson_new_from_json(reinterpret_cast<const std::uint8_t*>(json.data()), static_cast<ssize_t>(json.size()), &error);
    if (!document) throw std::runtime_error(error.message);
    std::string message(kHeader + 5, '\0');
    message.append(reinterpret_cast<const char*>(::bson_get_data(document)), document->len);
    ::bson_destroy(document);
    const auto size = static_cast<std::int32_t>(message.size()), to = number_at(request, 4);
    std::memcpy(message.data(), &size, 4);
    std::memcpy(message.data() + 8, &to, 4);
    std::memcpy(message.data() + 12, &kOpMsg, 4);
    return message;
  }

  void serve(int client) {
    const int server = connect_to_server();
    if (server >= 0) {
      const int no_delay = 1;
      for (int each : {client, server}) ::setsockopt(each, IPPROTO_TCP, TCP_NODELAY, &no_delay, sizeof no_delay);
      {
        std::lock_guard lock(mutex_);
        sockets_.push_back(server);
        if (stopping_) ::shutdown(server, SHUT_RDWR);
      }
      std::string request, reply;
      while (read_message(client, request) && exchange(client, server, request, reply)) {}
    }
    std::lock_guard lock(mutex_);
    for (int each : {client, server}) {
      if (each < 0) continue;
      std::erase(sockets_, each);
      ::close(each);
    }
  }

  /// One statement and its answer. @return false: the connection ends
  bool exchange(int client, int server, const std::string& request, std::string& reply) {
    const auto statement = read_statement(request);
    const Key key{statement.command, statement.collection};
    std::optional<Cut> cut;
    {
      std::unique_lock lock(mutex_);
      seen_.push_back(statement);
      const auto is_held = [&] {
        auto found = held_.find(statement.command);
        return found != held_.end() && (found->second.empty() || found->second == statement.collection);
      };
      if (is_held()) {
        ++waiting_;
        changed_.notify_all();
        changed_.wait(lock, [&] { return stopping_ || !is_held(); });
        --waiting_;
      }
      if (stopping_) return false;
      if (auto found = answers_.find(key); found != answers_.end()) {
        const auto answer = make_answer(request, found->second);
        lock.unlock();
        return write_all(client, answer);
      }
      if (auto found = cuts_.find(key); found != cuts_.end()) {
        cut = found->second;
        cuts_.erase(found);
      }
    }
    if (cut == Cut::before) return false;
    if (!write_all(server, request) || !read_message(server, reply)) return false;
    if (cut == Cut::after || !write_all(client, reply)) return false;
    while (number_at(reply, kHeader) & kMoreToCome)  // a monitor is told of each change, unasked
      if (!read_message(server, reply) || !write_all(client, reply)) return false;
    return true;
  }

  const std::string host_;
  const std::uint16_t target_port_;
  int listener_ = -1;
  std::uint16_t port_ = 0;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::size_t waiting_ = 0;
  std::map<std::string, std::string> held_;
  std::map<Key, std::string> answers_;
  std::map<Key, Cut> cuts_;
  std::vector<Statement> seen_;
  std::vector<int> sockets_;
  std::deque<std::thread> threads_;
};

}  // namespace flexi::testing
