// SPDX-License-Identifier: Apache-2.0
#include "transports/queue/digest.hpp"

#include <cstring>

namespace flexi::transports::queue {

std::int64_t digest_of(std::string_view payload) {
  constexpr std::uint64_t m = 0xc6a4a7935bd1e995ULL;
  std::uint64_t h = payload.size() * m;
  while (payload.size() >= 8) {
    std::uint64_t k;
    std::memcpy(&k, payload.data(), 8);  // little-endian, as every machine we build for
    k *= m;
    k ^= k >> 47;
    h = (h ^ k * m) * m;
    payload.remove_prefix(8);
  }
  if (!payload.empty()) {
    std::uint64_t k = 0;
    std::memcpy(&k, payload.data(), payload.size());
    h = (h ^ k) * m;
  }
  h ^= h >> 47;
  h *= m;
  h ^= h >> 47;
  return static_cast<std::int64_t>(h);
}

}  // namespace flexi::transports::queue
