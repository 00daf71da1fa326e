// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "transports/grpc/method.hpp"

namespace flexi::transports::grpc {

/// grpc.reflection.v1 and v1alpha, from the descriptors that are linked into the process.
/// @param services full names of what is listed
void add_reflection(MethodTable& table, std::vector<std::string> services);

}  // namespace flexi::transports::grpc
