// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

namespace flexi::transports::queue {

/// 64 bits that tell one payload from another. Stored: must never change.
/// Source: MurmurHash64A, Austin Appleby, public domain
std::int64_t digest_of(std::string_view payload);

}  // namespace flexi::transports::queue
