// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "transports/grpc/surface.hpp"

namespace flexi::transports::grpc {

/// One message of a bulk stream. What is wrong with it alone fails it alone.
struct BulkMessage {
  std::uint64_t sequence = 0;
  std::chrono::milliseconds timeout{0};  ///< 0: the server's default
  core::Result<core::Request> request = core::Request();
  OwnWords own{};
};
/// @return invalid_argument where the stream can't go on: the bytes are no such message
using ReadBulk = core::Result<BulkMessage> (*)(std::string_view bytes);

core::Result<BulkMessage> read_numbered_request(std::string_view bytes);
core::Result<BulkMessage> read_numbered_log(std::string_view bytes);

/// Takes messages, at most surface.max_bulk_in_flight that are not acknowledged yet, and acknowledges each when its handler has
/// answered. Ends when the caller has sent its last and every one is acknowledged; with UNAVAILABLE, after what is under way,
/// when the process drains.
/// Cancellation: cancels what is under way
core::awaitable<Status> run_bulk(const Surface& surface, ServerCall& call, Side side, ReadBulk read);

}  // namespace flexi::transports::grpc
