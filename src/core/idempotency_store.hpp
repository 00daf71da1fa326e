// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>

#include "core/call_context.hpp"
#include "core/reply.hpp"
#include "core/request.hpp"

namespace flexi::core {

/// What tells one payload from another without keeping it.
struct PayloadDigest {
  std::array<std::uint8_t, 16> bytes{};
  friend auto operator<=>(const PayloadDigest&, const PayloadDigest&) = default;
};

enum class Seen { first, again };

/// Which payload a caller's idempotency key stands for. It doesn't say whether that request succeeded: a key that was
/// seen is handed on, and the destination, which is idempotent by id, decides.
/// Lifetime/threads: any thread; outlives its calls
class IdempotencyStore {
 public:
  virtual ~IdempotencyStore() = default;
  /// @param action a key stands for itself once per action; the caller is part of the id (MessageId::from_key)
  /// @return when durable; conflict where the key stands for another payload; unavailable
  virtual awaitable<Result<Seen>> remember(std::string action, MessageId id, PayloadDigest digest, CallContext context) = 0;
};

}  // namespace flexi::core
