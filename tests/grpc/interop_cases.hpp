// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "runtime/shards.hpp"
#include "transports/grpc/channel.hpp"

namespace flexi::grpc_tests {

/// Runs one of the gRPC project's interoperability cases against a server of TestService, or one of ours ("contract_…") against a
/// server of LogService and Logger.
/// Source: https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md
/// @return what was wrong; empty: it passed
std::string run_interop_case(runtime::Shards& shards, transports::grpc::Channel& channel, const std::string& name);

}  // namespace flexi::grpc_tests
