// SPDX-License-Identifier: Apache-2.0
#include "services/broker/receipts.hpp"

#include "core/timestamp.hpp"
#include "runtime/json.hpp"
#include "runtime/trace_json.hpp"

namespace flexi::services::broker {

using core::Receipt;
using core::Reply;
using core::Result;

namespace {

/// For one source: one that hangs must not take the others' answers with it.
constexpr std::chrono::milliseconds kPatience(2000);

/// The order of precedence, see ReceiptService.
int rank(Receipt::State state) {
  switch (state) {
    case Receipt::State::stored: return 0;
    case Receipt::State::queued: return 1;
    case Receipt::State::spooled: return 2;
    case Receipt::State::dead_lettered: return 3;
    case Receipt::State::expired: return 4;
    case Receipt::State::discarded: return 5;
    case Receipt::State::unknown: break;
  }
  return 6;
}

/// What another says less of than it could: where a message is by the furthest, how it came by whoever knows.
void complete(Receipt& best, const Receipt& other) {
  if (best.accepted_at == core::Timestamp{}) best.accepted_at = other.accepted_at;
  if (best.attempts == 0) best.attempts = other.attempts;
  if (!best.duplicates) best.duplicates = other.duplicates;
  if (best.way.empty()) best.way = other.way;
  if (best.trace_id.empty()) best.trace_id = other.trace_id;
  if (best.hops.empty()) best.hops = other.hops;
}

void write_time(runtime::JsonWriter& json, std::string_view name, core::Timestamp time) {
  if (time != core::Timestamp{}) json.field(name, core::to_rfc3339(time));
}

std::string to_json(const Receipt& receipt, const std::vector<std::string>& not_asked) {
  runtime::JsonWriter json;
  json.begin_object().field("id", receipt.id.str()).field("state", core::to_string(receipt.state));
  if (!receipt.action.empty()) json.field("action", receipt.action);
  if (!receipt.where.empty()) json.field("where", receipt.where);
  if (!receipt.reason.empty()) json.field("reason", receipt.reason);
  if (receipt.state != Receipt::State::unknown) json.field("attempts", receipt.attempts);
  write_time(json, "accepted_at", receipt.accepted_at);
  write_time(json, "at", receipt.at);
  if (receipt.duplicates) json.field("duplicates", *receipt.duplicates);
  if (!receipt.way.empty()) json.field("way", receipt.way);
  runtime::write_trace(json, receipt.trace_id, receipt.hops);
  if (!not_asked.empty()) {
    json.key("not_asked").begin_array();
    for (auto& name : not_asked) json.value(name);
    json.end_array();
  }
  return json.end_object().take();
}

}  // namespace

struct ReceiptService::Search {
  std::optional<Receipt> best{};
  std::vector<std::string> not_asked{};
  std::string why{};
};

core::awaitable<void> ReceiptService::ask_all(core::MessageId id, const std::string& action, Search& search, core::CallContext context) {
  for (auto& [name, source, last_resort] : sources_) {
    if (context.expired()) co_return;
    if (last_resort && search.best) continue;
    auto found = co_await source.get().find_receipt(id, context.limited_to(kPatience));
    if (!found) {
      search.why = found.error().message;
      if (std::find(search.not_asked.begin(), search.not_asked.end(), name) == search.not_asked.end()) search.not_asked.push_back(name);
      continue;
    }
    auto& receipt = found.value();
    if (!receipt || (!action.empty() && receipt->action != action)) continue;
    if (!search.best) {
      search.best = std::move(receipt);
    } else if (search.best->action != receipt->action) {
      // An id is one message per action; the further one is told, the other by asking for its action.
      if (rank(receipt->state) < rank(search.best->state)) search.best = std::move(receipt);
    } else if (rank(receipt->state) < rank(search.best->state)) {
      complete(*receipt, *search.best);
      search.best = std::move(receipt);
    } else {
      complete(*search.best, *receipt);
    }
  }
}

core::awaitable<Result<std::optional<Receipt>>> DeadLetterReceipts::find_receipt(core::MessageId id, core::CallContext context) {
  auto letter = co_await letters_.get(std::move(id), std::move(context));
  if (!letter && letter.error().kind == core::ErrorKind::not_found) co_return std::optional<Receipt>();
  if (!letter) co_return letter.error();
  auto& l = letter.value();
  Receipt receipt{.id = std::move(l.id), .action = std::move(l.action), .state = Receipt::State::dead_lettered, .where = where_};
  receipt.reason = std::move(l.reason), receipt.attempts = l.attempts, receipt.accepted_at = l.accepted_at, receipt.at = l.dead_at, receipt.way = "amqp";
  co_return std::optional(std::move(receipt));
}

core::awaitable<Result<Reply>> ReceiptService::handle(core::Request request, core::CallContext context) {
  if (request.action != core::actions::kReceiptsGet) co_return core::unimplemented("no action " + request.action + " here");
  auto* payload = std::get_if<core::Json>(&request.payload);
  if (!payload) co_return core::invalid_argument("receipts.get takes a JSON object with the field id");
  FLEXI_CO_TRY(auto params, runtime::JsonObject::parse(payload->text));
  FLEXI_CO_TRY(auto text, params.required_string("id"));
  FLEXI_CO_TRY(auto action, params.string("action"));
  if (auto known = params.nothing_unknown(); !known) co_return known.error();
  FLEXI_CO_TRY(auto given, core::MessageId::parse(text));

  std::vector<core::MessageId> ids;
  if (!context.caller.empty() && !text.starts_with('~'))
    if (auto scoped = core::MessageId::from_key(text, context.caller)) ids.push_back(std::move(scoped).value());
  ids.push_back(given);
  Search search;
  for (auto& id : ids) {
    if (search.best) break;
    co_await ask_all(id, action.value_or(""), search, context);
  }
  if (!search.best) {
    if (!search.not_asked.empty()) co_return core::unavailable("the " + search.not_asked.front() + " can't be asked: " + search.why);
    if (context.expired()) co_return core::deadline_exceeded("the request was not answered in time");
    search.best = Receipt{.id = std::move(given), .action = action.value_or("")};
  }
  co_return Reply{.message = "ok", .data = to_json(*search.best, search.not_asked)};
}

}  // namespace flexi::services::broker
