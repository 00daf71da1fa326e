// SPDX-License-Identifier: Apache-2.0
#include "transports/http/dispatcher.hpp"

#include <boost/beast/core/string.hpp>
#include <charconv>
#include <functional>

#include "core/bearer.hpp"
#include "core/hops.hpp"
#include "core/timestamp.hpp"
#include "runtime/json.hpp"
#include "transports/json_codec.hpp"

namespace flexi::transports::http {

namespace beast = boost::beast;

namespace {

constexpr std::string_view kExposed = "Link, X-Flexi-Id, X-Flexi-Way, X-Flexi-Duplicate, X-Flexi-Error, X-Flexi-Sent, X-Flexi-Token, Retry-After";
constexpr std::string_view kAllowedHeaders =
    "Accept, Content-Type, Authorization, X-CSRF-Token, Idempotency-Key, X-Flexi-Via, X-Flexi-Ack, X-Flexi-Timeout-Ms, traceparent";

constexpr std::size_t kMaxAddressBytes = 64;

/// The contract's CORS, and the narrower one of administration, differ in who gets it only.
std::string cors_headers(std::string_view origin) {
  std::string lines;
  lines.append("Access-Control-Allow-Origin: ").append(origin).append("\r\nAccess-Control-Allow-Credentials: true\r\n");
  lines.append("Access-Control-Expose-Headers: ").append(kExposed).append("\r\nVary: Origin\r\n");
  return lines;
}

/// A missing Content-Type is JSON: the reference's own services send none on some calls.
bool is_json_type(std::string_view type) {
  if (type.empty()) return true;
  type = type.substr(0, std::min(type.find(';'), type.size()));
  while (!type.empty() && (type.back() == ' ' || type.back() == '\t')) type.remove_suffix(1);
  return beast::iequals(type, kJsonType);
}

/// Whether gzip stands in the list with a weight above zero. Source: RFC 9110 section 12.5.3
bool accepts_gzip(std::string_view list) {
  while (!list.empty()) {
    const auto comma = std::min(list.find(','), list.size());
    auto item = list.substr(0, comma);
    list.remove_prefix(std::min(comma + 1, list.size()));
    while (!item.empty() && item.front() == ' ') item.remove_prefix(1);
    const auto semicolon = std::min(item.find(';'), item.size());
    if (!beast::iequals(item.substr(0, semicolon), "gzip")) continue;
    const auto weight = item.find("q=", semicolon);
    return weight == item.npos || item.substr(weight + 2).find_first_of("123456789") != item.npos;
  }
  return false;
}

bool etag_matches(std::string_view header, std::string_view etag) {
  return header == "*" || (!header.empty() && header.find(etag) != header.npos);
}

/// A message that is refused before it is understood has an id, too: the one that it brings, where that is one.
std::string id_of_refused(const Plan& plan, const Head& head) {
  if (!plan.request.id.empty()) return plan.request.id.str();
  const bool named = head.flexi_id.data() && (plan.target == Target::contract || plan.target == Target::action);
  auto id = core::MessageId::from_key(named ? head.flexi_id : head.idempotency_key, named ? std::string_view() : std::string_view(plan.context.caller));
  return (id ? id.value() : core::MessageId::generate()).str();
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && std::string_view(" \t\r\n").find(text.front()) != std::string_view::npos) text.remove_prefix(1);
  while (!text.empty() && std::string_view(" \t\r\n").find(text.back()) != std::string_view::npos) text.remove_suffix(1);
  return text;
}

}  // namespace

Dispatcher::Dispatcher(const HttpServerOptions& options, Ingress ingress, std::string own_host)
    : options_(options), ingress_(std::move(ingress)), rules_{ingress_.process.admin_token, std::move(own_host), options.allowed_origins, ingress_.process.token_always,
             ingress_.login_tokens} {
  for (auto& proxy : options_.trusted_proxies)
    if (auto network = Network::parse(proxy)) trusted_proxies_.push_back(*network);
  for (auto file : ingress_.resources) {
    if (file.etag.empty()) file.etag = '"' + std::to_string(std::hash<std::string>{}(file.body)) + '-' + std::to_string(file.body.size()) + '"';
    Resource resource{file, {}};
    resource.headers.append("ETag: ").append(file.etag).append("\r\n");
    if (!file.gzip_body.empty()) resource.headers += "Vary: Accept-Encoding\r\n";
    for (auto& [name, value] : file.headers) resource.headers.append(name).append(": ").append(value).append("\r\n");
    resources_.emplace(file.path, std::move(resource));
  }
}

core::Handler* Dispatcher::handler_of(Target target) const {
  switch (target) {
    case Target::hit:
    case Target::handle:
    case Target::log_grpc: return ingress_.broker;
    case Target::contract:
    case Target::action: return ingress_.services;
    default: return ingress_.broker ? ingress_.broker : ingress_.services;
  }
}

Plan Dispatcher::plan(const Head& head, std::string_view body, const boost::asio::ip::address& peer) const {
  Plan plan;
  if (head.method == Method::options) {
    plan_options(plan, head);
    return plan;
  }
  if (head.method == Method::get || head.method == Method::head)
    if (auto found = resources_.find(head.path); found != resources_.end()) {
      plan_resource(plan, head, found->second);
      return plan;
    }
  const auto match = find_route(head.method, head.path);
  const bool probe = match.route && match.route->target >= Target::ping;
  if (!match.route || (!probe && !handler_of(match.route->target))) {
    auto allowed = allowed_methods(head.path);
    const auto* known = any_route(head.path);
    const bool file = resources_.contains(head.path);
    if (file && allowed.find("GET") == allowed.npos) allowed = allowed.empty() ? "GET, HEAD, OPTIONS" : "GET, HEAD, " + allowed;
    if (match.route || (!file && (!known || !(known->target >= Target::ping || handler_of(known->target))))) {
      plan.answer = refusal(404, "there is nothing at this path");
    } else {
      plan.answer = refusal(405, "this path takes " + allowed);
      plan.answer->header("Allow", allowed);
    }
    if (known && is_contract_call(known->target) && is_web_origin(head.origin)) plan.cors = cors_headers(head.origin);
    plan.answer->headers += plan.cors;
    return plan;
  }
  plan.target = match.route->target;
  Asker asker{peer, head.host, head.origin, head.fetch_site, head.fetch_mode, head.authorization, head.forwarded};
  if (is_open_to_pages(plan.target) ? is_web_origin(head.origin) : may_administer_from(rules_, head.origin, head.host))
    if (!head.origin.empty()) plan.cors = cors_headers(head.origin);
  if (probe) {
    if (plan.target == Target::metrics)
      if (auto allowed = check_reader_of_metrics(asker); !allowed) {
        plan.answer = error_answer(allowed.error(), status_of(allowed.error().kind));
        return plan;
      }
    plan_probe(plan);
  } else if (plan.target == Target::hit && body.empty()) {
    plan_hit(plan, body);
  } else if (!is_json_type(head.content_type) && (is_contract_call(plan.target) || !body.empty())) {
    plan.answer = refusal(415, "Content-Type must be application/json");
  } else if (plan.target == Target::hit) {
    plan_hit(plan, body);
  } else if (auto call = plan_call(plan, head, match, body, asker); !call) {
    plan.answer = error_answer(call.error(), status_of(call.error().kind));
  }
  if (plan.answer && is_contract_call(plan.target) && plan.target != Target::hit) plan.answer->header("X-Flexi-Id", id_of_refused(plan, head));
  if (plan.answer) plan.answer->headers += plan.cors;
  return plan;
}

/// Nobody is asked on the way to the metrics: a login's token does not open them.
core::Result<void> Dispatcher::check_reader_of_metrics(const Asker& asker) const {
  FLEXI_TRY(auto admission, check_administrator(rules_, asker));
  if (admission != Admission::administrator) return core::unauthenticated("the metrics want the administrator's token");
  return core::ok();
}

/// The one call that takes any JSON value, and none.
void Dispatcher::plan_hit(Plan& plan, std::string_view body) const {
  if (!body.empty() && !runtime::is_json(body)) {
    plan.answer = refusal(400, "the body must be empty, or one valid JSON value with nothing after it");
    return;
  }
  plan.answer.emplace();
  append_envelope(plan.answer->body, false, "Hit the broker", {}, {});
}

void Dispatcher::plan_options(Plan& plan, const Head& head) const {
  auto allowed = head.path == "*" ? std::string("GET, HEAD, POST, PUT, DELETE, OPTIONS") : allowed_methods(head.path);
  if (resources_.contains(head.path) && allowed.find("GET") == allowed.npos) allowed = allowed.empty() ? "GET, HEAD, OPTIONS" : "GET, HEAD, " + allowed;
  if (allowed.empty()) {
    plan.answer = refusal(404, "there is nothing at this path");
    return;
  }
  plan.answer.emplace();
  auto& answer = *plan.answer;
  answer.status = 204;
  answer.no_content = true;
  answer.header("Allow", allowed);
  const auto* route = find_route(method_from(head.preflight_method), head.path).route;
  if (!route) route = any_route(head.path);
  const bool open = route && is_open_to_pages(route->target);
  if (head.origin.empty() || !(open ? is_web_origin(head.origin) : may_administer_from(rules_, head.origin, head.host))) return;
  answer.headers += cors_headers(head.origin);
  answer.header("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE, OPTIONS");
  answer.header("Access-Control-Allow-Headers", kAllowedHeaders);
  answer.header("Access-Control-Max-Age", "300");
}

void Dispatcher::plan_resource(Plan& plan, const Head& head, const Resource& resource) const {
  plan.answer.emplace();
  auto& answer = *plan.answer;
  answer.headers = resource.headers;
  answer.content_type = resource.file.content_type;
  if (etag_matches(head.if_none_match, resource.file.etag)) {
    answer.status = 304;
    answer.no_content = true;
  } else if (!resource.file.gzip_body.empty() && accepts_gzip(head.accept_encoding)) {
    answer.header("Content-Encoding", "gzip");
    answer.body = resource.file.gzip_body;
  } else {
    answer.body = resource.file.body;
  }
}

void Dispatcher::plan_probe(Plan& plan) const {
  plan.answer.emplace();
  auto& answer = *plan.answer;
  answer.content_type = kTextType;
  if (plan.target == Target::metrics) {
    answer.content_type = "text/plain; version=0.0.4; charset=utf-8";
    ingress_.process.metrics.gauge("flexi_ready", "1 while /readyz says that this process can do its work, else 0").set(ingress_.process.readiness.ready() ? 1 : 0);
    answer.body = ingress_.process.metrics.expose();
  } else if (plan.target == Target::readyz) {
    answer.content_type = kJsonType;
    answer.status = ingress_.process.readiness.ready() ? 200 : 503;
    answer.body = ingress_.process.readiness.to_json();
  } else {
    answer.body = plan.target == Target::ping ? "." : "ok";
  }
}

core::Result<void> Dispatcher::plan_call(Plan& plan, const Head& head, const RouteMatch& match, std::string_view body, const Asker& asker) const {
  auto& request = plan.request;
  plan.handler = handler_of(plan.target);
  std::optional<std::string> body_id;
  bool body_via = false;
  if (plan.target == Target::handle || plan.target == Target::log_grpc) {
    FLEXI_TRY(auto read, plan.target == Target::handle ? read_handle_body(body) : read_log_body(body));
    request = std::move(read.request);
    body_id = std::move(read.id);
    body_via = read.has_via;
  } else if (plan.target == Target::contract) {
    request.action = match.route->action;
    FLEXI_TRY(request.payload, payload_from_json(request.action, body));
  } else if (plan.target == Target::action) {
    auto action = percent_decode(match.value, false);
    if (!action) return core::invalid_argument("the path's action must be valid UTF-8 with valid %XX escapes");
    request.action = std::move(*action);
    FLEXI_TRY(request.payload, payload_from_json(request.action, body));
  } else {
    request.action = match.route->action;
    FLEXI_TRY(read_parameters(plan, head, match, body));
  }
  FLEXI_TRY(read_caller(plan, head, asker));
  if (plan.target != Target::contract && plan.target != Target::action) {
    if (head.via.data()) {
      const auto via = core::via_from(head.via);
      if (!via) return core::invalid_argument("X-Flexi-Via must be one of auto, inproc, http, rpc, grpc, amqp");
      if (body_via && request.via != *via) return core::invalid_argument("X-Flexi-Via and the body's via differ: give one");
      request.via = *via;
    }
    if (plan.target == Target::log_grpc && !head.via.data() && !body_via) request.via = ingress_.log_grpc;
  }
  if (head.ack.data()) {
    const auto ack = core::ack_from(head.ack);
    if (!ack) return core::invalid_argument("X-Flexi-Ack must be accepted or stored");
    if (request.ack && *request.ack != *ack) return core::invalid_argument("X-Flexi-Ack and the body's ack differ: give one");
    request.ack = ack;
  }
  // The contract's call by name is answered once the entry is stored, whichever way there is.
  if (plan.target == Target::log_grpc && !request.ack && request.via == core::Via::automatic) request.ack = core::Ack::stored;
  FLEXI_TRY(read_identity(plan, head, body_id));
  plan.id = request.id;
  plan.action = request.action;
  return read_context(plan, head);
}

/// Who asks, whichever path it comes by.
core::Result<void> Dispatcher::read_caller(Plan& plan, const Head& head, const Asker& asker) const {
  const auto& action = plan.request.action;
  if (action == core::actions::kAuth) plan.context.client = client_address(trusted_proxies_, asker.peer, head.forwarded_for);
  auto admission = Admission::by_login_token;
  if (core::is_administrative(action)) {
    FLEXI_TRY(admission, check_administrator(rules_, asker));
  } else if (check_token(rules_, head.authorization) == Token::valid) {
    admission = Admission::administrator;
  }
  if (admission == Admission::administrator) plan.context.caller = "admin";
  else if (const auto bearer = bearer_of(head.authorization); ingress_.login_tokens && core::may_be_login_token(bearer)) plan.context.bearer = bearer;
  return core::ok();
}

core::Result<void> Dispatcher::read_parameters(Plan& plan, const Head& head, const RouteMatch& match, std::string_view body) const {
  runtime::JsonWriter json;
  json.begin_object();
  auto query = head.query;
  while (!query.empty()) {
    const auto end = std::min(query.find('&'), query.size());
    const auto pair = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    if (pair.empty()) continue;
    const auto equals = std::min(pair.find('='), pair.size());
    auto name = percent_decode(pair.substr(0, equals), true);
    auto value = percent_decode(pair.substr(std::min(equals + 1, pair.size())), true);
    if (!name || !value) return core::invalid_argument("query parameters must be valid UTF-8 with valid %XX escapes");
    // Proxies write it to their logs.
    if (*name == "password") return core::invalid_argument("password belongs into the body, not into the URL");
    if (*name == "token" && plan.target == Target::account) return core::invalid_argument("the token belongs into the header Authorization, not into the URL");
    json.field(*name, *value);
  }
  const auto object = trimmed(body);
  if (!object.empty()) {
    FLEXI_TRY(runtime::JsonObject::parse(object));
    const auto inner = trimmed(object.substr(1, object.size() - 2));
    if (!inner.empty()) json.raw(inner);
  }
  // Last, for the last of two equal names counts: the path's id can't be overridden.
  if (!match.parameter.empty()) {
    auto value = percent_decode(match.value, false);
    if (!value) return core::invalid_argument("the path must be valid UTF-8 with valid %XX escapes");
    json.field(match.parameter, *value);
  }
  plan.request.payload = core::Json{json.end_object().take()};
  return core::ok();
}

core::Result<void> Dispatcher::read_identity(Plan& plan, const Head& head, const std::optional<std::string>& body_id) const {
  auto& request = plan.request;
  const bool between_ours = plan.target == Target::contract || plan.target == Target::action;
  request.accepted_at = std::chrono::system_clock::now();
  if (head.idempotency_key.data() && body_id && head.idempotency_key != *body_id)
    return core::invalid_argument("Idempotency-Key and the body's id differ: give one");
  request.id_from_caller = head.idempotency_key.data() || body_id;
  const bool named = between_ours && head.flexi_id.data();
  if (named) {
    // The peer has scoped the key already; a stranger must not name an administrator's.
    if (head.flexi_id.starts_with('~') && plan.context.caller.empty()) return core::invalid_argument("X-Flexi-Id must not begin with '~'");
    FLEXI_TRY(request.id, core::MessageId::parse(head.flexi_id));
  } else if (request.id_from_caller) {
    FLEXI_TRY(request.id, core::MessageId::from_key(body_id ? std::string_view(*body_id) : head.idempotency_key, plan.context.caller,
                                                         body_id ? "id" : "Idempotency-Key"));
  } else {
    request.id = core::MessageId::generate();
  }
  // By which way it comes: a broker of ours says so, behind the queue too; anybody else came by HTTP.
  if (between_ours) request.via = core::Via::http;
  // Only what can be told apart from a retry may overtake its neighbour on the same connection.
  plan.parallel = named && request.action == core::actions::kLog;
  if (!between_ours || !is_trusted(head)) return core::ok();
  plan.inner = named;
  return read_journey(plan, head);
}

/// A process that serves services only is reached by other services alone. Where the broker is here, too, anybody reaches them:
/// then whoever is not this process itself, nor the administrator, could forge the ledger's numbers and the order of the log.
bool Dispatcher::is_trusted(const Head& head) const {
  return !ingress_.broker || is_secret(head.process_key, ingress_.process.process_key) || check_token(rules_, head.authorization) == Token::valid;
}

/// What one of our own hops says of the message: when it was accepted, which way it came, where it has been.
core::Result<void> Dispatcher::read_journey(Plan& plan, const Head& head) const {
  auto& request = plan.request;
  if (head.accepted_at.data()) {
    const auto time = core::parse_rfc3339(head.accepted_at);
    if (!time) return core::invalid_argument("X-Flexi-Accepted-At must be an RFC 3339 time such as 2026-11-24T09:30:00Z");
    request.accepted_at = std::min(request.accepted_at, time.value());  // a peer's clock may be ahead of ours
  }
  if (!plan.inner) return core::ok();
  if (head.via.data()) {
    const auto via = core::via_from(head.via);
    if (!via) return core::invalid_argument("X-Flexi-Via must be one of auto, inproc, http, rpc, grpc, amqp");
    request.via = *via;
  }
  if (core::may_be_hops(head.hops)) plan.context.hops = head.hops;
  if (request.action == core::actions::kAuth && !head.client.empty() && head.client.size() <= kMaxAddressBytes) plan.context.client = head.client;
  return core::ok();
}

core::Result<void> Dispatcher::read_context(Plan& plan, const Head& head) const {
  auto timeout = options_.default_timeout;
  if (head.timeout_ms.data()) {
    std::int64_t ms = 0;
    const auto* last = head.timeout_ms.data() + head.timeout_ms.size();
    auto [end, ec] = std::from_chars(head.timeout_ms.data(), last, ms);
    if (head.timeout_ms.empty() || end != last || ec == std::errc::invalid_argument || head.timeout_ms.front() == '-')
      return core::invalid_argument("X-Flexi-Timeout-Ms must be a number of milliseconds, 0 or more");
    if (ec == std::errc::result_out_of_range) ms = INT64_MAX;
    timeout = std::chrono::milliseconds(std::min<std::int64_t>(ms, options_.max_timeout.count()));
  }
  plan.context.deadline = core::CallContext::Clock::now() + timeout;
  // A tail goes on until somebody leaves.
  if (plan.request.action == core::actions::kLogsTail) plan.context.deadline = core::CallContext::Clock::time_point::max();
  if (!head.traceparent.empty()) plan.context.trace = core::TraceContext::from_traceparent(head.traceparent);
  return core::ok();
}

Answer Dispatcher::finish(const Plan& plan, const core::Result<core::Reply>& result) const {
  Answer answer;
  if (!result) {
    auto& error = result.error();
    const bool contract = plan.target == Target::handle || plan.target == Target::log_grpc;
    if (!error.detail.empty() || error.kind == core::ErrorKind::internal || error.kind == core::ErrorKind::unavailable) {
      // One warning per failed request: where this process is the broker too, the broker's ingress says it.
      const auto level = plan.inner && ingress_.broker ? runtime::LogLevel::debug : runtime::LogLevel::warning;
      ingress_.process.log.write(level, "request failed", {{"action", plan.action}, {"id", plan.id.str()}, {"kind", core::to_string(error.kind)},
                                                           {"message", error.message}, {"detail", error.detail}, {"trace", plan.context.trace.to_traceparent()}});
    }
    answer = error_answer(error, contract && error.kind == core::ErrorKind::unimplemented ? 400 : status_of(error.kind));
    if (!error.way.empty()) answer.header("X-Flexi-Way", error.way);
  } else {
    auto& reply = result.value();
    const bool accepted = is_contract_call(plan.target) && plan.target != Target::action;
    answer.status = accepted ? 202 : 200;
    if (!reply.way.empty()) answer.header("X-Flexi-Way", reply.way);
    if (reply.duplicate) answer.header("X-Flexi-Duplicate", "true");
    if (!reply.token.empty()) {
      answer.header("X-Flexi-Token", reply.token);
      answer.header("Cache-Control", "no-store");
    }
    if (reply.events) {
      answer.streams = true;
      answer.content_type = "text/event-stream";
      answer.header("Cache-Control", "no-cache");
    } else {
      // Over RPC the remote method's own text would be the answer; this call's is always the same.
      const bool logged = plan.target == Target::log_grpc && !reply.way.starts_with("amqp");
      append_envelope(answer.body, false, logged ? "logged" : reply.message, reply.data, reply.next);
    }
  }
  if (is_contract_call(plan.target)) answer.header("X-Flexi-Id", plan.id.str());
  answer.headers += plan.cors;
  return answer;
}

Answer Dispatcher::too_large(const Head& head) const {
  const auto* route = find_route(head.method, head.path).route;
  // /actions/… has the contract's CORS, but is none of its calls.
  const bool contract = route && is_contract_call(route->target) && route->target != Target::action;
  auto answer = refusal(contract ? 400 : 413, "the body must be at most " + std::to_string(options_.max_body_bytes) + " bytes");
  complete_refusal(answer, head);
  return answer;
}

Answer Dispatcher::no_room(const Head& head) const {
  auto answer = refusal(503, "the server holds too many requests, try again later");
  answer.header("Retry-After", "1");
  complete_refusal(answer, head);
  return answer;
}

/// What every answer of a contract call has, where the body has not been read.
void Dispatcher::complete_refusal(Answer& answer, const Head& head) const {
  Plan plan;
  const auto* route = find_route(head.method, head.path).route;
  if (!route || !is_contract_call(route->target)) return;
  plan.target = route->target;
  if (plan.target != Target::hit) answer.header("X-Flexi-Id", id_of_refused(plan, head));
  if (is_web_origin(head.origin)) answer.headers += cors_headers(head.origin);
}

}  // namespace flexi::transports::http
