// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transports/grpc/grpc.hpp"
#include "transports/grpc/method.hpp"

namespace flexi::transports::grpc {

/// Serves `methods` on every shard: what serve() is made of once an Ingress has become a MethodTable.
/// @return as serve()
core::Result<std::unique_ptr<core::Server>> serve_methods(GrpcServerOptions options, Process process, MethodTable methods);

}  // namespace flexi::transports::grpc
