// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <string_view>

namespace flexi::apps {

/// What a process is: everything in one, or one service of a cluster.
enum class Role { all_in_one, broker, authentication, logger, mail, listener, front_end };

/// What the defaults are for: a host, where all services share one address, or a container, where each has one of its own.
enum class Profile { host, container };

/// A role's command, the ports it listens on where nothing else is said, and what it is made of.
struct RoleTraits {
  Role role;
  std::string_view command;  ///< `flexiconnect <command>`; empty: no command at all
  std::string_view what;
  std::string_view http, grpc, rpc;  ///< default addresses on a host; empty: it has no such listener
  bool broker = false, authentication = false, logger = false, mail = false, listener = false, page = false;
  /// Keeps data of a service that the contract gives a database of its own.
  bool owns_data() const { return authentication || logger || mail; }
  /// Addresses where nothing else is said. Empty: it has no such listener. Source: the contract's ports of services
  std::string_view http_listen(Profile profile) const { return profile == Profile::container ? "0.0.0.0:80" : http; }
  std::string_view grpc_listen(Profile profile) const { return profile == Profile::container && !grpc.empty() ? "0.0.0.0:50001" : grpc; }
  std::string_view rpc_listen(Profile profile) const { return profile == Profile::container && !rpc.empty() ? "0.0.0.0:5001" : rpc; }
};

inline constexpr std::array<RoleTraits, 7> kRoles{{
    {.role = Role::all_in_one, .command = "", .what = "Serve everything in this process", .http = "127.0.0.1:8080", .grpc = "127.0.0.1:50001", .rpc = "127.0.0.1:5001",
     .broker = true, .authentication = true, .logger = true, .mail = true, .listener = true, .page = true},
    {.role = Role::broker, .command = "broker", .what = "Serve the broker alone", .http = "127.0.0.1:8080", .grpc = "127.0.0.1:50001", .rpc = "127.0.0.1:5001", .broker = true},
    {.role = Role::authentication, .command = "authentication", .what = "Serve the authentication service alone", .http = "127.0.0.1:8082", .grpc = "127.0.0.1:50082",
     .rpc = "127.0.0.1:5082", .authentication = true},
    {.role = Role::logger, .command = "logger", .what = "Serve the logger service alone", .http = "127.0.0.1:8083", .grpc = "127.0.0.1:50083", .rpc = "127.0.0.1:5083", .logger = true},
    {.role = Role::mail, .command = "mail", .what = "Serve the mail service alone", .http = "127.0.0.1:8084", .grpc = "127.0.0.1:50084", .rpc = "127.0.0.1:5084", .mail = true},
    {.role = Role::listener, .command = "listener", .what = "Consume RabbitMQ's queues and call the services", .http = "127.0.0.1:8085", .grpc = "", .rpc = "", .listener = true},
    {.role = Role::front_end, .command = "front-end", .what = "Serve the page alone", .http = "127.0.0.1:8081", .grpc = "", .rpc = "", .page = true},
}};

inline constexpr const RoleTraits& traits_of(Role role) { return kRoles[static_cast<std::size_t>(role)]; }

}  // namespace flexi::apps
