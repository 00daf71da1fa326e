// SPDX-License-Identifier: Apache-2.0
#include "transports/amqp/message.hpp"

#include <algorithm>
#include <charconv>

namespace flexi::transports::amqp {

namespace {
const HeaderValue* find(const Message& message, std::string_view name) {
  for (auto& [key, value] : message.headers)
    if (key == name) return &value;
  return nullptr;
}
}  // namespace

const std::string* Message::text(std::string_view name) const {
  auto* value = find(*this, name);
  return value ? std::get_if<std::string>(value) : nullptr;
}

std::optional<std::int64_t> Message::number(std::string_view name) const {
  auto* value = find(*this, name);
  if (!value) return std::nullopt;
  if (auto* number = std::get_if<std::int64_t>(value)) return *number;
  if (auto* digits = std::get_if<std::string>(value)) {
    std::int64_t number = 0;
    auto [end, ec] = std::from_chars(digits->data(), digits->data() + digits->size(), number);
    if (ec == std::errc() && end == digits->data() + digits->size() && !digits->empty()) return number;
  }
  return std::nullopt;
}

void Message::set(std::string_view name, HeaderValue value) {
  for (auto& [key, old] : headers)
    if (key == name) {
      old = std::move(value);
      return;
    }
  headers.emplace_back(name, std::move(value));
}

void Message::erase(std::string_view name) {
  std::erase_if(headers, [name](auto& header) { return header.first == name; });
}

}  // namespace flexi::transports::amqp
