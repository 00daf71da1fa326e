// SPDX-License-Identifier: Apache-2.0
#include "core/random.hpp"

#include <sys/random.h>

#include <array>
#include <cstdlib>
#include <cstring>

namespace flexi::core {

void fill_random(std::span<std::uint8_t> out) {
  // One system call per id would cost more than the rest of it.
  thread_local std::array<std::uint8_t, 256> pool;
  thread_local std::size_t left = 0;
  if (left < out.size()) {
    if (::getrandom(pool.data(), pool.size(), 0) != static_cast<ssize_t>(pool.size())) std::abort();
    left = pool.size();
  }
  std::memcpy(out.data(), pool.data() + (pool.size() - left), out.size());
  left -= out.size();
}

}  // namespace flexi::core
