// SPDX-License-Identifier: Apache-2.0
#include "services/authentication/user_actions.hpp"

#include <string.h>

#include "core/timestamp.hpp"
#include "runtime/json.hpp"

namespace flexi::services::authentication {

namespace actions = core::actions;
using core::awaitable, core::CallContext, core::Reply, core::Result;
using runtime::JsonObject;

namespace {

void write_user(runtime::JsonWriter& json, const core::User& user) {
  json.begin_object().field("id", user.id).field("email", user.email);
  if (!user.first_name.empty()) json.field("first_name", user.first_name);
  if (!user.last_name.empty()) json.field("last_name", user.last_name);
  json.field("active", user.active ? 1 : 0);
  json.field("created_at", core::to_rfc3339(user.created_at)).field("updated_at", core::to_rfc3339(user.updated_at));
  json.end_object();
}

/// The contract's 0 and 1, or true and false.
Result<std::optional<bool>> read_active(const JsonObject& object) {
  if (auto number = object.integer("active"); number) {
    if (!number.value()) return std::optional<bool>();
    if (*number.value() == 0 || *number.value() == 1) return std::optional(*number.value() == 1);
  } else if (auto flag = object.boolean("active"); flag) {
    return flag;
  }
  return core::invalid_argument("active must be 0 or 1");
}

Result<UserChanges> read_changes(const JsonObject& object) {
  UserChanges changes;
  FLEXI_TRY(changes.email, object.string("email"));
  FLEXI_TRY(changes.first_name, object.string("first_name"));
  FLEXI_TRY(changes.last_name, object.string("last_name"));
  FLEXI_TRY(changes.active, read_active(object));
  // A user as it was read may be sent back whole.
  for (auto* given_by_store : {"created_at", "updated_at"}) (void)object.string(given_by_store);
  return changes;
}

Result<NewUser> read_new_user(const JsonObject& object) {
  NewUser user;
  FLEXI_TRY(auto person, read_changes(object));
  FLEXI_TRY(user.email, object.required_string("email"));
  FLEXI_TRY(user.password, object.required_string("password"));
  user.first_name = person.first_name.value_or("");
  user.last_name = person.last_name.value_or("");
  user.active = person.active.value_or(true);
  return user;
}

Result<std::string> read_id(const JsonObject& object) {
  FLEXI_TRY(auto id, object.integer("id"));
  if (!id) return core::invalid_argument("id is required");
  return std::to_string(*id);
}

Result<Reply> answer(const char* message, const Result<core::User>& user) {
  if (!user) return user.error();
  Reply reply;
  reply.message = message;
  reply.data = to_json(user.value());
  return reply;
}

}  // namespace

std::string to_json(const core::User& user) {
  runtime::JsonWriter json;
  write_user(json, user);
  return json.take();
}

awaitable<Result<Reply>> UserActions::list(CallContext context) {
  auto users = co_await administration_.list(std::move(context));
  if (!users) co_return users.error();
  runtime::JsonWriter json;
  json.begin_array();
  for (auto& user : users.value()) write_user(json, user);
  json.end_array();
  Reply reply;
  reply.message = "ok";
  reply.data = json.take();
  co_return reply;
}

awaitable<Result<Reply>> UserActions::handle(core::Request request, CallContext context) {
  const auto action = request.action;
  if (!action.starts_with("users.")) co_return core::unimplemented("unknown action");
  auto* params = std::get_if<core::Json>(&request.payload);
  if (!params) co_return core::invalid_argument(action + " takes a JSON object");
  auto parsed = JsonObject::parse(params->text);
  ::explicit_bzero(params->text.data(), params->text.size());
  if (!parsed) co_return parsed.error();
  const auto& object = parsed.value();

  if (action == actions::kUsersList) {
    if (auto known = object.nothing_unknown(); !known) co_return known.error();
    co_return co_await list(std::move(context));
  }
  if (action == actions::kUsersCreate) {
    auto user = read_new_user(object);
    if (!user) co_return user.error();
    if (auto known = object.nothing_unknown(); !known) co_return known.error();
    co_return answer("user created", co_await administration_.add(std::move(user.value()), std::move(context)));
  }

  auto id = read_id(object);
  if (action == actions::kUsersGet) {
    if (!id) co_return id.error();
    if (auto known = object.nothing_unknown(); !known) co_return known.error();
    co_return answer("ok", co_await administration_.find(std::move(id.value()), std::move(context)));
  }
  if (action == actions::kUsersUpdate) {
    if (!id) co_return id.error();
    auto changes = read_changes(object);
    if (!changes) co_return changes.error();
    if (auto known = object.nothing_unknown(); !known) co_return known.error();
    co_return answer("user updated", co_await administration_.change(std::move(id.value()), std::move(changes.value()), std::move(context)));
  }
  if (action == actions::kUsersDelete) {
    if (!id) co_return id.error();
    if (auto known = object.nothing_unknown(); !known) co_return known.error();
    co_return answer("user deleted", co_await administration_.remove(std::move(id.value()), std::move(context)));
  }
  if (action == actions::kUsersResetPassword) {
    if (!id) co_return id.error();
    auto password = object.required_string("password");
    if (!password) co_return password.error();
    if (auto known = object.nothing_unknown(); !known) co_return known.error();
    co_return answer("password changed", co_await administration_.reset_password(std::move(id.value()), std::move(password.value()), std::move(context)));
  }
  co_return core::unimplemented("unknown action");
}

}  // namespace flexi::services::authentication
