// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/request.hpp"

namespace flexi::core {

/// One place where a message has been.
struct Hop {
  std::string_view at;  ///< "broker", "broker>http" (handed on by http), "listener", "logger", …
  Timestamp time{};
};

/// Whether a text of a wire may go on as CallContext::hops: printable ASCII, not too long.
bool may_be_hops(std::string_view text);

/// CallContext::hops, oldest first. What is not a hop is left out: the text comes over wires.
/// Lifetime/threads: the hops are views of `hops`
std::vector<Hop> read_hops(std::string_view hops);

/// By which way a broker of ours handed the message on, the last time; none: none did.
std::optional<Via> departed_by(std::string_view hops);

/// Where a message that comes out of RabbitMQ has been.
inline constexpr std::string_view kRabbitmqHop = "rabbitmq";

/// Whether the publisher counts that the message was accepted, as the embedded queue does; else whoever stores it does, as of
/// all that came through RabbitMQ: between its confirm and a note of ours there would be room for a crash.
bool counted_by_publisher(std::string_view hops);

/// `hops` with its times as microseconds since `since`, which is half as long; and back.
std::string shorten_hops(std::string_view hops, Timestamp since);
std::string lengthen_hops(std::string_view shortened, Timestamp since);

}  // namespace flexi::core
