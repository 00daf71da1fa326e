// SPDX-License-Identifier: Apache-2.0
// Included before everything else in this folder: clang 16 takes Cap'n Proto 0.9's comparisons of texts, rewritten by
// the rules of C++20, for ambiguous.
#pragma once

#include <kj/string.h>

namespace kj {
inline bool operator==(const char* a, const StringPtr& b) { return b.operator==(StringPtr(a)); }
inline bool operator!=(const char* a, const StringPtr& b) { return !(a == b); }
}  // namespace kj
