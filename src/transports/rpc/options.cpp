// SPDX-License-Identifier: Apache-2.0
#include "transports/rpc/options.hpp"

#include "runtime/net/address.hpp"

namespace flexi::transports::rpc {

namespace {

using std::chrono::milliseconds;

void check(runtime::Problems& problems, const char* path, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value < least || value > most) problems.push_back({path, "must be " + std::to_string(least) + " to " + std::to_string(most)});
}
void check(runtime::Problems& problems, const char* path, milliseconds value, milliseconds least, milliseconds most) {
  if (value < least || value > most)
    problems.push_back({path, "must be " + std::to_string(least.count()) + "ms to " + std::to_string(most.count()) + "ms"});
}

constexpr milliseconds kDay = std::chrono::hours(24);

}  // namespace

void RpcServerOptions::describe(runtime::OptionVisitor& v) {
  v.field("listen", listen, "Address and port; port 0 picks a free one");
  v.field("max_payload_bytes", max_payload_bytes, "Larger payloads are refused");
  v.field("max_nesting", max_nesting, "Pointers deep that a message may be");
  v.field("max_connections", max_connections, "Connections open at once; one more is told so and closed");
  v.field("max_calls", max_calls, "Calls running at once; one more is overloaded");
  v.field("max_connection_calls", max_connection_calls, "Calls of one connection running at once; one more is overloaded");
  v.field("max_unreleased", max_unreleased, "Answers a client may keep open; with more its connection is closed");
  v.field("max_capabilities", max_capabilities, "Objects that one message may carry");
  v.field("flow_limit_bytes", flow_limit_bytes, "Calls of one connection running at once, in bytes; then nothing more is read from it");
  v.field("max_unsent_bytes", max_unsent_bytes, "Answers that a client has not taken; then nothing more is read from it");
  v.field("handshake_timeout", handshake_timeout, "For a new connection's first message");
  v.field("message_timeout", message_timeout, "From a message's first byte to its last");
  v.field("idle_timeout", idle_timeout, "A connection unused for longer is closed");
  v.field("write_timeout", write_timeout, "For a client to take an answer");
  v.field("default_timeout", default_timeout, "Of a call without timeoutMs");
  v.field("max_timeout", max_timeout, "Cap of timeoutMs");
  v.field("drain_linger", drain_linger, "While stopping: how long idle connections are told so before they are closed");
}

runtime::Problems RpcServerOptions::validate() const {
  runtime::Problems problems;
  if (auto endpoint = runtime::net::parse_listen(listen, 5001); !endpoint) problems.push_back({"listen", endpoint.error().message});
  check(problems, "max_payload_bytes", max_payload_bytes, 1, std::int64_t(1) << 28);
  check(problems, "max_nesting", max_nesting, 10, 64);
  check(problems, "max_connections", max_connections, 1, 1'000'000);
  check(problems, "max_calls", max_calls, 1, 1'000'000);
  check(problems, "max_connection_calls", max_connection_calls, 1, 1'000'000);
  check(problems, "max_unreleased", max_unreleased, 2, 10'000'000);
  check(problems, "max_capabilities", max_capabilities, 1, 10'000);
  check(problems, "flow_limit_bytes", flow_limit_bytes, 64 * 1024, std::int64_t(1) << 30);
  check(problems, "max_unsent_bytes", max_unsent_bytes, 64 * 1024, std::int64_t(1) << 30);
  check(problems, "handshake_timeout", handshake_timeout, milliseconds(20), kDay);
  check(problems, "message_timeout", message_timeout, milliseconds(20), kDay);
  check(problems, "idle_timeout", idle_timeout, milliseconds(20), kDay);
  check(problems, "write_timeout", write_timeout, milliseconds(20), kDay);
  check(problems, "default_timeout", default_timeout, milliseconds(1), kDay);
  check(problems, "max_timeout", max_timeout, milliseconds(1), kDay);
  check(problems, "drain_linger", drain_linger, milliseconds(0), milliseconds(60'000));
  return problems;
}

void RpcClientOptions::describe(runtime::OptionVisitor& v) {
  v.field("max_calls", max_calls, "Calls in flight to one peer, per core");
  v.field("max_request_bytes", max_request_bytes, "Larger payloads are refused before they are sent");
  v.field("max_answer_bytes", max_answer_bytes, "A larger answer breaks the connection");
  v.field("event_buffer", event_buffer, "Events of a tail kept for a slow reader; then the peer waits");
  v.field("connect_timeout", connect_timeout, "After which an address is set aside");
  v.field("set_aside", set_aside, "How long an address that can't be reached, or keeps failing, is left alone at first; doubles each time");
  v.field("max_set_aside", max_set_aside, "The longest time that an address is left alone");
  v.field("failures", failures, "Calls in a row that must fail before an address is set aside; 0: only where it can't be reached");
  v.field("resolve_interval", resolve_interval, "How often the peer's name is resolved again");
  v.field("idle_timeout", idle_timeout, "A connection unused for longer is closed");
}

runtime::Problems RpcClientOptions::validate() const {
  runtime::Problems problems;
  check(problems, "max_calls", max_calls, 1, 1'000'000);
  check(problems, "max_request_bytes", max_request_bytes, 1, std::int64_t(1) << 28);
  check(problems, "max_answer_bytes", max_answer_bytes, 1024, std::int64_t(1) << 30);
  check(problems, "event_buffer", event_buffer, 1, 1'000'000);
  check(problems, "connect_timeout", connect_timeout, milliseconds(20), milliseconds(60'000));
  check(problems, "set_aside", set_aside, milliseconds(0), kDay);
  check(problems, "max_set_aside", max_set_aside, set_aside, kDay);
  check(problems, "failures", failures, 0, 1'000'000);
  check(problems, "resolve_interval", resolve_interval, milliseconds(100), kDay);
  check(problems, "idle_timeout", idle_timeout, milliseconds(100), kDay);
  return problems;
}

}  // namespace flexi::transports::rpc
