// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <string>
#include <vector>

#include "core/result.hpp"
#include "runtime/shards.hpp"

namespace flexi::runtime::net {

/// A listening socket that whoever started this process had opened already and keeps open. While the process is replaced, new connections
/// wait in it instead of being refused.
struct HandedSocket {
  int fd = -1;
  boost::asio::ip::tcp::endpoint endpoint;
};

/// Who was handed sockets, and how many.
struct Handing {
  std::string pid;    ///< empty: nobody
  std::string count;
  int first = 3;      ///< the others' numbers follow
  /// $LISTEN_PID and $LISTEN_FDS. Source: sd_listen_fds(3)
  static Handing from_environment();
};

/// @return none where another process was meant; invalid_argument where one is no listening TCP socket
core::Result<std::vector<HandedSocket>> handed_sockets(const Handing& handing = Handing::from_environment());

/// One acceptor for each shard: on the socket of this address that was handed over, else on new ones.
/// @param endpoint  port 0 picks a free one
/// @param name      of the address, as its owner wrote it
/// @return unavailable with the name and the system's reason
core::Result<std::vector<boost::asio::ip::tcp::acceptor>> listen(const Shards& shards, boost::asio::ip::tcp::endpoint endpoint, const std::string& name,
                                                                 const Handing& handing = Handing::from_environment());

}  // namespace flexi::runtime::net
