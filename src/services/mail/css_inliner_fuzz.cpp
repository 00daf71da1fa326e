// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstdlib>

#include "services/mail/css_inliner.hpp"

/// Any bytes give HTML or invalid_argument.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  auto inlined = flexi::services::mail::inline_css({reinterpret_cast<const char*>(data), size});
  if (!inlined && inlined.error().kind != flexi::core::ErrorKind::invalid_argument) std::abort();
  return 0;
}
