// SPDX-License-Identifier: Apache-2.0
#include "services/authentication/authentication_service.hpp"

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>

#include "core/timestamp.hpp"
#include "runtime/json.hpp"
#include "services/authentication/account_rules.hpp"

namespace flexi::services::authentication {

namespace asio = boost::asio;
using core::awaitable, core::CallContext, core::Reply, core::Result;

namespace {

void write_user(runtime::JsonWriter& json, const core::User& user) {
  json.begin_object().field("id", user.id).field("email", user.email);
  if (!user.first_name.empty()) json.field("first_name", user.first_name);
  if (!user.last_name.empty()) json.field("last_name", user.last_name);
  json.field("active", user.active ? 1 : 0);
  json.field("created_at", core::to_rfc3339(user.created_at)).field("updated_at", core::to_rfc3339(user.updated_at));
  json.end_object();
}

awaitable<void> wait_until(CallContext::Clock::time_point time) {
  asio::steady_timer timer(co_await asio::this_coro::executor, time);
  co_await timer.async_wait(asio::use_awaitable);
}

}  // namespace

void AuthenticationOptions::describe(runtime::OptionVisitor& visitor) {
  visitor.group("passwords", "How passwords are hashed and checked", passwords);
  visitor.field("entry_timeout", entry_timeout, "How long a login waits, at most, for the log entry that it leaves");
}

runtime::Problems AuthenticationOptions::validate() const {
  runtime::Problems problems;
  runtime::append_problems(problems, "passwords", passwords.validate());
  if (entry_timeout.count() < 1 || entry_timeout > std::chrono::minutes(1)) problems.push_back({"entry_timeout", "must be 1ms to 1m"});
  return problems;
}

std::string to_json(const core::User& user) {
  runtime::JsonWriter json;
  write_user(json, user);
  return json.take();
}

awaitable<Result<Reply>> AuthenticationService::handle(core::Request request, CallContext context) {
  if (request.action == core::actions::kAuth) {
    auto* credentials = std::get_if<core::Credentials>(&request.payload);
    if (!credentials) co_return core::invalid_argument("auth must hold email and password");
    co_return co_await log_in(std::move(*credentials), std::move(context));
  }
  if (request.action == core::actions::kUsersList) {
    if (auto* params = std::get_if<core::Json>(&request.payload)) {
      auto object = runtime::JsonObject::parse(params->text);
      if (!object) co_return object.error();
      if (auto known = object.value().nothing_unknown(); !known) co_return known.error();
    }
    co_return co_await list_users(std::move(context));
  }
  if (request.action == core::actions::kUsersGet) {
    auto* params = std::get_if<core::Json>(&request.payload);
    if (!params) co_return core::invalid_argument("users.get takes a JSON object with the field id");
    co_return co_await get_user(std::move(*params), std::move(context));
  }
  co_return core::unimplemented("unknown action");
}

awaitable<Result<Reply>> AuthenticationService::log_in(core::Credentials credentials, CallContext context) {
  if (auto checked = check_login(credentials.email, credentials.password); !checked) co_return checked.error();
  auto user = co_await users_.find_by_email(std::move(credentials.email), context);
  if (!user && user.error().kind != core::ErrorKind::not_found) co_return user.error();
  std::string hash = user ? user.value().password_hash : std::string();
  // Decided before the check, which is made in any case.
  const char* refusal = !user ? "unknown user" : !user.value().active ? "inactive user" : credentials.password.empty() ? "empty password" : nullptr;
  auto matches = co_await hasher_.verify(std::move(credentials.password), std::move(hash), context);
  if (!matches) co_return matches.error();
  if (!refusal && !matches.value()) refusal = "wrong password";
  if (refusal) co_return core::unauthenticated("invalid credentials", refusal);
  Reply reply{.message = "Logged in user " + user.value().email, .data = to_json(user.value())};
  if (logger_) co_await leave_entry(std::move(user.value().email), std::move(context));
  co_return reply;
}

awaitable<void> AuthenticationService::leave_entry(std::string email, CallContext context) {
  using namespace asio::experimental::awaitable_operators;
  // Half of what is left at most, so that a logger that hangs can't take the login's answer with it.
  CallContext entry_context = context.limited_to(std::min(options_.entry_timeout, context.remaining() / 2));
  entry_context.caller.clear();
  // An entry of the login's trace, but a message of its own: it begins here.
  entry_context.hops.clear();
  entry_context.add_hop("authentication");
  core::Request entry;
  entry.id = core::MessageId::generate();
  entry.action = core::actions::kLog;
  entry.payload = core::LogEntry{"authentication", email + " logged in"};
  entry.accepted_at = std::chrono::system_clock::now();
  std::string why;
  try {
    auto stored = co_await (logger_->handle(std::move(entry), entry_context) || wait_until(entry_context.deadline));
    if (stored.index() == 1) {
      why = "not answered in time";
    } else if (auto& result = std::get<0>(stored); !result) {
      why = result.error().message + (result.error().detail.empty() ? "" : ": " + result.error().detail);
    }
  } catch (const std::exception& e) {  // a bug of the logger's, or the login itself was cancelled
    why = e.what();
  }
  if (!why.empty()) log_.warning("a login's log entry was not stored", {{"email", email}, {"error", why}});
}

awaitable<Result<Reply>> AuthenticationService::list_users(CallContext context) {
  auto users = co_await users_.list(std::move(context));
  if (!users) co_return users.error();
  runtime::JsonWriter json;
  json.begin_array();
  for (auto& user : users.value()) write_user(json, user);
  json.end_array();
  co_return Reply{.message = "ok", .data = json.take()};
}

awaitable<Result<Reply>> AuthenticationService::get_user(core::Json params, CallContext context) {
  auto object = runtime::JsonObject::parse(params.text);
  if (!object) co_return object.error();
  auto id = object.value().integer("id");
  if (!id) co_return id.error();
  if (auto known = object.value().nothing_unknown(); !known) co_return known.error();
  if (!id.value()) co_return core::invalid_argument("id is required");
  auto user = co_await users_.find(*id.value(), std::move(context));
  if (!user) co_return user.error();
  co_return Reply{.message = "ok", .data = to_json(user.value())};
}

}  // namespace flexi::services::authentication
