// SPDX-License-Identifier: Apache-2.0
#include "transports/grpc/metadata.hpp"

namespace flexi::transports::grpc {

void Metadata::add(std::string_view key, std::string_view value) {
  entries_.push_back({static_cast<std::uint32_t>(bytes_.size()), static_cast<std::uint32_t>(key.size()), static_cast<std::uint32_t>(value.size())});
  bytes_.append(key).append(value);
}

std::string_view Metadata::find(std::string_view key) const {
  for (auto i = entries_.size(); i-- > 0;)
    if (const auto entry = (*this)[i]; entry.key == key) return entry.value;
  return {};
}

}  // namespace flexi::transports::grpc
