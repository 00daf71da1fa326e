// SPDX-License-Identifier: Apache-2.0
#include "transports/rpc/registry.hpp"

namespace flexi::transports::rpc {

core::Result<void> Registry::add(std::string name, Exported exported) {
  if (name.empty() || name.size() > 200) return core::invalid_argument("an exported object's name has 1 to 200 characters");
  const auto [where, added] = objects_.emplace(std::move(name), exported);
  if (!added) return core::conflict("an object named \"" + where->first + "\" is exported already");
  return core::ok();
}

const Exported* Registry::find(std::string_view name) const {
  const auto found = objects_.find(name);
  return found == objects_.end() ? nullptr : &found->second;
}

}  // namespace flexi::transports::rpc
