// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "transports/grpc/client_call.hpp"

namespace flexi::transports::grpc {

std::unique_ptr<ClientStream> make_client_stream(CallHold call);

}  // namespace flexi::transports::grpc
