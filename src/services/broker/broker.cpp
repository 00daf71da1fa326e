// SPDX-License-Identifier: Apache-2.0
#include "services/broker/broker.hpp"

#include <stdexcept>

#include "runtime/completion.hpp"
#include "services/broker/payload_digest.hpp"
#include "services/broker/payload_size.hpp"
#include "services/broker/route.hpp"

namespace flexi::services::broker {

using core::Ack;
using core::Reply;
using core::Request;
using core::Result;
using core::Via;
namespace actions = core::actions;

namespace {

core::awaitable<Result<Reply>> hit_the_broker() {
  Reply reply;
  reply.message = "Hit the broker";
  co_return reply;
}

bool went_by(const Reply& reply, std::string_view name) {
  const std::string_view way = reply.way;
  return way.starts_with(name) && (way.size() == name.size() || way[name.size()] == ';');
}

/// The answer in the contract's words. Source: MISSION.md, wire contract
void word(Reply& reply, std::string_view action, Ack ack, const std::string& mail_to) {
  if (action == actions::kLog) {
    // Over RPC the result text of the remote method is the answer.
    if (went_by(reply, "amqp") && ack == Ack::accepted) reply.message = "logger via RabbitMQ";
    else if (!went_by(reply, "rpc")) reply.message = "logged";
  } else if (action == actions::kAuth) {
    reply.message = "Authenticated";
  } else if (action == actions::kMail) {
    reply.message = "Message sent to " + mail_to;
  }
}

}  // namespace

Broker::Broker(BrokerRoutes routes)
    : administration_(routes.administration), idempotency_(routes.idempotency), max_payload_bytes_(routes.max_payload_bytes) {
  for (auto& route : routes.actions) {
    if (find(route.action)) throw std::invalid_argument("action '" + route.action + "' is routed twice");
    routes_.push_back(std::make_unique<Route>(route, routes));
  }
}

Broker::~Broker() = default;

const Broker::Route* Broker::find(std::string_view action) const {
  for (auto& route : routes_)
    if (route->action() == action) return route.get();
  return nullptr;
}

core::awaitable<Result<Reply>> Broker::handle(Request request, core::CallContext context) {
  if (request.action.empty() || request.action == "hit") return hit_the_broker();
  if (auto* route = find(request.action)) return dispatch(*route, std::move(request), std::move(context));
  return administer(std::move(request), std::move(context));
}

core::awaitable<Result<Reply>> Broker::administer(Request request, core::CallContext context) {
  for (auto& [action, handler] : administration_) {
    const bool prefix = action.ends_with('.');
    if (prefix ? request.action.starts_with(action) : request.action == action) return handler.get().handle(std::move(request), std::move(context));
  }
  if (core::is_administrative(request.action)) return runtime::policies::refuse(core::unimplemented(request.action + " is not available here"));
  return runtime::policies::refuse(core::invalid_argument("unknown action"));
}

core::awaitable<Result<Reply>> Broker::dispatch(const Route& route, Request request, core::CallContext context) {
  const auto via = request.via;
  const auto ack = request.ack.value_or(route.default_ack());
  auto target = route.target(via, ack);
  if (!target) co_return target.error();
  if (auto checked = route.check(request.payload); !checked) co_return checked.error();
  if (auto fits = check_size(request.payload, max_payload_bytes_); !fits) co_return fits.error();
  if (context.expired()) co_return runtime::cancelled_error(core::Sent::no);
  request.ack = ack;
  if (request.id.empty()) request.id = core::MessageId::generate();
  if (request.accepted_at == core::Timestamp{}) request.accepted_at = std::chrono::system_clock::now();
  if (!context.trace.valid()) context.trace = core::TraceContext::begin();
  context.add_hop("broker");

  // Also where this key was seen before the request goes on: the first one may have failed, and destinations are
  // idempotent by id.
  if (request.id_from_caller && idempotency_ && route.action() != actions::kAuth) {
    auto seen = co_await idempotency_->remember(request.action, request.id, digest_of(request), context);
    if (!seen) co_return seen.error();
  }

  std::string mail_to;
  if (auto* mail = std::get_if<core::Mail>(&request.payload)) mail_to = mail->to;
  auto result = co_await target.value()->handle(std::move(request), std::move(context));
  if (result) {
    word(result.value(), route.action(), ack, mail_to);
    if (route.action() != actions::kAuth) result.value().token.clear();  // no other service says who somebody is
  } else if (auto& error = result.error(); via != Via::automatic && error.kind == core::ErrorKind::unavailable && !error.answered) {
    error.message = "transport \"" + std::string(core::to_string(via)) + "\" is unavailable: " + error.message;
  }
  co_return result;
}

}  // namespace flexi::services::broker
