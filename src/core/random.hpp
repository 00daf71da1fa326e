// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

namespace flexi::core {

/// Fills `out` (at most 256 bytes) from the kernel's generator. Cheap: it is asked for a page at a time, per thread.
void fill_random(std::span<std::uint8_t> out);

}  // namespace flexi::core
