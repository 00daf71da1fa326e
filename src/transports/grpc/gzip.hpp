// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "core/result.hpp"

namespace flexi::transports::grpc {

std::string gzip(std::string_view bytes);
/// @return overloaded where more than `max_bytes` would come out (a bomb is not unpacked further); internal where it is no gzip
core::Result<std::string> gunzip(std::string_view bytes, std::size_t max_bytes);

}  // namespace flexi::transports::grpc
