// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace flexi::transports::http {

enum class Method { get, head, post, put, del, options, other };
Method method_from(std::string_view token);

/// What a route does; says which handler answers and which rules hold.
enum class Target {
  hit,         ///< broker: `POST /`
  handle,      ///< broker: `POST /handle`
  log_grpc,    ///< broker: `POST /log-gRPC`
  contract,    ///< services: the contract's calls
  action,      ///< services: `POST /actions/{action}`
  administer,  ///< broker or services: reads and administration
  account,     ///< broker or services: `GET /me`, whose token it is
  ping,
  healthz,
  readyz,
  metrics,
};

struct Route {
  Method method;
  std::string_view pattern;  ///< a path; one segment may be {name}
  Target target;
  std::string_view action;   ///< where the route names it
};

struct RouteMatch {
  const Route* route = nullptr;
  std::string_view parameter{};  ///< name of the pattern's {segment}
  std::string_view value{};      ///< as it stands in the path, still percent-encoded
};

/// What `path` (without query) leads to. HEAD finds GET's route.
RouteMatch find_route(Method method, std::string_view path);
/// "GET, HEAD, OPTIONS" for a known path; empty for an unknown one.
std::string allowed_methods(std::string_view path);
/// Any route of this path, whatever its method (a preflight asks before it calls).
const Route* any_route(std::string_view path);

/// True where any web page may call: the contract's calls, and what a token alone opens.
bool is_open_to_pages(Target target);
/// True for the calls of the contract's table: its own statuses and CORS hold there.
bool is_contract_call(Target target);

/// %XX decoded; '+' is a space only where `query` says so.
/// @return none for a broken escape, a NUL or invalid UTF-8
std::optional<std::string> percent_decode(std::string_view text, bool query);

}  // namespace flexi::transports::http
