// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "core/result.hpp"

namespace flexi::runtime {

/// Tells whoever started this process how it is, where he asked for it.
/// @param state   "READY=1\nSTATUS=…". Source: sd_notify(3)
/// @param socket  the path of a datagram socket, '@' before an abstract name; empty: nobody asked, and nothing is done
/// @return unavailable with the system's reason
core::Result<void> notify(std::string_view state, const std::string& socket);

/// $NOTIFY_SOCKET, else empty.
std::string notify_socket();

}  // namespace flexi::runtime
