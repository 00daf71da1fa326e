// SPDX-License-Identifier: Apache-2.0
#include "runtime/service_manager.hpp"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace flexi::runtime {

core::Result<void> notify(std::string_view state, const std::string& socket) {
  if (socket.empty()) return core::ok();
  const auto failed = [&](int code) { return core::unavailable("can't tell NOTIFY_SOCKET=" + socket + ": " + std::strerror(code)); };
  sockaddr_un address{};
  if ((socket[0] != '/' && socket[0] != '@') || socket.size() >= sizeof address.sun_path) return failed(EINVAL);
  address.sun_family = AF_UNIX;
  std::copy(socket.begin(), socket.end(), address.sun_path);
  if (socket[0] == '@') address.sun_path[0] = '\0';
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return failed(errno);
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + socket.size());
  const auto sent = ::sendto(fd, state.data(), state.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address), size);
  const int code = errno;
  ::close(fd);
  if (sent < 0) return failed(code);
  return core::ok();
}

std::string notify_socket() {
  const char* socket = std::getenv("NOTIFY_SOCKET");
  return socket ? socket : "";
}

}  // namespace flexi::runtime
