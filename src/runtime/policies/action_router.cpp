// SPDX-License-Identifier: Apache-2.0
#include "runtime/policies/action_router.hpp"

#include <stdexcept>

#include "runtime/policies/clock.hpp"

namespace flexi::runtime::policies {

ActionRouter::ActionRouter(std::vector<ActionRoute> routes, core::Handler* otherwise) : otherwise_(otherwise) {
  for (auto& route : routes) {
    auto& known = route.action.ends_with('.') ? prefixes_ : exact_;
    auto place = known.begin();
    for (auto it = known.begin(); it != known.end(); ++it) {
      if (it->action == route.action) throw std::invalid_argument("action '" + route.action + "' is routed twice");
      if (it->action.size() >= route.action.size()) place = it + 1;
    }
    if (&known == &exact_) place = known.end();  // exact ones keep the caller's order: the frequent first
    known.insert(place, Known{std::move(route.action), &route.handler});
  }
}

core::Handler* ActionRouter::find(std::string_view action) const {
  for (auto& route : exact_)
    if (route.action == action) return route.handler;
  for (auto& route : prefixes_)
    if (action.size() > route.action.size() && action.starts_with(route.action)) return route.handler;
  return otherwise_;
}

core::awaitable<core::Result<core::Reply>> ActionRouter::handle(core::Request request, core::CallContext context) {
  if (auto* handler = find(request.action)) return handler->handle(std::move(request), std::move(context));
  return refuse(core::unimplemented("unknown action"));
}

}  // namespace flexi::runtime::policies
