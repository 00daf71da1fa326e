// SPDX-License-Identifier: Apache-2.0
#include "transports/grpc/surface.hpp"

namespace flexi::transports::grpc {

Side Surface::side_of(Side side, std::string_view action) const {
  const bool of_a_service = action == core::actions::kAuth || action == core::actions::kLog || action == core::actions::kMail;
  return broker && !of_a_service && !core::is_administrative(action) ? Side::broker : side;
}

core::Handler& Surface::handler(Side side, std::string_view action) const {
  auto* wanted = side_of(side, action) == Side::broker || core::is_administrative(action) ? broker : services;
  return *(wanted ? wanted : broker ? broker : services);
}

void log_failure(const Surface& surface, const Asking& asking, const core::Error& error) {
  if (error.detail.empty() && error.kind != core::ErrorKind::internal && error.kind != core::ErrorKind::unavailable) return;
  const auto level = asking.inner && surface.broker ? runtime::LogLevel::debug : runtime::LogLevel::warning;
  surface.process.log.write(level, "request failed", {{"action", asking.action}, {"id", asking.id}, {"kind", core::to_string(error.kind)},
                                                      {"message", error.message}, {"detail", error.detail}, {"trace", asking.trace.to_traceparent()}});
}

Status refuse(const Surface& surface, ServerCall& call, Asking asking, const core::Error& error) {
  if (asking.id.empty()) asking.id = id_of_refused(call);
  log_failure(surface, asking, error);
  auto& trailers = call.trailing_metadata();
  trailers.add(keys::kId, asking.id);
  if (!error.way.empty()) trailers.add(keys::kWay, error.way);
  return status_with_details(error);
}

}  // namespace flexi::transports::grpc
