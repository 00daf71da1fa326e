// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/error.hpp"

namespace flexi::core {

/// All zero: none.
using TraceId = std::array<std::uint8_t, 16>;

/// 32 lower-case hex digits, or "" where there is none.
std::string to_string(const TraceId& id);
/// @return none unless 32 lower-case hex digits that are not all zero
std::optional<TraceId> trace_id_from(std::string_view hex);

/// W3C trace context. Source: https://www.w3.org/TR/trace-context/ section 3.2
struct TraceContext {
  TraceId trace_id{};
  std::array<std::uint8_t, 8> parent_id{};
  std::uint8_t flags = 0;

  bool valid() const { return trace_id != decltype(trace_id){}; }
  /// "00-<32 hex>-<16 hex>-<2 hex>", or "" when not valid.
  std::string to_traceparent() const;
  /// An invalid header gives an invalid (empty) context, as the standard asks.
  static TraceContext from_traceparent(std::string_view header);
  /// The beginning of a trace of our own, sampled: what we note of it is kept.
  static TraceContext begin();
};

/// What accompanies one call through every hop. The deadline is a steady time point inside a process and the
/// milliseconds that remain on the wire. Cancellation is the coroutine's own (Asio cancellation slots).
struct CallContext {
  using Clock = std::chrono::steady_clock;

  Clock::time_point deadline = Clock::time_point::max();
  TraceContext trace{};
  std::string caller{};  ///< who calls: empty for an anonymous caller, "admin" for the administrator's token
  /// The address of who asked first, as text without a port; empty: nobody knows. Set and carried for logins alone.
  std::string client{};
  /// What an Authorization header of `Bearer …` holds where it is not the administrator's token: not checked yet, and carried nowhere.
  std::string bearer{};
  /// Where the message has been, oldest first, each with microseconds since 1970: "broker@1795000000000000 listener@…".
  /// Transports carry it as it is; at most kMaxHopsBytes.
  std::string hops{};

  static constexpr std::size_t kMaxBearerBytes = 4096;
  static constexpr std::size_t kMaxHopsBytes = 1024;
  /// Notes that the message is at `place` now. What would be too long is left out.
  void add_hop(std::string_view place);

  static CallContext with_timeout(std::chrono::milliseconds timeout) {
    CallContext context;
    context.deadline = Clock::now() + timeout;
    return context;
  }

  bool has_deadline() const { return deadline != Clock::time_point::max(); }
  bool expired() const { return has_deadline() && Clock::now() >= deadline; }
  /// Never negative; a day where there is no deadline.
  std::chrono::milliseconds remaining() const {
    if (!has_deadline()) return std::chrono::hours(24);
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    return left.count() < 0 ? std::chrono::milliseconds(0) : left;
  }
  /// This context with its deadline no later than `timeout` from now.
  CallContext limited_to(std::chrono::milliseconds timeout) const {
    CallContext context = *this;
    if (auto limit = Clock::now() + timeout; limit < context.deadline) context.deadline = limit;
    return context;
  }
};

}  // namespace flexi::core
