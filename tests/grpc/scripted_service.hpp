// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <string>

#include "core/handler.hpp"

namespace flexi::grpc_tests {

/// Does what an action's name says, so that a client in another language can ask for any outcome:
///   log          kept by id; the same id again is a duplicate. name "wait": as the action
///   auth         a@b.example with "right" is let in
///   mail         "sent to <to>"
///   echo         data says how the request arrived
///   <error kind> fails so; overloaded with retry_after 3 s, unavailable perhaps sent
///   throw        an exception
///   wait         until it is cancelled
///   counts       data says how many calls wait, how many were cancelled, how many tails are open
///   logs.tail    three events, then the end; {"endless":true} one every 2 ms
/// Lifetime/threads: any thread
class ScriptedService final : public core::Handler {
 public:
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override;

 private:
  core::awaitable<core::Result<core::Reply>> wait();
  core::Result<core::Reply> log(const core::Request& request);

  std::atomic<int> waiting_ = 0, cancelled_ = 0, tails_ = 0;
  std::mutex mutex_;
  std::map<std::string, core::Payload> logs_;
};

}  // namespace flexi::grpc_tests
