// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "core/request.hpp"
#include "runtime/policies/circuit.hpp"
#include "runtime/policies/concurrency_limit.hpp"
#include "runtime/policies/rate_limit.hpp"
#include "runtime/policies/retry.hpp"

namespace flexi::services::broker {

/// How one action, or all custom ones, may go. Transports are named as in `via`.
struct RouteOptions {
  enum class Kind {
    authentication,  ///< always stored, always idempotent
    log,             ///< always idempotent
    effect,          ///< mail and custom actions: idempotent only where declared
  };
  Kind kind = Kind::effect;
  std::string ack = "stored";                ///< what an answer means where the caller doesn't say
  std::vector<std::string> accepted_order{"amqp", "inproc", "http", "grpc", "rpc"};  ///< `via: auto` with ack accepted
  std::vector<std::string> stored_order{"inproc", "http", "grpc", "rpc", "amqp"};    ///< `via: auto` with ack stored
  std::vector<std::string> forbidden{};      ///< nobody may go these ways
  bool idempotent = false;                   ///< carried out twice does no harm: may change its way after a failure half-way

  void describe(runtime::OptionVisitor& v);
  runtime::Problems validate() const;
  bool may_repeat() const { return kind != Kind::effect || idempotent; }
};

struct BrokerOptions {
  RouteOptions auth{.kind = RouteOptions::Kind::authentication};
  RouteOptions log{.kind = RouteOptions::Kind::log, .ack = "accepted"};
  RouteOptions mail{};
  RouteOptions custom{};  ///< for custom actions that bring no options of their own
  std::chrono::milliseconds attempt_timeout{0};  ///< of one remote way while another is left; 0: what the caller has left
  std::int64_t max_payload_bytes = 1 << 20;      ///< as JSON: what every way on can carry; a larger payload is refused before anything accepts it
  runtime::policies::RateLimitOptions rate_limit{};
  runtime::policies::ConcurrencyLimitOptions concurrency{};
  runtime::policies::RetryOptions retry{};
  runtime::policies::CircuitOptions circuit{};

  void describe(runtime::OptionVisitor& v);
  runtime::Problems validate() const;
};

/// Names of transports as values; names that are none are left out (validate() has reported them).
std::vector<core::Via> vias_of(const std::vector<std::string>& names);

}  // namespace flexi::services::broker
