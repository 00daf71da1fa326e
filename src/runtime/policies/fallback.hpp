// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/policies/circuit.hpp"
#include "runtime/policies/way_figures.hpp"

namespace flexi::runtime::policies {

struct Way {
  std::string name;  ///< "inproc", "http", "amqp", …
  core::Handler& handler;
  /// Shared by all who go this way to the same destination, so that one finds out for all; none: one of its own.
  std::shared_ptr<Circuit> circuit{};
  WayFigures* figures = nullptr;  ///< told of each call; none: nobody counts
  /// An earlier way of this name once more, as one that waits for better times: the same destination under the same id. It
  /// takes over, before any other, what that way may have sent and what therefore may go by no other.
  bool again = false;
};

/// Tries ways in order until one is there: moves on where a way is down or doesn't have the action, and, unless the
/// request is idempotent, only where it was certainly not sent (or to the same way `again`). A destination that answers `unavailable` itself
/// (Error::answered) is no way that is down: its answer is final. A way that keeps failing is passed over for a while;
/// when nothing else is left it is asked all the same.
/// Lifetime/threads: any thread; the handlers outlive it
class Fallback final : public core::Handler {
 public:
  /// @param ways at least one, at most 32
  Fallback(std::vector<Way> ways, CircuitOptions options, Idempotent idempotent, Now now = steady_now);

  /// @return Reply with `way` set: "<way>", or "<way>;fallback-from=<first>". Else a destination's own answer; else the
  ///         first way's error, maybe sent if any was. An error's `way` is the last one that was tried
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override;

 private:
  class Attempt;
  bool is_away(const core::Error& error, const core::CallContext& context) const;
  /// Whether way `index` is `first` again.
  bool repeats(std::size_t index, std::size_t first) const { return ways_[index].again && ways_[index].name == ways_[first].name; }
  bool is_repeated_after(std::size_t index) const;
  std::string name_of(std::size_t index, std::string said) const;
  std::vector<Way> ways_;
  Idempotent idempotent_;
  Now now_;
};

}  // namespace flexi::runtime::policies
