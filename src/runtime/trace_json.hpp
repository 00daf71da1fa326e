// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "core/call_context.hpp"
#include "runtime/json.hpp"

namespace flexi::runtime {

/// The fields "trace_id" and "hops" ([{"at","time"}], oldest first) of an open object; what is not known is left out.
void write_trace(JsonWriter& json, std::string_view trace_id, std::string_view hops);

}  // namespace flexi::runtime
