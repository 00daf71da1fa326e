// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "core/transport.hpp"

namespace flexi::transports::inproc {

/// Where the servers and clients of one process find each other by name.
/// Lifetime/threads: any thread; outlives its transports, servers and clients
class Network {
 public:
  Network();
  ~Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  struct Impl;
  const std::shared_ptr<Impl>& impl() const { return impl_; }

 private:
  std::shared_ptr<Impl> impl_;
};

struct InprocOptions {
  std::string name = "local";  ///< servers of this transport are found at "inproc:<name>"; unique within the network
};

/// A call runs in the caller's thread and copies nothing. serve() is `unavailable` where the name is taken.
std::unique_ptr<core::Transport> make_transport(Network& network, InprocOptions options);

}  // namespace flexi::transports::inproc
