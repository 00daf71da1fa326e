// SPDX-License-Identifier: Apache-2.0
#include "runtime/trace_json.hpp"

#include "core/hops.hpp"
#include "core/timestamp.hpp"

namespace flexi::runtime {

void write_trace(JsonWriter& json, std::string_view trace_id, std::string_view hops) {
  if (!trace_id.empty()) json.field("trace_id", trace_id);
  const auto read = core::read_hops(hops);
  if (read.empty()) return;
  json.key("hops").begin_array();
  for (auto& hop : read) json.begin_object().field("at", hop.at).field("time", core::to_rfc3339(hop.time)).end_object();
  json.end_array();
}

}  // namespace flexi::runtime
