// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <compare>
#include <string>
#include <string_view>

#include "core/result.hpp"

namespace flexi::core {

/// What makes a message one message, over every transport and in every store: a UUIDv7 of ours, or the caller's
/// `Idempotency-Key`. The same id again, with the same payload, is the same message.
class MessageId {
 public:
  static constexpr std::size_t kMaxBytes = 200;

  MessageId() = default;  ///< no id yet

  /// A new time-ordered id. Source: RFC 9562 section 5.7 (UUID version 7).
  static MessageId generate();
  /// An id of ours or of a peer, as it was.
  /// @return invalid_argument unless 1 to kMaxBytes printable ASCII characters without space, quote or backslash
  /// @param field what an error calls it
  static Result<MessageId> parse(std::string_view text, std::string_view field = "id");
  /// A caller's key, scoped by who called: an authenticated caller's keys never meet a stranger's.
  /// @param caller empty for an anonymous caller, whose keys may not begin with '~'
  /// @param field  what an error calls it: "Idempotency-Key", or the field where it stood
  static Result<MessageId> from_key(std::string_view key, std::string_view caller, std::string_view field = "Idempotency-Key");

  bool empty() const { return text_.empty(); }
  const std::string& str() const { return text_; }
  friend auto operator<=>(const MessageId&, const MessageId&) = default;

 private:
  explicit MessageId(std::string text) : text_(std::move(text)) {}
  std::string text_;
};

}  // namespace flexi::core
