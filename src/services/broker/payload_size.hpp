// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/request.hpp"
#include "core/result.hpp"

namespace flexi::services::broker {

/// One limit for every way: what the broker accepts must be deliverable by the one that takes least, which is a body of JSON, whose
/// escapes make a text longer. A caller's own JSON fits whenever its body did: it is never longer when it is written again.
/// @return invalid_argument where the payload, as JSON, is longer than `limit` bytes
core::Result<void> check_size(const core::Payload& payload, std::size_t limit);

}  // namespace flexi::services::broker
