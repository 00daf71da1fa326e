// SPDX-License-Identifier: Apache-2.0
#include "services/broker/token_gate.hpp"

#include <algorithm>

#include "runtime/json.hpp"

namespace flexi::services::broker {

namespace actions = core::actions;
using core::Result;

namespace {

std::string token_json(const std::string& token) { return runtime::JsonWriter().begin_object().field("token", token).end_object().take(); }

core::Request whose(const std::string& token) {
  core::Request request;
  request.id = core::MessageId::generate();
  request.action = actions::kMeGet;
  request.payload = core::Json{token_json(token)};
  return request;
}

bool is_administrator(const std::string& account) {
  const auto object = runtime::JsonObject::parse(account);
  const auto flag = object ? object.value().boolean("administrator") : Result<std::optional<bool>>(std::optional<bool>());
  return flag && flag.value().value_or(false);
}

core::Error not_asked(core::Error error) {
  if (error.kind == core::ErrorKind::unauthenticated) return error;
  error.message = "whether the token is valid can't be asked: " + error.message;
  error.sent = core::Sent::no;
  return error;
}

}  // namespace

bool TokenGate::is_protected(const std::string& action) const { return std::find(protected_.begin(), protected_.end(), action) != protected_.end(); }

core::awaitable<Result<core::Reply>> TokenGate::handle(core::Request request, core::CallContext context) {
  // A caller is named where the administrator's token was shown, or where this machine stands for it.
  if (context.caller.empty() && (core::is_administrative(request.action) || is_protected(request.action))) return admit(std::move(request), std::move(context));
  if (request.action == actions::kMeGet && !context.bearer.empty())
    if (auto* params = std::get_if<core::Json>(&request.payload); params && params->text == "{}") params->text = token_json(context.bearer);
  context.bearer.clear();
  return inner_.handle(std::move(request), std::move(context));
}

core::awaitable<Result<core::Reply>> TokenGate::admit(core::Request request, core::CallContext context) {
  const bool administrative = core::is_administrative(request.action);
  if (context.bearer.empty()) co_return core::unauthenticated(request.action + " wants a login's token: Authorization: Bearer <token>");
  auto asking = whose(std::exchange(context.bearer, {}));
  auto account = co_await accounts_.handle(std::move(asking), context);
  if (!account) co_return not_asked(account.error());
  if (administrative) {
    if (!is_administrator(account.value().data)) co_return core::permission_denied("administration is not open to this user");
    context.caller = "admin";
  }
  co_return co_await inner_.handle(std::move(request), std::move(context));
}

}  // namespace flexi::services::broker
