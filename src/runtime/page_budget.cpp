// SPDX-License-Identifier: Apache-2.0
#include "runtime/page_budget.hpp"

#include <simdjson.h>

namespace flexi::runtime {

std::size_t json_string_bytes(std::string_view text) {
  // What is no UTF-8 becomes U+FFFD, three bytes each at most.
  const std::size_t beyond_ascii = simdjson::validate_utf8(text.data(), text.size()) ? 1 : 3;
  std::size_t bytes = 2;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte == '"' || byte == '\\' || byte == '\n' || byte == '\r' || byte == '\t' || byte == '\b' || byte == '\f') bytes += 2;
    else if (byte < 0x20) bytes += 6;
    else if (byte < 0x80) bytes += 1;
    else bytes += beyond_ascii;
  }
  return bytes;
}

bool PageBudget::take(std::initializer_list<std::string_view> texts) {
  constexpr std::size_t kItem = 512;  // names of fields, times, ids
  std::size_t item = kItem;
  for (auto text : texts) item += json_string_bytes(text);
  if (bytes_ != 0 && bytes_ + item > kMaxBytes) return false;
  bytes_ += item;
  return true;
}

}  // namespace flexi::runtime
