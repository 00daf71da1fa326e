// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/handler.hpp"
#include "transports/http/pool.hpp"

namespace flexi::transports::http {

/// Whose answers are read: a foreign service's are any JSON, and never a stream of events.
enum class Peer { ours, foreign };

/// Writes `wire` and reads the reply. A reply with events keeps the connection; any other gives it back.
/// @param nothing_written set where it failed before the first byte: a fresh connection may be tried
/// Cancellation: closes the connection, so that the peer learns of it
core::awaitable<core::Result<core::Reply>> exchange(Pool::Lease& lease, const std::string& wire, std::int64_t max_answer_bytes,
                                                    core::CallContext context, bool& nothing_written, Peer peer = Peer::ours);

}  // namespace flexi::transports::http
