// SPDX-License-Identifier: Apache-2.0
#include "transports/http/options.hpp"

#include "runtime/net/address.hpp"
#include "transports/http/client_address.hpp"

namespace flexi::transports::http {

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

void HttpServerOptions::describe(runtime::OptionVisitor& v) {
  v.field("listen", listen, "Address and port; port 0 picks a free one");
  v.field("max_body_bytes", max_body_bytes, "Larger bodies are refused");
  v.field("max_header_bytes", max_header_bytes, "Larger request headers are refused");
  v.field("max_connections", max_connections, "Connections open at once; one more gets 503");
  v.field("max_buffered_bytes", max_buffered_bytes, "Bytes of request bodies held at once, per core; past it one that is still coming gets 503");
  v.field("max_pipelined", max_pipelined, "Requests of one connection answered by one write");
  v.field("header_timeout", header_timeout, "From a request's first byte to the end of its header");
  v.field("body_timeout", body_timeout, "From the header's end to the body's");
  v.field("idle_timeout", idle_timeout, "Between the requests of a kept connection");
  v.field("write_timeout", write_timeout, "For a client to take an answer");
  v.field("default_timeout", default_timeout, "Of a request without X-Flexi-Timeout-Ms");
  v.field("max_timeout", max_timeout, "Cap of X-Flexi-Timeout-Ms");
  v.field("event_keep_alive", event_keep_alive, "Silence after which an event stream sends a comment");
  v.field("drain_linger", drain_linger, "While stopping: how long an idle connection may still send a request");
  v.field("allowed_origins", allowed_origins, "Origins that may administer from a browser, beside the server's own");
  v.field("trusted_proxies", trusted_proxies, "Addresses and networks of proxies whose X-Forwarded-For says who logs in, e.g. 10.0.0.0/8; others are not believed");
}

runtime::Problems HttpServerOptions::validate() const {
  runtime::Problems problems;
  if (auto endpoint = runtime::net::parse_listen(listen, 80); !endpoint) problems.push_back({"listen", endpoint.error().message});
  check(problems, "max_body_bytes", max_body_bytes, 1, std::int64_t(1) << 30);
  check(problems, "max_header_bytes", max_header_bytes, 1024, 1 << 20);
  check(problems, "max_connections", max_connections, 1, 1'000'000);
  check(problems, "max_buffered_bytes", max_buffered_bytes, std::max<std::int64_t>(max_body_bytes, 1), std::int64_t(1) << 40);
  check(problems, "max_pipelined", max_pipelined, 1, 10'000);
  check(problems, "header_timeout", header_timeout, milliseconds(20), kDay);
  check(problems, "body_timeout", body_timeout, milliseconds(20), kDay);
  check(problems, "idle_timeout", idle_timeout, milliseconds(20), kDay);
  check(problems, "write_timeout", write_timeout, milliseconds(20), kDay);
  check(problems, "default_timeout", default_timeout, milliseconds(1), kDay);
  check(problems, "max_timeout", max_timeout, milliseconds(1), kDay);
  check(problems, "event_keep_alive", event_keep_alive, milliseconds(20), kDay);
  check(problems, "drain_linger", drain_linger, milliseconds(0), milliseconds(60'000));
  for (auto& origin : allowed_origins)
    if (!(origin.starts_with("http://") || origin.starts_with("https://")) || origin.find('/', 8) != std::string::npos)
      problems.push_back({"allowed_origins", "\"" + origin + "\" must be an origin such as https://ops.example.com"});
  for (auto& proxy : trusted_proxies)
    if (!Network::parse(proxy)) problems.push_back({"trusted_proxies", "\"" + proxy + "\" must be an address or a network such as 10.0.0.0/8"});
  return problems;
}

void HttpClientOptions::describe(runtime::OptionVisitor& v) {
  v.field("max_connections", max_connections, "Connections to one peer, per core");
  v.field("max_waiting", max_waiting, "Calls that may wait for a connection, per core and peer");
  v.field("max_pipelined", max_pipelined, "Logs in flight on one pipelined connection");
  v.field("max_buffered_bytes", max_buffered_bytes, "Bytes of requests that wait or are under way, per core and peer; past it calls are refused");
  v.field("pipeline_logs", pipeline_logs, "Send logs down one pipelined connection; off for foreign peers");
  v.field("max_answer_bytes", max_answer_bytes, "Larger answers are refused");
  v.field("connect_timeout", connect_timeout, "After which an address is set aside");
  v.field("set_aside", set_aside, "How long an address that can't be reached, or keeps failing, is left alone at first; doubles each time");
  v.field("max_set_aside", max_set_aside, "The longest time that an address is left alone");
  v.field("failures", failures, "Calls in a row that must fail before an address is set aside; 0: only where it can't be reached");
  v.field("resolve_interval", resolve_interval, "How often the peer's name is resolved again");
  v.field("idle_timeout", idle_timeout, "A pooled connection unused for longer is closed");
}

runtime::Problems HttpClientOptions::validate() const {
  runtime::Problems problems;
  check(problems, "max_connections", max_connections, 1, 10'000);
  check(problems, "max_waiting", max_waiting, 0, 1'000'000);
  check(problems, "max_pipelined", max_pipelined, 1, 100'000);
  check(problems, "max_buffered_bytes", max_buffered_bytes, 1024, std::int64_t(1) << 40);
  check(problems, "max_answer_bytes", max_answer_bytes, 1024, std::int64_t(1) << 30);
  check(problems, "connect_timeout", connect_timeout, milliseconds(20), milliseconds(60'000));
  check(problems, "set_aside", set_aside, milliseconds(0), kDay);
  check(problems, "max_set_aside", max_set_aside, set_aside, kDay);
  check(problems, "failures", failures, 0, 1'000'000);
  check(problems, "resolve_interval", resolve_interval, milliseconds(100), kDay);
  check(problems, "idle_timeout", idle_timeout, milliseconds(100), kDay);
  return problems;
}

}  // namespace flexi::transports::http
