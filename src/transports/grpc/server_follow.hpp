// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transports/grpc/surface.hpp"

namespace flexi::transports::grpc {

/// Actions.Follow: the action's reply, then its events until they end or the caller leaves.
core::awaitable<Status> run_follow(const Surface& surface, ServerCall& call);

}  // namespace flexi::transports::grpc
