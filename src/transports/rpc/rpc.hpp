// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/transport.hpp"
#include "runtime/log_sink.hpp"
#include "runtime/metrics.hpp"
#include "runtime/net/address_health.hpp"
#include "runtime/readiness.hpp"
#include "runtime/shards.hpp"
#include "transports/rpc/options.hpp"

namespace flexi::transports::rpc {

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

/// One more object that a server exports, with the methods of schema's Actions.
struct Export {
  std::string name;
  core::Handler& handler;
};

/// What one server serves. Administration goes to the broker where there is one, else to the services.
struct Ingress {
  Process process;
  core::Handler* broker = nullptr;    ///< exported as Broker
  core::Handler* services = nullptr;  ///< exported as Logger, Authentication, Mail and Actions
  std::vector<Export> exports{};
  /// All handlers ask whose token CallContext::bearer is before they administer: then a login's token may be tried there.
  bool login_tokens = false;
};

/// Listens on every shard. The handlers outlive the server's stop().
/// @return unavailable with the address and the system's reason; invalid_argument where `options.listen` is no address;
///         conflict where two objects would be exported under one name
core::Result<std::unique_ptr<core::Server>> serve(RpcServerOptions options, Ingress ingress);

/// A client of one peer, "rpc://host:port". The caller's deadline is kept whether or not the caller cancels.
/// @return invalid_argument where the endpoint can't be understood
core::Result<std::unique_ptr<core::Client>> connect(RpcClientOptions options, Process process, std::string endpoint);

/// Both ends as core::Transport: serve() serves a handler as the services.
std::unique_ptr<core::Transport> make_transport(RpcServerOptions server, RpcClientOptions client, Process process);

}  // namespace flexi::transports::rpc
