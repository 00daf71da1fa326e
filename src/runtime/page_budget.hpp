// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <initializer_list>
#include <string_view>

namespace flexi::runtime {

/// Bytes that append_json_string() writes for `text`, where that is UTF-8; else at most so many.
std::size_t json_string_bytes(std::string_view text);

/// Whether another item of a list still goes on this page: a page is cut by what it takes on the wire, so that every
/// transport takes it whatever its texts hold: gRPC messages end at 4 MiB, and one JSON escape is up to six bytes.
/// Lifetime/threads: a value, of one page
class PageBudget {
 public:
  static constexpr std::size_t kMaxBytes = 2 * 1024 * 1024;  ///< of JSON; an item that is larger has a page to itself

  /// @param texts those of the item that may be long
  /// @return false: the item belongs to the next page; never for a page's first
  bool take(std::initializer_list<std::string_view> texts);

 private:
  std::size_t bytes_ = 0;
};

}  // namespace flexi::runtime
