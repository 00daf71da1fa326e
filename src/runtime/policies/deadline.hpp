// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/handler.hpp"
#include "runtime/options.hpp"

namespace flexi::runtime::policies {

struct DeadlineOptions {
  std::chrono::milliseconds default_timeout{10000};  ///< for calls that bring no deadline; 0: they stay without
  std::chrono::milliseconds max_timeout{60000};      ///< a later deadline is brought forward to this; 0: no cap

  void describe(OptionVisitor& v);
  Problems validate() const;
};

/// Refuses calls whose deadline has passed and cancels the inner call when it passes. Where a call has no deadline at
/// all it costs nothing; else a timer and a spawn (about 1 µs), so it stands where nobody above enforces the deadline.
/// Lifetime/threads: any thread whose executor runs one handler at a time (a shard, a strand); `inner` outlives it
class Deadline final : public core::Handler {
 public:
  Deadline(core::Handler& inner, DeadlineOptions options) : inner_(inner), options_(options) {}
  /// @return the inner answer; deadline_exceeded, not sent where the deadline had passed before, else maybe sent
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override;

 private:
  core::awaitable<core::Result<core::Reply>> enforce(core::Request request, core::CallContext context);
  core::Handler& inner_;
  DeadlineOptions options_;
};

}  // namespace flexi::runtime::policies
