// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "flexiconnect/v1/flexiconnect.pb.h"

namespace flexi::transports::grpc {

/// The contract's user in JSON, as a typed message. What isn't there, or isn't as the contract has it, stays empty.
void write_account(std::string_view json, ::flexiconnect::v1::User& user);
/// The other way round.
std::string account_json(const ::flexiconnect::v1::User& user);

}  // namespace flexi::transports::grpc
