// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace flexi::transports::grpc {

/// What a call carries beside its messages: keys (lower case) and values in their order, keys may repeat. Values of keys
/// that end in "-bin" are the bytes themselves: the wire's base64 is made and read by the session.
/// Two allocations hold any number of entries. Views into it are good until the next add().
class Metadata {
 public:
  struct View {
    std::string_view key, value;
  };

  /// @param key lower case letters, digits, '-', '_', '.'; not ":…" nor "grpc-…"
  void add(std::string_view key, std::string_view value);
  /// The last value of `key`; its data() is null where there is none.
  std::string_view find(std::string_view key) const;
  bool contains(std::string_view key) const { return find(key).data() != nullptr; }

  std::size_t size() const { return entries_.size(); }
  bool empty() const { return entries_.empty(); }
  View operator[](std::size_t index) const {
    const auto& entry = entries_[index];
    const std::string_view bytes(bytes_);
    return {bytes.substr(entry.offset, entry.key), bytes.substr(entry.offset + entry.key, entry.value)};
  }
  void clear() {
    entries_.clear();
    bytes_.clear();
  }

 private:
  struct Entry {
    std::uint32_t offset, key, value;
  };
  std::vector<Entry> entries_;
  std::string bytes_;
};

}  // namespace flexi::transports::grpc
