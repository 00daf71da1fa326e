// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/idempotency_store.hpp"

namespace flexi::services::broker {

/// 128 bits of SHA-256 over the action and each field with its length, so that no two requests look alike by where
/// one field ends. A JSON payload counts as the text that it is: a caller who sends a key again sends the same text.
core::PayloadDigest digest_of(const core::Request& request);

}  // namespace flexi::services::broker
