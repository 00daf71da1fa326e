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

/// `hops` with its times as microseconds since `since`, which is half as long; and back.
std::string shorten_hops(std::string_view hops, Timestamp since);
std::string lengthen_hops(std::string_view shortened, Timestamp since);

}  // namespace flexi::core
