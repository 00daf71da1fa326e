// SPDX-License-Identifier: Apache-2.0
#include "core/bearer.hpp"

#include <algorithm>

#include "core/call_context.hpp"

namespace flexi::core {

bool may_be_login_token(std::string_view text) {
  if (!text.starts_with("eyJ") || text.size() > CallContext::kMaxBearerBytes || std::count(text.begin(), text.end(), '.') != 2) return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
  });
}

}  // namespace flexi::core
