// SPDX-License-Identifier: Apache-2.0
#include "services/logger/logger_service.hpp"

#include <simdjson.h>

#include "core/hops.hpp"
#include "core/timestamp.hpp"
#include "runtime/json.hpp"
#include "runtime/known_ids_json.hpp"
#include "runtime/page_budget.hpp"

namespace flexi::services::logger {

using core::awaitable, core::CallContext, core::Reply, core::Result;

namespace {

constexpr std::size_t kMaxNameBytes = 1024, kMaxQueryBytes = 1024;
/// An entry must be readable by every transport once it is stored, and a message of gRPC ends at 4 MiB.
constexpr std::size_t kMaxDataBytesAsJson = 3 << 20;
constexpr std::size_t kMostBytesOfAnEscape = 6;

bool too_long(std::string_view data) {
  return data.size() > kMaxDataBytesAsJson / kMostBytesOfAnEscape && runtime::json_string_bytes(data) > kMaxDataBytesAsJson;
}

bool is_utf8(std::string_view text) { return simdjson::validate_utf8(text.data(), text.size()); }

Result<std::optional<core::Timestamp>> read_time(const runtime::JsonObject& params, std::string_view field) {
  FLEXI_TRY(auto text, params.string(field));
  if (!text || text->empty()) return std::optional<core::Timestamp>();
  auto time = core::parse_rfc3339(*text);
  if (!time) return core::invalid_argument(std::string(field) + ": " + time.error().message);
  return std::optional(time.value());
}

Result<std::string> read_text(const runtime::JsonObject& params, std::string_view field) {
  FLEXI_TRY(auto text, params.string(field));
  if (!text) return std::string();
  if (text->size() > kMaxQueryBytes) return core::invalid_argument(std::string(field) + " must be at most 1024 bytes long");
  return std::move(*text);
}

Result<core::LogQuery> read_query(const core::Json& json) {
  FLEXI_TRY(auto params, runtime::JsonObject::parse(json.text));
  core::LogQuery query;
  FLEXI_TRY(auto name, read_text(params, "name"));
  if (!name.empty()) query.name = std::move(name);  // no entry has an empty name: an empty field of a form means all
  FLEXI_TRY(query.q, read_text(params, "q"));
  FLEXI_TRY(query.since, read_time(params, "since"));
  FLEXI_TRY(query.until, read_time(params, "until"));
  FLEXI_TRY(auto trace, read_text(params, "trace"));
  if (!trace.empty()) {
    query.trace = core::trace_id_from(trace);
    if (!query.trace) return core::invalid_argument("trace must be a trace id: 32 hexadecimal digits in lower case");
  }
  FLEXI_TRY(query.cursor, read_text(params, "cursor"));
  FLEXI_TRY(auto limit, params.integer("limit"));
  FLEXI_TRY(params.nothing_unknown());
  if (limit && (*limit < 1 || *limit > 500)) return core::invalid_argument("limit must be 1 to 500");
  if (limit) query.limit = static_cast<unsigned>(*limit);
  return query;
}

std::string page_to_json(const std::vector<core::LogRecord>& records) {
  runtime::JsonWriter json;
  json.begin_array();
  for (auto& record : records) json.raw(to_json(record));
  json.end_array();
  return json.take();
}

}  // namespace

Result<void> check_log(const core::Payload& payload) {
  auto* entry = std::get_if<core::LogEntry>(&payload);
  if (!entry) return core::invalid_argument("log must hold name and data");
  if (entry->name.empty()) return core::invalid_argument("name must not be empty");
  if (entry->name.size() > kMaxNameBytes) return core::invalid_argument("name must be at most 1024 bytes long");
  if (!is_utf8(entry->name)) return core::invalid_argument("name must be UTF-8");
  if (!is_utf8(entry->data)) return core::invalid_argument("data must be UTF-8");
  if (too_long(entry->data)) return core::invalid_argument("data must be at most " + std::to_string(kMaxDataBytesAsJson) + " bytes long as JSON");
  return core::ok();
}

void LoggerOptions::describe(runtime::OptionVisitor& visitor) {
  visitor.field("tail_readers", tail_readers, "Readers that may follow the log at once; beyond it the answer is 429");
  visitor.field("tail_buffer_events", tail_buffer_events, "Entries that wait for a slow reader of the tail before it loses the oldest");
  visitor.field("tail_buffer_bytes", tail_buffer_bytes, "Bytes that wait for a slow reader of the tail before it loses the oldest entries");
}

runtime::Problems LoggerOptions::validate() const {
  runtime::Problems problems;
  if (tail_readers < 0 || tail_readers > 100000) problems.push_back({"tail_readers", "must be 0 to 100000"});
  if (tail_buffer_events < 1 || tail_buffer_events > 1000000) problems.push_back({"tail_buffer_events", "must be 1 to 1000000"});
  if (tail_buffer_bytes < 1 || tail_buffer_bytes > (std::int64_t{1} << 30)) problems.push_back({"tail_buffer_bytes", "must be 1 to 1073741824"});
  return problems;
}

LoggerService::LoggerService(core::LogStore& store, LoggerOptions options)
    : store_(store), hub_({.subscribers = static_cast<std::size_t>(options.tail_readers),
                           .events = static_cast<std::size_t>(options.tail_buffer_events),
                           .bytes = static_cast<std::size_t>(options.tail_buffer_bytes)}) {}

awaitable<Result<Reply>> LoggerService::handle(core::Request request, CallContext context) {
  if (request.action == core::actions::kLog) return store_entry(std::move(request), std::move(context));
  return read(std::move(request), std::move(context));
}

awaitable<Result<Reply>> LoggerService::read(core::Request request, CallContext context) {
  constexpr std::string_view kReads[] = {core::actions::kLogsList, core::actions::kLogsGet, core::actions::kLogsKnown, core::actions::kLogsTail};
  if (std::find(std::begin(kReads), std::end(kReads), request.action) == std::end(kReads)) co_return core::unimplemented("unknown action");
  auto* params = std::get_if<core::Json>(&request.payload);
  if (!params) co_return core::invalid_argument(request.action + " takes a JSON object");
  if (request.action == core::actions::kLogsTail) co_return tail(*params);
  if (request.action == core::actions::kLogsGet) co_return co_await get(std::move(*params), std::move(context));
  if (request.action == core::actions::kLogsKnown) co_return co_await known(std::move(*params), std::move(context));
  co_return co_await list(std::move(*params), std::move(context));
}

awaitable<Result<Reply>> LoggerService::store_entry(core::Request request, CallContext context) {
  if (auto checked = check_log(request.payload); !checked) co_return checked.error();
  auto* entry = std::get_if<core::LogEntry>(&request.payload);
  const auto now = std::chrono::system_clock::now();
  const auto way = core::departed_by(context.hops);
  context.add_hop("logger");
  core::LogRecord record{.id = std::move(request.id), .name = std::move(entry->name), .data = std::move(entry->data),
                         .created_at = request.accepted_at == core::Timestamp{} ? now : request.accepted_at, .updated_at = now,
                         .trace_id = context.trace.trace_id, .hops = {}, .via = way.value_or(request.via), .published = core::counted_by_publisher(context.hops)};
  record.hops = std::move(context.hops);
  // The store takes the record with it, so a copy is kept where somebody may want to see it.
  std::optional<core::LogRecord> seen;
  if (hub_.has_subscribers()) seen = record;
  auto id = record.id;
  auto appended = co_await store_.append(std::move(record), std::move(context));
  if (!appended) co_return appended.error();
  const bool duplicate = appended.value() == core::Appended::duplicate;
  if (!duplicate && !seen && hub_.has_subscribers()) {
    // Somebody came while it was stored, who may have listed the log before that was done.
    if (auto found = co_await store_.find(std::move(id), CallContext::with_timeout(std::chrono::seconds(5)))) seen = std::move(found.value().record);
  }
  if (seen && !duplicate) hub_.publish(*seen);
  co_return Reply{.message = "logged", .duplicate = duplicate};
}

awaitable<Result<Reply>> LoggerService::list(core::Json params, CallContext context) {
  auto query = read_query(params);
  if (!query) co_return query.error();
  auto page = co_await store_.list(std::move(query.value()), std::move(context));
  if (!page) co_return page.error();
  co_return Reply{.message = "ok", .data = page_to_json(page.value().records), .next = std::move(page.value().next)};
}

awaitable<Result<Reply>> LoggerService::get(core::Json json, CallContext context) {
  FLEXI_CO_TRY(auto params, runtime::JsonObject::parse(json.text));
  FLEXI_CO_TRY(auto text, params.required_string("id"));
  if (auto known = params.nothing_unknown(); !known) co_return known.error();
  FLEXI_CO_TRY(auto id, core::MessageId::parse(text));
  auto found = co_await store_.find(std::move(id), std::move(context));
  if (!found) co_return found.error();
  auto entry = to_json(found.value().record);
  if (found.value().duplicates) {
    entry.pop_back();
    entry.append(",\"duplicates\":").append(std::to_string(*found.value().duplicates)).append("}");
  }
  co_return Reply{.message = "ok", .data = std::move(entry)};
}

awaitable<Result<Reply>> LoggerService::known(core::Json params, CallContext context) {
  FLEXI_CO_TRY(auto ids, runtime::read_ids(params.text));
  auto known = co_await store_.known(std::move(ids), std::move(context));
  if (!known) co_return known.error();
  co_return Reply{.message = "ok", .data = runtime::to_json(known.value())};
}

Result<Reply> LoggerService::tail(const core::Json& json) {
  FLEXI_TRY(auto params, runtime::JsonObject::parse(json.text));
  FLEXI_TRY(auto name, read_text(params, "name"));
  FLEXI_TRY(auto q, read_text(params, "q"));
  FLEXI_TRY(params.nothing_unknown());
  FLEXI_TRY(auto events, hub_.subscribe({.name = std::move(name), .q = std::move(q)}));
  Reply reply;
  reply.message = "ok";
  reply.events = std::move(events);
  return reply;
}

}  // namespace flexi::services::logger
