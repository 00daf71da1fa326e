// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "runtime/task_scope.hpp"
#include "transports/grpc/channel.hpp"

namespace flexi::transports::grpc {

/// The tails that one shard of a client follows: each has a task that reads its stream, for an EventStream's time limits are
/// shorter than its life, and whoever holds it may let it go at any time.
/// Lifetime/threads: the shard's thread; `channel` outlives it; stop() before it is destroyed
class Follows {
 public:
  Follows(boost::asio::any_io_executor executor, Channel& channel, runtime::LogSink& log);

  const boost::asio::any_io_executor& executor() const { return scope_.executor(); }
  /// Actions.Follow.
  /// @param message a serialized CallRequest
  /// @return        the first reply, with the events where there are any
  core::awaitable<core::Result<core::Reply>> open(std::string message, Metadata metadata, core::CallContext context);
  /// Ends all tails.
  core::awaitable<void> stop();

 private:
  Channel& channel_;
  runtime::TaskScope scope_;
  bool stopping_ = false;
};

}  // namespace flexi::transports::grpc
