// SPDX-License-Identifier: Apache-2.0
// Answers, both ways.
#include "runtime/json.hpp"
#include "transports/rpc/codec.hpp"

namespace flexi::transports::rpc {

namespace {

using core::ErrorKind;

constexpr std::pair<ErrorKind, schema::ErrorKind> kKinds[] = {
    {ErrorKind::invalid_argument, schema::ErrorKind::INVALID_ARGUMENT},
    {ErrorKind::unauthenticated, schema::ErrorKind::UNAUTHENTICATED},
    {ErrorKind::permission_denied, schema::ErrorKind::PERMISSION_DENIED},
    {ErrorKind::not_found, schema::ErrorKind::NOT_FOUND},
    {ErrorKind::conflict, schema::ErrorKind::CONFLICT},
    {ErrorKind::overloaded, schema::ErrorKind::OVERLOADED},
    {ErrorKind::unavailable, schema::ErrorKind::UNAVAILABLE},
    {ErrorKind::deadline_exceeded, schema::ErrorKind::DEADLINE_EXCEEDED},
    {ErrorKind::cancelled, schema::ErrorKind::CANCELLED},
    {ErrorKind::unimplemented, schema::ErrorKind::UNIMPLEMENTED},
    {ErrorKind::internal, schema::ErrorKind::INTERNAL},
};

std::string text(capnp::Text::Reader reader) { return {reader.begin(), reader.size()}; }
capnp::Text::Reader text(const std::string& string) { return {string.data(), string.size()}; }

std::string user_json(schema::User::Reader user) {
  runtime::JsonWriter json;
  json.begin_object().field("id", user.getId()).field("email", view(user.getEmail()));
  if (user.getFirstName().size() != 0) json.field("first_name", view(user.getFirstName()));
  if (user.getLastName().size() != 0) json.field("last_name", view(user.getLastName()));
  json.field("active", user.getActive() ? 1 : 0);
  json.field("created_at", view(user.getCreatedAt())).field("updated_at", view(user.getUpdatedAt()));
  return json.end_object().take();
}

/// @return whether `data` is a user and nothing else
bool write_user(schema::User::Builder user, const std::string& data) {
  const auto object = runtime::JsonObject::parse(data);
  if (!object) return false;
  const auto& fields = object.value();
  const auto id = fields.integer("id"), active = fields.integer("active");
  const auto email = fields.string("email"), first = fields.string("first_name"), last = fields.string("last_name");
  const auto created = fields.string("created_at"), updated = fields.string("updated_at");
  if (!id || !id.value() || !active || !email || !first || !last || !created || !updated) return false;
  user.setId(*id.value());
  user.setEmail(text(email.value().value_or("")));
  user.setFirstName(text(first.value().value_or("")));
  user.setLastName(text(last.value().value_or("")));
  user.setActive(active.value().value_or(0) != 0);
  user.setCreatedAt(text(created.value().value_or("")));
  user.setUpdatedAt(text(updated.value().value_or("")));
  return user_json(user.asReader()) == data;
}

void write_reply(schema::Reply::Builder out, ObjectType object, std::string_view action, std::string_view log_name, const std::string& id,
                 const core::Reply& reply) {
  // The contract's words for an entry that came by RPC.
  if (object == ObjectType::logger) out.setMessage(text("Processed payload via RPC:" + std::string(log_name)));
  else out.setMessage(text(reply.message));
  const bool typed = action == core::actions::kAuth && !reply.data.empty() && write_user(out.initUser(), reply.data);
  if (!typed && !reply.data.empty()) out.setData(text(reply.data));
  if (!reply.next.empty()) out.setNext(text(reply.next));
  if (!reply.way.empty()) out.setWay(text(reply.way));
  if (!reply.token.empty()) out.setToken(text(reply.token));
  out.setId(text(id));
  out.setDuplicate(reply.duplicate);
}

}  // namespace

capnp::MessageSize size_of(const core::Result<core::Reply>& result) {
  std::size_t texts = result ? result.value().message.size() + result.value().data.size() + result.value().next.size() + result.value().way.size() + result.value().token.size()
                             : result.error().message.size();
  return {texts / sizeof(capnp::word) + 64, 1};
}

void write_answer(schema::Answer::Builder answer, ObjectType object, std::string_view action, std::string_view log_name, const std::string& id,
                  const core::Result<core::Reply>& result) {
  if (result) write_reply(answer.initOk(), object, action, log_name, id, result.value());
  else write_failure(answer.initError(), result.error(), id);
}

void write_failure(schema::Failure::Builder failure, const core::Error& error, const std::string& id) {
  for (auto& [kind, name] : kKinds)
    if (kind == error.kind) failure.setKind(name);
  failure.setMessage(text(error.message));
  if (error.retry_after) failure.setRetryAfterMs(error.retry_after->count());
  failure.setSentMaybe(error.sent == core::Sent::maybe);
  if (!error.way.empty()) failure.setWay(text(error.way));
  if (!id.empty()) failure.setId(text(id));
}

core::Error read_failure(schema::Failure::Reader failure) {
  core::Error error;
  // A kind that a later version knows is none that this one could act on: internal.
  for (auto& [kind, name] : kKinds)
    if (name == failure.getKind()) error.kind = kind;
  error.message = text(failure.getMessage());
  if (failure.getRetryAfterMs() > 0) error.retry_after = std::chrono::milliseconds(failure.getRetryAfterMs());
  error.sent = failure.getSentMaybe() ? core::Sent::maybe : core::Sent::no;
  error.answered = !failure.getGoingAway();
  return error;
}

core::Result<core::Reply> read_answer(schema::Answer::Reader answer) {
  switch (answer.which()) {
    case schema::Answer::ERROR: return read_failure(answer.getError());
    case schema::Answer::OK: break;
    default: {
      auto error = core::internal("the service's answer was not understood");
      error.sent = core::Sent::maybe;
      return error;
    }
  }
  const auto ok = answer.getOk();
  core::Reply reply;
  reply.message = text(ok.getMessage());
  reply.data = ok.hasUser() && !ok.hasData() ? user_json(ok.getUser()) : text(ok.getData());
  reply.next = text(ok.getNext());
  reply.way = text(ok.getWay());
  reply.token = text(ok.getToken());
  reply.duplicate = ok.getDuplicate();
  return reply;
}

}  // namespace flexi::transports::rpc
