// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transports/grpc/method.hpp"

namespace flexi::grpc_tests {

/// grpc.testing.TestService, as the gRPC project's interoperability clients expect it.
/// Source: https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md
void add_test_service(transports::grpc::MethodTable& table);

}  // namespace flexi::grpc_tests
