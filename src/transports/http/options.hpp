// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/options.hpp"

namespace flexi::transports::http {

struct HttpServerOptions {
  std::string listen = "127.0.0.1:8080";               ///< address:port; port 0 picks a free one
  std::int64_t max_body_bytes = 1 << 20;               ///< larger bodies are refused (400 on contract calls, 413 elsewhere)
  std::int64_t max_header_bytes = 16 * 1024;           ///< larger request headers are 431
  std::int64_t max_connections = 10'000;               ///< over all shards; one more gets 503
  std::int64_t max_buffered_bytes = 128 << 20;         ///< of request bodies, per core; past it one that is still coming gets 503
  std::int64_t max_pipelined = 64;                     ///< requests of one connection answered by one write
  std::chrono::milliseconds header_timeout{5'000};     ///< from a request's first byte to the end of its header
  std::chrono::milliseconds body_timeout{30'000};      ///< from the header's end to the body's
  std::chrono::milliseconds idle_timeout{75'000};      ///< between requests of a kept connection
  std::chrono::milliseconds write_timeout{30'000};     ///< for a client to take an answer
  std::chrono::milliseconds default_timeout{10'000};   ///< of a request without X-Flexi-Timeout-Ms
  std::chrono::milliseconds max_timeout{60'000};       ///< cap of X-Flexi-Timeout-Ms
  std::chrono::milliseconds event_keep_alive{15'000};  ///< silence after which an event stream sends a comment
  std::chrono::milliseconds drain_linger{200};         ///< while stopping: how long an idle connection may still send one request
  std::vector<std::string> allowed_origins{};          ///< origins that may administer from a browser, e.g. "https://ops.example.com"

  std::vector<std::string> trusted_proxies{};  ///< addresses and networks whose X-Forwarded-For is believed, e.g. "10.0.0.0/8"

  void describe(runtime::OptionVisitor& visitor);
  runtime::Problems validate() const;
};

struct HttpClientOptions {
  std::int64_t max_connections = 64;                    ///< per shard and peer, besides the pipelined one
  std::int64_t max_waiting = 1024;                      ///< calls per shard and peer that may wait for a connection
  std::int64_t max_pipelined = 1024;                    ///< logs in flight on the pipelined connection
  std::int64_t max_buffered_bytes = 128 << 20;          ///< of requests that wait or are under way, per core and peer; past it calls are overloaded
  bool pipeline_logs = true;                            ///< send logs down one pipelined connection per shard; off for foreign peers
  std::int64_t max_answer_bytes = 16 << 20;             ///< a larger answer fails its call with invalid_argument
  std::chrono::milliseconds connect_timeout{250};       ///< then the address is set aside
  std::chrono::milliseconds set_aside{1'000};           ///< until it is tried again, at first; doubles while it keeps failing
  std::chrono::milliseconds max_set_aside{30'000};      ///< the longest time that an address is left alone
  std::int64_t failures = 5;                            ///< calls in a row that fail before an address is set aside; 0: only connecting does
  std::chrono::milliseconds resolve_interval{5'000};    ///< how often the peer's name is resolved again
  std::chrono::milliseconds idle_timeout{30'000};       ///< a pooled connection unused for longer is not used again

  void describe(runtime::OptionVisitor& visitor);
  runtime::Problems validate() const;
};

}  // namespace flexi::transports::http
