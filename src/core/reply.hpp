// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/awaitable.hpp>
#include <memory>
#include <optional>
#include <string>

#include "core/call_context.hpp"
#include "core/result.hpp"

namespace flexi::core {

template <class T>
using awaitable = boost::asio::awaitable<T>;

/// A reply that goes on: the newest log entries as they come. One reader; destroying it ends the subscription.
class EventStream {
 public:
  virtual ~EventStream() = default;
  /// @return the next event as JSON text; none when the source has ended; deadline_exceeded where nothing came in time
  ///         (the stream stays usable: a transport sends a keep-alive and asks again)
  virtual awaitable<Result<std::optional<std::string>>> next(CallContext context) = 0;
};

struct Reply {
  std::string message;          ///< the contract's `message`
  std::string data{};           ///< JSON text of the contract's `data`; empty: there is none
  std::string next{};           ///< cursor of the next page; empty: this is the last
  std::string token{};          ///< of a login: what proves later who logged in; never part of `data`
  bool duplicate = false;       ///< the destination had this message already
  std::string way{};            ///< how it went, e.g. "inproc", "amqp"; set by the broker
  std::unique_ptr<EventStream> events{};  ///< set by tailing actions only
};

}  // namespace flexi::core
