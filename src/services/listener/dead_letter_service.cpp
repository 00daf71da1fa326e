// SPDX-License-Identifier: Apache-2.0
#include "services/listener/dead_letter_service.hpp"

#include "core/timestamp.hpp"
#include "runtime/json.hpp"

namespace flexi::services::listener {

using core::Reply;
using core::Result;
using runtime::JsonObject;
using runtime::JsonWriter;

namespace {

constexpr std::int64_t kMostPerPage = 500;

void write_letter(JsonWriter& json, const core::DeadLetter& letter) {
  json.begin_object().field("id", letter.id.str()).field("action", letter.action).key("payload");
  if (runtime::is_json(letter.payload))
    json.raw(letter.payload);
  else
    json.value(letter.payload);  // a payload that is no JSON is why the letter is dead
  json.field("reason", letter.reason).field("attempts", letter.attempts).field("accepted_at", core::to_rfc3339(letter.accepted_at));
  json.field("dead_at", core::to_rfc3339(letter.dead_at)).end_object();
}

Result<JsonObject> params_of(const core::Request& request) {
  auto* json = std::get_if<core::Json>(&request.payload);
  if (!json) return core::invalid_argument("the parameters of " + request.action + " must be a JSON object");
  return JsonObject::parse(json->text);
}

Result<core::DeadLetterKey> key_of(const core::Request& request) {
  FLEXI_TRY(auto params, params_of(request));
  FLEXI_TRY(auto text, params.required_string("id"));
  FLEXI_TRY(auto action, params.string("action"));
  FLEXI_TRY(params.nothing_unknown());
  FLEXI_TRY(auto id, core::MessageId::parse(text));
  return core::DeadLetterKey(std::move(id), action.value_or(""));
}

}  // namespace

core::awaitable<Result<Reply>> DeadLetterService::handle(core::Request request, core::CallContext context) {
  if (request.action == core::actions::kDlqList) co_return co_await list(std::move(request), std::move(context));
  if (request.action == core::actions::kDlqReplay || request.action == core::actions::kDlqDiscard) {
    FLEXI_CO_TRY(auto params, params_of(request));
    if (params.has("all")) co_return co_await all(std::move(request), std::move(context));
  }
  for (auto action : {core::actions::kDlqGet, core::actions::kDlqReplay, core::actions::kDlqDiscard})
    if (request.action == action) co_return co_await one(std::move(request), std::move(context));
  co_return core::unimplemented("no action " + request.action + " here");
}

core::awaitable<Result<Reply>> DeadLetterService::list(core::Request request, core::CallContext context) {
  FLEXI_CO_TRY(auto params, params_of(request));
  FLEXI_CO_TRY(auto limit, params.integer("limit"));
  FLEXI_CO_TRY(auto cursor, params.string("cursor"));
  if (auto known = params.nothing_unknown(); !known) co_return known.error();
  const auto count = limit.value_or(50);
  if (count < 1 || count > kMostPerPage) co_return core::invalid_argument("limit must be 1 to " + std::to_string(kMostPerPage));
  auto page = co_await letters_.list(static_cast<unsigned>(count), cursor.value_or(""), std::move(context));
  if (!page) co_return page.error();
  JsonWriter json;
  json.begin_array();
  for (auto& letter : page.value().letters) write_letter(json, letter);
  Reply reply;
  reply.message = page.value().missing.empty() ? "ok" : "there may be more: " + page.value().missing;
  reply.data = json.end_array().take();
  reply.next = page.value().next;
  co_return reply;
}

core::awaitable<Result<Reply>> DeadLetterService::one(core::Request request, core::CallContext context) {
  FLEXI_CO_TRY(auto key, key_of(request));
  Reply reply;
  if (request.action == core::actions::kDlqGet) {
    auto letter = co_await letters_.get(std::move(key), std::move(context));
    if (!letter) co_return letter.error();
    JsonWriter json;
    write_letter(json, letter.value());
    reply.message = "ok";
    reply.data = json.take();
    co_return reply;
  }
  const bool replay = request.action == core::actions::kDlqReplay;
  auto done = replay ? co_await letters_.replay(key, context) : co_await letters_.discard(key, context);
  if (!done) co_return done.error();
  reply.message = replay ? "replayed" : "discarded";
  co_return reply;
}

core::awaitable<Result<Reply>> DeadLetterService::all(core::Request request, core::CallContext context) {
  FLEXI_CO_TRY(auto params, params_of(request));
  FLEXI_CO_TRY(auto all, params.boolean("all"));
  FLEXI_CO_TRY(auto action, params.string("action"));
  FLEXI_CO_TRY(auto before, params.string("before"));
  if (auto known = params.nothing_unknown(); !known) co_return known.error();
  if (!all.value_or(false)) co_return core::invalid_argument("all must be true; for one letter give its id instead");
  core::DeadLetterSweep sweep;
  sweep.fate = request.action == core::actions::kDlqReplay ? core::DeadLetterSweep::Fate::replay : core::DeadLetterSweep::Fate::discard;
  sweep.action = action.value_or("");
  sweep.before = std::chrono::system_clock::now();
  if (before) {
    auto time = core::parse_rfc3339(*before);
    if (!time) co_return core::invalid_argument("before: " + time.error().message);
    sweep.before = time.value();
  }
  auto swept = co_await letters_.sweep(sweep, std::move(context));
  if (!swept) co_return swept.error();
  Reply reply;
  reply.message = sweep.fate == core::DeadLetterSweep::Fate::replay ? "replayed" : "discarded";
  JsonWriter json;
  json.begin_object().field("letters", static_cast<std::int64_t>(swept.value().letters)).field("more", swept.value().more);
  reply.data = json.field("before", core::to_rfc3339(sweep.before)).end_object().take();
  co_return reply;
}

}  // namespace flexi::services::listener
