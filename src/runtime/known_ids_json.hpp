// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/known_ids.hpp"

namespace flexi::runtime {

/// Parameters of "logs.known" and "mails.known": {"ids":[…]}, at most core::KnownIds::kMost.
/// @return invalid_argument that names what is wrong
core::Result<std::vector<core::MessageId>> read_ids(std::string_view params);
/// {"known":[…],"kept_since":"…"}; the time is left out where everything is kept.
std::string to_json(const core::KnownIds& known);
/// to_json() read back. @return internal where it is not understood
core::Result<core::KnownIds> read_known_ids(std::string_view json);

}  // namespace flexi::runtime
