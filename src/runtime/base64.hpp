// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace flexi::runtime {

/// Source: RFC 4648 section 4, with padding, without line breaks
std::string base64_encode(std::string_view bytes);
void append_base64(std::string& out, std::string_view bytes);
/// @return none where `text` is not exactly what base64_encode gives for some bytes: no line breaks, padded
std::optional<std::string> base64_decode(std::string_view text);

}  // namespace flexi::runtime
