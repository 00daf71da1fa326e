// SPDX-License-Identifier: Apache-2.0
#include "transports/grpc/options.hpp"

#include "runtime/net/address.hpp"

namespace flexi::transports::grpc {

namespace {

using std::chrono::milliseconds;

void check(runtime::Problems& problems, const char* path, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value < least || value > most) problems.push_back({path, "must be " + std::to_string(least) + " to " + std::to_string(most)});
}
void check(runtime::Problems& problems, const char* path, milliseconds value, milliseconds least, milliseconds most) {
  if (value < least || value > most)
    problems.push_back({path, "must be " + std::to_string(least.count()) + "ms to " + std::to_string(most.count()) + "ms"});
}
void check_pair(runtime::Problems& problems, const std::string& certificate, const std::string& key) {
  if (certificate.empty() != key.empty()) problems.push_back({certificate.empty() ? "certificate_file" : "key_file", "a certificate and its key go together"});
}

constexpr milliseconds kDay = std::chrono::hours(24);
constexpr std::int64_t kMaxWindow = 1 << 30;

}  // namespace

void GrpcServerOptions::describe(runtime::OptionVisitor& v) {
  v.field("listen", listen, "Address and port; port 0 picks a free one");
  v.field("certificate_file", certificate_file, "PEM certificate chain: serve TLS instead of plain text");
  v.field("key_file", key_file, "PEM key of the certificate");
  v.field("max_message_bytes", max_message_bytes, "Larger requests and answers are refused");
  v.field("max_header_bytes", max_header_bytes, "Larger request headers are refused");
  v.field("max_connections", max_connections, "Connections open at once; one more is closed");
  v.field("max_concurrent_streams", max_concurrent_streams, "Calls of one connection at a time");
  v.field("max_buffered_bytes", max_buffered_bytes, "Requests and answers held in memory, per core");
  v.field("max_connection_bytes", max_connection_bytes, "Requests and answers held in memory for one connection");
  v.field("stream_window_bytes", stream_window_bytes, "What a caller may send ahead of a method that does not read");
  v.field("max_resets_per_second", max_resets_per_second, "Calls of one connection that may be given up; ten times as many at once end it");
  v.field("max_control_frames_per_second", max_control_frames_per_second, "Pings, settings and empty frames of one connection; ten times as many at once end it");
  v.field("compress_from_bytes", compress_from_bytes, "Answers from this size on are gzipped for who accepts it; 0: none");
  v.field("max_bulk_in_flight", max_bulk_in_flight, "Messages of one bulk stream that are not acknowledged yet; then no more are read");
  v.field("handshake_timeout", handshake_timeout, "For TLS, the preface and the first SETTINGS");
  v.field("settings_timeout", settings_timeout, "For a peer to acknowledge SETTINGS");
  v.field("message_timeout", message_timeout, "From a message's first byte to its last");
  v.field("idle_timeout", idle_timeout, "A connection without calls for longer is closed");
  v.field("write_timeout", write_timeout, "For a peer to take what is ready to be sent");
  v.field("keep_alive", keep_alive, "Silence after which a peer is pinged");
  v.field("keep_alive_timeout", keep_alive_timeout, "For a ping's answer");
  v.field("min_ping_interval", min_ping_interval, "Pings of a peer without data between them: three that come sooner end the connection");
  v.field("default_timeout", default_timeout, "Of a unary call without grpc-timeout");
  v.field("max_timeout", max_timeout, "Cap of a unary call's grpc-timeout");
  v.field("drain_linger", drain_linger, "While stopping: how long calls that were on their way are still taken");
}

runtime::Problems GrpcServerOptions::validate() const {
  runtime::Problems problems;
  if (auto endpoint = runtime::net::parse_listen(listen, 50001); !endpoint) problems.push_back({"listen", endpoint.error().message});
  check_pair(problems, certificate_file, key_file);
  check(problems, "max_message_bytes", max_message_bytes, 1, std::int64_t(1) << 30);
  check(problems, "max_header_bytes", max_header_bytes, 1024, 60 * 1024);
  check(problems, "max_connections", max_connections, 1, 1'000'000);
  check(problems, "max_concurrent_streams", max_concurrent_streams, 1, 100'000);
  check(problems, "max_buffered_bytes", max_buffered_bytes, 1 << 20, std::int64_t(1) << 40);
  check(problems, "max_connection_bytes", max_connection_bytes, 1 << 20, std::int64_t(1) << 40);
  check(problems, "stream_window_bytes", stream_window_bytes, 1024, kMaxWindow);
  check(problems, "max_resets_per_second", max_resets_per_second, 1, 1'000'000);
  check(problems, "max_control_frames_per_second", max_control_frames_per_second, 10, 1'000'000);
  check(problems, "compress_from_bytes", compress_from_bytes, 0, std::int64_t(1) << 30);
  check(problems, "max_bulk_in_flight", max_bulk_in_flight, 1, 100'000);
  check(problems, "handshake_timeout", handshake_timeout, milliseconds(20), kDay);
  check(problems, "settings_timeout", settings_timeout, milliseconds(20), kDay);
  check(problems, "message_timeout", message_timeout, milliseconds(20), kDay);
  check(problems, "idle_timeout", idle_timeout, milliseconds(20), kDay);
  check(problems, "write_timeout", write_timeout, milliseconds(20), kDay);
  check(problems, "keep_alive", keep_alive, milliseconds(20), kDay);
  check(problems, "keep_alive_timeout", keep_alive_timeout, milliseconds(20), kDay);
  check(problems, "min_ping_interval", min_ping_interval, milliseconds(0), kDay);
  check(problems, "default_timeout", default_timeout, milliseconds(1), kDay);
  check(problems, "max_timeout", max_timeout, milliseconds(1), kDay);
  check(problems, "drain_linger", drain_linger, milliseconds(0), milliseconds(60'000));
  return problems;
}

void GrpcClientOptions::describe(runtime::OptionVisitor& v) {
  v.field("ca_file", ca_file, "PEM certificates that sign those of grpcs:// peers; empty: the system's");
  v.field("verify_peer", verify_peer, "Check the certificate of grpcs:// peers and its host name");
  v.field("certificate_file", certificate_file, "PEM certificate chain shown to servers that ask for one");
  v.field("key_file", key_file, "PEM key of the certificate");
  v.field("max_message_bytes", max_message_bytes, "Larger answers are refused");
  v.field("max_header_bytes", max_header_bytes, "Answers with larger headers are refused");
  v.field("max_concurrent_calls", max_concurrent_calls, "Calls on one connection at a time; the peer's own limit counts, too");
  v.field("max_waiting", max_waiting, "Calls that may wait for their turn, per core and peer");
  v.field("stream_window_bytes", stream_window_bytes, "What a peer may send ahead of a caller that does not read");
  v.field("compress_from_bytes", compress_from_bytes, "Requests from this size on are gzipped; 0: none");
  v.field("connect_timeout", connect_timeout, "After which an address is set aside");
  v.field("handshake_timeout", handshake_timeout, "For TLS and the peer's first SETTINGS, after which an address is set aside");
  v.field("set_aside", set_aside, "How long an address that can't be reached is left alone; doubles while it keeps failing");
  v.field("max_set_aside", max_set_aside, "What that time grows to");
  v.field("failures", failures, "Calls in a row that fail and set an address aside, too; 0: only connecting does");
  v.field("resolve_interval", resolve_interval, "How often the peer's name is resolved again");
  v.field("idle_timeout", idle_timeout, "A connection unused for longer is closed");
  v.field("keep_alive", keep_alive, "Silence during calls after which a peer is pinged");
  v.field("keep_alive_timeout", keep_alive_timeout, "For a ping's answer; then the connection is given up");
}

runtime::Problems GrpcClientOptions::validate() const {
  runtime::Problems problems;
  check_pair(problems, certificate_file, key_file);
  check(problems, "max_message_bytes", max_message_bytes, 1024, std::int64_t(1) << 30);
  check(problems, "max_header_bytes", max_header_bytes, 1024, 60 * 1024);
  check(problems, "max_concurrent_calls", max_concurrent_calls, 1, 1'000'000);
  check(problems, "max_waiting", max_waiting, 0, 1'000'000);
  check(problems, "stream_window_bytes", stream_window_bytes, 1024, kMaxWindow);
  check(problems, "compress_from_bytes", compress_from_bytes, 0, std::int64_t(1) << 30);
  check(problems, "connect_timeout", connect_timeout, milliseconds(20), milliseconds(60'000));
  check(problems, "handshake_timeout", handshake_timeout, milliseconds(20), milliseconds(60'000));
  check(problems, "set_aside", set_aside, milliseconds(0), kDay);
  check(problems, "max_set_aside", max_set_aside, set_aside, kDay);
  check(problems, "failures", failures, 0, 1'000'000);
  check(problems, "resolve_interval", resolve_interval, milliseconds(100), kDay);
  check(problems, "idle_timeout", idle_timeout, milliseconds(100), kDay);
  check(problems, "keep_alive", keep_alive, milliseconds(20), kDay);
  check(problems, "keep_alive_timeout", keep_alive_timeout, milliseconds(20), kDay);
  return problems;
}

}  // namespace flexi::transports::grpc
