// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <capnp/rpc.capnp.h>
#include <kj/exception.h>

#include <optional>
#include <string>
#include <unordered_set>

namespace flexi::transports::rpc {

struct GuardLimits {
  std::size_t max_unreleased = 8'192;  ///< questions of the peer that it has not finished
  std::size_t max_capabilities = 16;   ///< in one message
};

/// Looks at each message before the RPC system does, whose tables grow as the peer likes.
/// Source: capnp/rpc.capnp, "The Four Tables"
class Guard {
 public:
  explicit Guard(GuardLimits limits) : limits_(limits) {}

  /// @return the exception that ends the connection; none: let it pass
  std::optional<kj::Exception> look_at(capnp::rpc::Message::Reader message);
  /// Calls and bootstraps of the peer that it has not finished.
  std::size_t unreleased() const { return questions_.size(); }
  /// Why the peer said that it gave up, where it did.
  const std::optional<kj::Exception>& aborted() const { return aborted_; }

 private:
  std::optional<kj::Exception> opened(std::uint32_t question);
  std::optional<kj::Exception> carries(std::size_t capabilities) const;

  GuardLimits limits_;
  std::unordered_set<std::uint32_t> questions_;
  std::optional<kj::Exception> aborted_;
};

}  // namespace flexi::transports::rpc
