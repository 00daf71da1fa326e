// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "transports/grpc/asked.hpp"
#include "transports/grpc/codec.hpp"
#include "transports/grpc/grpc.hpp"
#include "transports/grpc/method.hpp"

namespace flexi::transports::grpc {

/// What the methods of one server share.
/// Lifetime/threads: outlives the server; immutable, any thread
struct Surface {
  Process process;
  core::Handler* broker;
  core::Handler* services;
  std::chrono::milliseconds default_timeout, max_timeout;
  std::size_t max_bulk_in_flight;
  Trust trust;

  /// Administration, and what no service of ours owns, go to the broker where there is one; the rest to whom the method is for.
  core::Handler& handler(Side side, std::string_view action) const;
  /// Whose rules hold for what the caller says of the message: the broker's for what it hands on.
  Side side_of(Side side, std::string_view action) const;
};

/// What is left of a request when its handler has it: for the log and for the answer.
struct Asking {
  std::string id;
  std::string action;
  core::TraceContext trace;
  bool inner = false;  ///< a broker asks
};

/// Writes a failure's detail, every bug and every service that is down to the log. One warning per failed request: where this
/// process is the broker that asks, the broker's ingress says it.
void log_failure(const Surface& surface, const Asking& asking, const core::Error& error);
/// The status of a call that failed; the message's id and the last way that was tried stand in the trailers.
Status refuse(const Surface& surface, ServerCall& call, Asking asking, const core::Error& error);

/// Adds everything that `ingress` serves, with health and reflection.
void add_methods(MethodTable& table, const GrpcServerOptions& options, const Ingress& ingress);

}  // namespace flexi::transports::grpc
