// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "core/message_id.hpp"
#include "core/request.hpp"

namespace flexi::core {

/// What a store answers to "which of these have you had?".
struct KnownIds {
  static constexpr std::size_t kMost = 1000;  ///< ids of one question

  std::vector<MessageId> ids;  ///< those that it has, or has had and remembers
  Timestamp kept_since{};      ///< of what was accepted before this it may have had more, and removed them
};

}  // namespace flexi::core
