// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <vector>

#include "services/broker/broker_options.hpp"

namespace flexi::services::broker {

/// Where an action of the user's own goes: a service of theirs, or a key of the queue.
struct ActionTarget {
  core::Via via = core::Via::http;  ///< http, grpc, rpc; amqp: a consumer of theirs takes it from the queue
  std::string endpoint{};           ///< "http://host:port/path", "grpc://host:port", "rpc://host:port"; the routing key for amqp
};

/// @return invalid_argument that says what a target looks like
core::Result<ActionTarget> parse_action_target(std::string_view url);

/// `[actions.<name>]`: one action of the user's own.
struct CustomActionOptions {
  std::vector<std::string> url{};  ///< its service; one of each transport may be given
  bool is_protected = false;       ///< the broker takes it with a login's token only
  RouteOptions route{};

  void describe(runtime::OptionVisitor& v);
  /// The targets of a validated action.
  std::vector<ActionTarget> targets() const;
  /// Whether a consumer of the user's own takes its messages from the queue.
  bool has_own_consumer() const;
};

using CustomActions = std::map<std::string, CustomActionOptions>;

/// @return every problem of every action, with its path below the table: "resize.url"
runtime::Problems validate(const CustomActions& actions);

}  // namespace flexi::services::broker
