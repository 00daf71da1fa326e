// SPDX-License-Identifier: Apache-2.0
#include "services/system/system_service.hpp"

#include <unistd.h>

#include "core/timestamp.hpp"
#include "runtime/json.hpp"

namespace flexi::services::system {

using core::Reply;
using core::Result;

SystemService::SystemService(SystemOptions options, const runtime::Readiness& readiness, std::vector<SystemPart> parts)
    : options_(std::move(options)), readiness_(readiness), parts_(std::move(parts)), started_(std::chrono::system_clock::now()), began_(std::chrono::steady_clock::now()) {}

core::awaitable<Result<Reply>> SystemService::handle(core::Request request, core::CallContext context) {
  if (request.action != core::actions::kSystemGet) co_return core::unimplemented("no action " + request.action + " here");
  runtime::JsonWriter json;
  json.begin_object().field("version", options_.version).field("role", options_.role).field("pid", static_cast<std::int64_t>(::getpid()));
  json.field("started_at", core::to_rfc3339(started_));
  json.field("uptime_seconds", static_cast<std::int64_t>(std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - began_).count()));
  json.key("readiness").raw(readiness_.to_json());
  for (auto& part : parts_) {
    auto described = co_await part.describe(context.limited_to(options_.part_timeout));
    json.key(part.name);
    if (described) json.raw(described.value());
    else json.begin_object().field("error", described.error().message).end_object();
  }
  Reply reply;
  reply.message = "ok";
  reply.data = json.end_object().take();
  co_return reply;
}

}  // namespace flexi::services::system
