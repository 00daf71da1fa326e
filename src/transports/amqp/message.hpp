// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace flexi::transports::amqp {

/// What is kept of a header. Tables and arrays are not: they are RabbitMQ's own notes (x-death).
using HeaderValue = std::variant<std::string, std::int64_t, bool>;

/// One message as it stands on the wire: properties, headers, body. A value; knows no library.
struct Message {
  std::string body;
  std::size_t body_bytes = 0;  ///< of one received: its true size; larger than body.size() where the rest was over the limit
  std::string content_type, content_encoding, correlation_id, reply_to, expiration, message_id, type, app_id;
  std::uint8_t delivery_mode = 0;  ///< 2: persistent
  std::int64_t timestamp = 0;      ///< seconds since 1970; 0: none
  std::vector<std::pair<std::string, HeaderValue>> headers;
  std::int64_t death_time = 0;     ///< of one received: when RabbitMQ dead-lettered it last, seconds since 1970; 0: it did not
  std::string death_reason{};      ///< and why: "delivery_limit", "rejected", "expired"

  /// Null where the header is missing or no text.
  const std::string* text(std::string_view name) const;
  /// A number, or its decimal text; none where it is missing or neither.
  std::optional<std::int64_t> number(std::string_view name) const;
  void set(std::string_view name, HeaderValue value);
  void erase(std::string_view name);
  bool truncated() const { return body_bytes > body.size(); }
};

/// A message that came, and how.
struct Delivery {
  std::uint64_t tag = 0;
  bool redelivered = false;
  std::string consumer;      ///< the consumer's tag
  std::string routing_key;
  Message message;
};

}  // namespace flexi::transports::amqp
