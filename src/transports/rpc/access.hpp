// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/ip/address.hpp>
#include <string_view>

#include "core/result.hpp"

namespace flexi::transports::rpc {

enum class Token { absent, valid, wrong };
/// @param authorization "Bearer <token>"; compared in constant time
Token check_token(std::string_view token, std::string_view authorization);
/// What stands behind "Bearer"; empty: nothing does.
std::string_view bearer_of(std::string_view authorization);
/// Compares in constant time; an empty secret is nobody's.
bool is_secret(std::string_view given, std::string_view secret);

/// May a peer read or administer? With the token, or from the same machine.
/// @return permission_denied, or unauthenticated where a token would help
core::Result<void> check_administrator(std::string_view token, std::string_view authorization, bool same_machine);

bool is_same_machine(const boost::asio::ip::address& peer);

}  // namespace flexi::transports::rpc
