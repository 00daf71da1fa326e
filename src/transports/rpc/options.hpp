// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "runtime/options.hpp"

namespace flexi::transports::rpc {

struct RpcServerOptions {
  std::string listen = "127.0.0.1:5001";               ///< address:port; port 0 picks a free one
  std::int64_t max_payload_bytes = 1 << 20;            ///< larger payloads are refused; a message may have 64 KiB more
  std::int64_t max_nesting = 32;                       ///< pointers deep that a message may be
  std::int64_t max_connections = 10'000;               ///< over all shards; one more is told so and closed
  std::int64_t max_calls = 20'000;                     ///< calls that run, over all connections; one more is overloaded
  std::int64_t max_connection_calls = 1'024;           ///< calls that run on one connection; one more is overloaded
  std::int64_t max_unreleased = 8'192;                 ///< answers a client may keep open before its connection is closed
  std::int64_t max_capabilities = 16;                  ///< objects that one message may carry
  std::int64_t flow_limit_bytes = 16 << 20;            ///< of calls that run on one connection; no more is read before some end
  std::int64_t max_unsent_bytes = 1 << 20;             ///< answers a client has not taken; nothing more is read from it till then
  std::chrono::milliseconds handshake_timeout{5'000};  ///< for a new connection's first message
  std::chrono::milliseconds message_timeout{30'000};   ///< from a message's first byte to its last
  std::chrono::milliseconds idle_timeout{120'000};     ///< without a message, a call or an event stream
  std::chrono::milliseconds write_timeout{30'000};     ///< for a client to take anything
  std::chrono::milliseconds default_timeout{10'000};   ///< of a call without timeoutMs
  std::chrono::milliseconds max_timeout{60'000};       ///< cap of timeoutMs
  std::chrono::milliseconds drain_linger{200};         ///< while stopping: how long idle connections are told so, before they are closed

  void describe(runtime::OptionVisitor& visitor);
  runtime::Problems validate() const;
};

struct RpcClientOptions {
  std::int64_t max_calls = 4'096;                      ///< in flight per shard and peer; one more is overloaded
  std::int64_t max_request_bytes = 1 << 20;            ///< larger payloads are refused before they are sent: what the peer takes
  std::int64_t max_answer_bytes = 16 << 20;            ///< a larger answer breaks the connection
  std::int64_t event_buffer = 256;                     ///< events of a tail kept for a slow reader; then the peer waits
  std::chrono::milliseconds connect_timeout{250};      ///< then the address is set aside
  std::chrono::milliseconds set_aside{1'000};          ///< until it is tried again, at first; doubles while it keeps failing
  std::chrono::milliseconds max_set_aside{30'000};     ///< the longest time that an address is left alone
  std::int64_t failures = 5;                           ///< calls in a row that fail before an address is set aside; 0: only connecting does
  std::chrono::milliseconds resolve_interval{5'000};   ///< how often the peer's name is resolved again
  std::chrono::milliseconds idle_timeout{60'000};      ///< an unused connection is closed; less than the peer's own

  void describe(runtime::OptionVisitor& visitor);
  runtime::Problems validate() const;
};

}  // namespace flexi::transports::rpc
