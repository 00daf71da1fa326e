// SPDX-License-Identifier: Apache-2.0
#include "transports/http/routes.hpp"

#include <algorithm>

#include "core/request.hpp"
#include "runtime/json.hpp"

namespace flexi::transports::http {

namespace {

namespace actions = core::actions;

// The whole HTTP surface; schemas/openapi.yaml describes it. The hot ones stand first.
constexpr Route kRoutes[] = {
    {Method::post, "/", Target::hit, ""},
    {Method::post, "/handle", Target::handle, ""},
    {Method::post, "/log", Target::contract, actions::kLog},
    {Method::post, "/authenticate", Target::contract, actions::kAuth},
    {Method::post, "/send", Target::contract, actions::kMail},
    {Method::post, "/log-gRPC", Target::log_grpc, actions::kLog},
    {Method::post, "/actions/{action}", Target::action, ""},
    {Method::get, "/logs", Target::administer, actions::kLogsList},
    {Method::get, "/logs/{id}", Target::administer, actions::kLogsGet},
    {Method::get, "/logs/tail", Target::administer, actions::kLogsTail},
    {Method::get, "/mails", Target::administer, actions::kMailsList},
    {Method::get, "/mails/{id}", Target::administer, actions::kMailsGet},
    {Method::del, "/mails/{id}", Target::administer, actions::kMailsDelete},
    {Method::post, "/mails/{id}/release", Target::administer, actions::kMailsRelease},
    {Method::get, "/users", Target::administer, actions::kUsersList},
    {Method::get, "/users/{id}", Target::administer, actions::kUsersGet},
    {Method::post, "/users", Target::administer, actions::kUsersCreate},
    {Method::put, "/users/{id}", Target::administer, actions::kUsersUpdate},
    {Method::del, "/users/{id}", Target::administer, actions::kUsersDelete},
    {Method::post, "/users/{id}/password", Target::administer, actions::kUsersResetPassword},
    {Method::get, "/me", Target::account, actions::kMeGet},
    {Method::get, "/dlq", Target::administer, actions::kDlqList},
    {Method::get, "/dlq/{id}", Target::administer, actions::kDlqGet},
    {Method::post, "/dlq/{id}/replay", Target::administer, actions::kDlqReplay},
    {Method::del, "/dlq/{id}", Target::administer, actions::kDlqDiscard},
    {Method::post, "/dlq/replay", Target::administer, actions::kDlqReplay},
    {Method::del, "/dlq", Target::administer, actions::kDlqDiscard},
    {Method::get, "/system", Target::administer, actions::kSystemGet},
    {Method::get, "/receipts/{id}", Target::administer, actions::kReceiptsGet},
    {Method::get, "/ledger", Target::administer, actions::kLedgerGet},
    {Method::get, "/ping", Target::ping, ""},
    {Method::get, "/healthz", Target::healthz, ""},
    {Method::get, "/readyz", Target::readyz, ""},
    {Method::get, "/metrics", Target::metrics, ""},
};

constexpr std::pair<std::string_view, Method> kMethods[] = {{"POST", Method::post}, {"GET", Method::get},        {"HEAD", Method::head},
                                                            {"PUT", Method::put},   {"DELETE", Method::del},     {"OPTIONS", Method::options}};

/// Whether `path` fits `route`'s pattern; fills in the {segment}.
bool fits(const Route& route, std::string_view path, RouteMatch& match) {
  const auto open = route.pattern.find('{');
  if (open == route.pattern.npos) return route.pattern == path;
  const auto close = route.pattern.find('}');
  const auto before = route.pattern.substr(0, open), after = route.pattern.substr(close + 1);
  if (path.size() <= before.size() + after.size() || !path.starts_with(before) || !path.ends_with(after)) return false;
  const auto value = path.substr(before.size(), path.size() - before.size() - after.size());
  if (value.find('/') != value.npos) return false;
  match.parameter = route.pattern.substr(open + 1, close - open - 1);
  match.value = value;
  return true;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

Method method_from(std::string_view token) {
  for (auto& [name, method] : kMethods)
    if (name == token) return method;
  return Method::other;
}

RouteMatch find_route(Method method, std::string_view path) {
  if (method == Method::head) method = Method::get;
  // A literal path goes before a pattern, whatever the method: /logs/tail and /dlq/replay are no ids.
  const bool literal = std::any_of(std::begin(kRoutes), std::end(kRoutes), [path](auto& route) { return route.pattern == path; });
  for (auto& route : kRoutes) {
    RouteMatch match;
    if (route.method != method || (literal && route.pattern != path) || !fits(route, path, match)) continue;
    match.route = &route;
    return match;
  }
  return {};
}

const Route* any_route(std::string_view path) {
  RouteMatch ignored;
  for (auto& route : kRoutes)
    if (fits(route, path, ignored)) return &route;
  return nullptr;
}

std::string allowed_methods(std::string_view path) {
  std::string list;
  for (auto& [name, method] : kMethods)
    if (method != Method::head && method != Method::options && find_route(method, path).route) {
      list.append(list.empty() ? "" : ", ").append(name);
      if (method == Method::get) list += ", HEAD";
    }
  return list.empty() ? list : list + ", OPTIONS";
}

bool is_open_to_pages(Target target) { return is_contract_call(target) || target == Target::account; }

bool is_contract_call(Target target) {
  return target == Target::hit || target == Target::handle || target == Target::log_grpc || target == Target::contract || target == Target::action;
}

std::optional<std::string> percent_decode(std::string_view text, bool query) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+' && query) {
      out += ' ';
    } else if (text[i] == '%') {
      const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
      const int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
      if (high < 0 || low < 0 || (high == 0 && low == 0)) return std::nullopt;
      out += static_cast<char>(high << 4 | low);
      i += 2;
    } else {
      out += text[i];
    }
  }
  std::string quoted;
  runtime::append_json_string(quoted, out);
  // append_json_string replaces what is not UTF-8; text that was valid is found again.
  if (quoted.find("\xEF\xBF\xBD") != quoted.npos && out.find("\xEF\xBF\xBD") == out.npos) return std::nullopt;
  return out;
}

}  // namespace flexi::transports::http
