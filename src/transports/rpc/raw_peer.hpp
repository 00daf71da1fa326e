// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <arpa/inet.h>
#include <capnp/rpc.capnp.h>
#include <capnp/serialize.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "flexiconnect.capnp.h"

namespace flexi::transports::rpc {

using Message = capnp::rpc::Message;

inline std::string bytes_of(capnp::MessageBuilder& message) {
  const auto words = capnp::messageToFlatArray(message);
  return {reinterpret_cast<const char*>(words.begin()), words.size() * sizeof(capnp::word)};
}
/// One message of the RPC protocol, filled by `fill`.
inline std::string message_of(const std::function<void(Message::Builder)>& fill) {
  capnp::MallocMessageBuilder message;
  fill(message.initRoot<Message>());
  return bytes_of(message);
}
inline std::string bootstrap(unsigned question) {
  return message_of([&](auto m) { m.initBootstrap().setQuestionId(question); });
}
inline std::string finish(unsigned question) {
  return message_of([&](auto m) { m.initFinish().setQuestionId(question); });
}
/// A call on the first capability that the answer to `on` will have (the bootstrap's own, or field 0 of a result).
inline void aim(capnp::rpc::Call::Builder call, unsigned question, unsigned on, bool field) {
  call.setQuestionId(question);
  auto target = call.initTarget().initPromisedAnswer();
  target.setQuestionId(on);
  if (field) target.initTransform(1)[0].setGetPointerField(0);
}
inline std::string call_get(unsigned question, unsigned on, const char* name) {
  return message_of([&](auto m) {
    auto call = m.initCall();
    aim(call, question, on, false);
    call.setInterfaceId(capnp::typeId<::flexiconnect::ExportTable>());
    call.setMethodId(0);
    call.initParams().getContent().template initAs<::flexiconnect::ExportTable::GetParams>().setName(name);
  });
}
inline std::string call_log(unsigned question, unsigned on, const std::string& data, std::function<void(::flexiconnect::Metadata::Builder)> meta = {}) {
  return message_of([&](auto m) {
    auto call = m.initCall();
    aim(call, question, on, true);
    call.setInterfaceId(capnp::typeId<::flexiconnect::Logger>());
    call.setMethodId(0);
    auto params = call.initParams().getContent().template initAs<::flexiconnect::Logger::LogInfoParams>();
    params.initEntry().setName("n");
    params.getEntry().setData(capnp::Text::Reader(data.data(), data.size()));
    if (meta) meta(params.initMeta());
  });
}
inline std::string call_action(unsigned question, unsigned on, const char* action, std::int64_t timeout_ms = 10'000) {
  return message_of([&](auto m) {
    auto call = m.initCall();
    aim(call, question, on, true);
    call.setInterfaceId(capnp::typeId<::flexiconnect::Actions>());
    call.setMethodId(0);
    auto params = call.initParams().getContent().template initAs<::flexiconnect::Actions::CallParams>();
    params.setAction(action);
    params.initMeta().setTimeoutMs(timeout_ms);
  });
}

/// A client for tests that sends any bytes and reads Cap'n Proto messages; blocking, each wait bounded.
class RawPeer {
 public:
  explicit RawPeer(unsigned port) {
    fd_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  ~RawPeer() { close(); }
  RawPeer(const RawPeer&) = delete;
  RawPeer& operator=(const RawPeer&) = delete;

  RawPeer& send(std::string_view bytes) {
    while (!bytes.empty()) {
      const auto n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) break;
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return *this;
  }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  void reset() {
    linger abort{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &abort, sizeof abort);
    close();
  }
  int fd() const { return fd_; }

  /// The next message; none once the server has closed, or after 20 s.
  std::unique_ptr<capnp::FlatArrayMessageReader> next() {
    for (;;) {
      const kj::ArrayPtr<const capnp::word> words(reinterpret_cast<const capnp::word*>(received_.data()), received_.size() / sizeof(capnp::word));
      const auto size = words.size() == 0 ? 1 : capnp::expectedSizeInWordsFromPrefix(words);
      if (size <= words.size() && words.size() != 0) {
        auto copy = kj::heapArray<capnp::word>(size);
        std::copy_n(received_.data(), size * sizeof(capnp::word), reinterpret_cast<char*>(copy.begin()));
        received_.erase(0, size * sizeof(capnp::word));
        kept_.push_back(kj::mv(copy));
        return std::make_unique<capnp::FlatArrayMessageReader>(kept_.back());
      }
      if (!receive()) return nullptr;
    }
  }
  /// The answer to `question`; what else comes before it is skipped. False: the server closed first.
  bool answered(unsigned question, const std::function<void(capnp::rpc::Return::Reader)>& look = [](auto) {}) {
    while (auto message = next()) {
      const auto root = message->getRoot<Message>();
      if (root.isAbort()) abort_ = root.getAbort().getReason().cStr();
      if (!root.isReturn() || root.getReturn().getAnswerId() != question) continue;
      look(root.getReturn());
      return true;
    }
    return false;
  }
  /// True when the server closes; what it sends before is read.
  bool closed() {
    while (auto message = next())
      if (message->getRoot<Message>().isAbort()) abort_ = message->getRoot<Message>().getAbort().getReason().cStr();
    return ended_;
  }
  const std::string& abort() const { return abort_; }  ///< why the server said it gave up

 private:
  bool receive() {
    pollfd fd{fd_, POLLIN, 0};
    if (ended_ || ::poll(&fd, 1, 20'000) != 1) return false;
    char bytes[65536];
    const auto n = ::recv(fd_, bytes, sizeof bytes, 0);
    if (n <= 0) {
      ended_ = true;
      return false;
    }
    received_.append(bytes, static_cast<std::size_t>(n));
    return true;
  }

  int fd_ = -1;
  std::string received_, abort_;
  std::vector<kj::Array<capnp::word>> kept_;
  bool ended_ = false;
};

inline ::flexiconnect::Answer::Reader answer_of(capnp::rpc::Return::Reader reader) {
  return reader.getResults().getContent().getAs<::flexiconnect::Answer>();
}

}  // namespace flexi::transports::rpc
