// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "runtime/options.hpp"

namespace flexi::transports::grpc {

struct GrpcServerOptions {
  std::string listen = "127.0.0.1:50001";             ///< address:port; port 0 picks a free one
  std::string certificate_file{};                     ///< PEM chain: serves TLS (ALPN h2) instead of plain text
  std::string key_file{};                             ///< PEM key of the certificate
  std::int64_t max_message_bytes = 4 << 20;           ///< larger requests and answers are RESOURCE_EXHAUSTED, packed or not
  std::int64_t max_header_bytes = 16 * 1024;          ///< a larger header list ends its stream
  std::int64_t max_connections = 10'000;              ///< over all shards; one more is closed
  std::int64_t max_concurrent_streams = 1'024;        ///< calls of one connection at a time; more are refused, certainly unsent
  std::int64_t max_buffered_bytes = 128 << 20;        ///< requests and answers held, per core; past it calls are RESOURCE_EXHAUSTED
  std::int64_t max_connection_bytes = 32 << 20;       ///< one connection's share of those
  std::int64_t stream_window_bytes = 256 << 10;       ///< what a caller may send ahead of a method that does not read
  std::int64_t max_resets_per_second = 200;           ///< of one connection; ten times as many at once end it (ENHANCE_YOUR_CALM)
  std::int64_t max_control_frames_per_second = 1'000; ///< pings, settings, empty frames of one connection; ten times as many at once end it
  std::int64_t compress_from_bytes = 0;               ///< answers from this size on are gzipped for callers who accept it; 0: none
  std::int64_t max_bulk_in_flight = 256;              ///< messages of one bulk stream that are not acknowledged yet; then no more are read
  std::chrono::milliseconds handshake_timeout{5'000};  ///< TLS, the preface and the first SETTINGS
  std::chrono::milliseconds settings_timeout{10'000};  ///< for the peer to acknowledge our SETTINGS
  std::chrono::milliseconds message_timeout{30'000};   ///< from a message's first byte to its last; then its call is DEADLINE_EXCEEDED
  std::chrono::milliseconds idle_timeout{300'000};     ///< a connection without calls for longer is closed
  std::chrono::milliseconds write_timeout{30'000};     ///< for a peer to take what is ready to be sent
  std::chrono::milliseconds keep_alive{60'000};        ///< silence after which the peer is pinged
  std::chrono::milliseconds keep_alive_timeout{20'000};  ///< for the ping's answer
  std::chrono::milliseconds min_ping_interval{10'000};   ///< the peer's pings without data between them: three that come sooner end the connection
  std::chrono::milliseconds default_timeout{10'000};     ///< of a unary call without grpc-timeout
  std::chrono::milliseconds max_timeout{60'000};         ///< cap of a unary call's grpc-timeout
  std::chrono::milliseconds drain_linger{200};           ///< while stopping: how long calls that were on their way are still taken

  void describe(runtime::OptionVisitor& visitor);
  runtime::Problems validate() const;
};

struct GrpcClientOptions {
  std::string ca_file{};                              ///< PEM; "grpcs://" peers must have a certificate signed by one of these; empty: the system's
  bool verify_peer = true;                            ///< check the certificate and its host name
  std::string certificate_file{};                     ///< PEM chain shown to servers that ask for one
  std::string key_file{};                             ///< PEM key of the certificate
  std::int64_t max_message_bytes = 16 << 20;          ///< larger answers break their call
  std::int64_t max_header_bytes = 32 * 1024;          ///< a larger header list breaks its call
  std::int64_t max_concurrent_calls = 1'024;          ///< per connection; the peer's own limit counts, too
  std::int64_t max_waiting = 4'096;                   ///< calls per shard and peer that may wait for their turn
  std::int64_t stream_window_bytes = 1 << 20;         ///< what a peer may send ahead of a caller that does not read
  std::int64_t compress_from_bytes = 0;               ///< requests from this size on are gzipped; 0: none
  std::chrono::milliseconds connect_timeout{250};     ///< then the address is set aside
  std::chrono::milliseconds handshake_timeout{2'000}; ///< TLS and the peer's first SETTINGS; then the address is set aside
  std::chrono::milliseconds set_aside{1'000};         ///< until it is tried again; doubles while it keeps failing
  std::chrono::milliseconds max_set_aside{30'000};    ///< what that grows to
  std::int64_t failures = 5;                          ///< calls in a row that fail and set an address aside, too; 0: only connecting does
  std::chrono::milliseconds resolve_interval{5'000};  ///< how often the peer's name is resolved again
  std::chrono::milliseconds idle_timeout{240'000};    ///< a connection unused for longer is closed
  std::chrono::milliseconds keep_alive{30'000};       ///< silence during calls after which the peer is pinged
  std::chrono::milliseconds keep_alive_timeout{10'000};  ///< for the ping's answer; then the connection is given up

  void describe(runtime::OptionVisitor& visitor);
  runtime::Problems validate() const;
};

}  // namespace flexi::transports::grpc
