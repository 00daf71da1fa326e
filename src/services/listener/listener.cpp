// SPDX-License-Identifier: Apache-2.0
#include "services/listener/listener.hpp"

namespace flexi::services::listener {

ListenerService::ListenerService(Route route, runtime::LogSink& log) : route_(std::move(route)), log_(log) {}

core::awaitable<core::Result<core::Reply>> ListenerService::handle(core::Request request, core::CallContext context) {
  const auto id = request.id.str(), action = request.action;
  const auto trace = context.trace.to_traceparent();
  core::Handler* service = route_(action);
  if (!service) {
    log_.warning("message not handled", {{"id", id}, {"action", action}, {"reason", "no service handles this action"}, {"trace", trace}});
    co_return core::unimplemented("no service handles action " + action);
  }
  context.add_hop("listener");
  auto result = co_await service->handle(std::move(request), std::move(context));
  if (!result) {
    auto& error = result.error();
    log_.debug("message not handled", {{"id", id}, {"action", action}, {"kind", core::to_string(error.kind)}, {"reason", error.message},
                                         {"detail", error.detail}, {"trace", trace}});
  }
  co_return result;
}

}  // namespace flexi::services::listener
