// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "runtime/readiness.hpp"
#include "transports/grpc/method.hpp"

namespace flexi::transports::grpc {

/// grpc.health.v1: the process ("") and each of its services are SERVING while the process is ready.
/// @param services full names, e.g. "logs.LogService"
/// Lifetime: `readiness` outlives the server
void add_health(MethodTable& table, runtime::Readiness& readiness, std::vector<std::string> services);

}  // namespace flexi::transports::grpc
