// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/transport.hpp"
#include "runtime/log_sink.hpp"
#include "runtime/metrics.hpp"
#include "runtime/net/address_health.hpp"
#include "runtime/readiness.hpp"
#include "runtime/shards.hpp"
#include "transports/http/options.hpp"

namespace flexi::transports::http {

/// A file served from memory, with ETag and If-None-Match.
struct StaticResource {
  std::string path;          ///< exactly this path, e.g. "/", "/app.js"
  std::string content_type;
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers{};  ///< e.g. {"Content-Security-Policy", "default-src 'self'"}
  std::string etag{};        ///< with its quotes; empty: made of the body
  std::string gzip_body{};   ///< sent instead where the client accepts gzip; empty: there is none
};

/// What belongs to the process, not to one server.
/// Lifetime: all outlive every server, client and transport made with them
struct Process {
  runtime::Metrics& metrics;
  runtime::Readiness& readiness;
  runtime::LogSink& log;
  runtime::Shards& shards;
  std::string admin_token{};  ///< empty: administration from loopback only
  runtime::net::Peers* peers = nullptr;  ///< told of the peers that clients call
  /// A secret of this process, shared by its servers and by its clients of itself. Where a broker is served, strangers reach the
  /// services, too: only who shows it, or the administrator's token, says when a message was accepted and where it has been.
  std::string process_key{};
  bool token_always = false;  ///< administration wants the token on this machine, too
};

/// What one server serves. Administration goes to the broker where there is one, else to the services.
struct Ingress {
  Process process;
  core::Handler* broker = nullptr;    ///< `POST /`, `/handle`, `/log-gRPC`; null: these are 404
  core::Handler* services = nullptr;  ///< `/authenticate`, `/log`, `/send`, `/actions/…`; null: these are 404
  std::vector<StaticResource> resources{};
  core::Via log_grpc = core::Via::automatic;  ///< how `POST /log-gRPC` goes on: grpc where the broker has that way
  /// Both handlers ask whose token CallContext::bearer is before they administer: then a login's token may be tried there.
  bool login_tokens = false;
};

/// Listens on every shard. The handlers outlive the server's stop().
/// @return unavailable with the address and the system's reason; invalid_argument where `options.listen` is no address
core::Result<std::unique_ptr<core::Server>> serve(HttpServerOptions options, Ingress ingress);

/// A client of one peer, "http://host:port". The caller's deadline is kept whether or not the caller cancels.
/// @return invalid_argument where the endpoint can't be understood
core::Result<std::unique_ptr<core::Client>> connect(HttpClientOptions options, Process process, std::string endpoint);

/// A client of one URL of another's service: each request is `POST <path>` with its payload as JSON body, its id as
/// X-Flexi-Id and Idempotency-Key, what time is left as X-Flexi-Timeout-Ms, the trace as traceparent.
/// @param url "http://host:port/path"
core::Result<std::unique_ptr<core::Client>> connect_foreign(HttpClientOptions options, Process process, std::string url);

/// Both ends as core::Transport: serve() serves a handler on the service surface.
std::unique_ptr<core::Transport> make_transport(HttpServerOptions server, HttpClientOptions client, Process process);

}  // namespace flexi::transports::http
