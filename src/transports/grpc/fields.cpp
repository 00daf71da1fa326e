// SPDX-License-Identifier: Apache-2.0
#include "transports/grpc/fields.hpp"

#include <algorithm>

#include "transports/grpc/wire.hpp"

namespace flexi::transports::grpc {

namespace {
constexpr std::string_view kCodes[] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16"};
std::uint8_t* bytes_of(std::string_view text) { return reinterpret_cast<std::uint8_t*>(const_cast<char*>(text.data())); }
bool is_sendable(const Metadata::View& entry) { return is_metadata_key(entry.key) && (entry.key.ends_with("-bin") || is_metadata_text(entry.value)); }
}  // namespace

void Fields::add(std::string_view name, std::string_view value, Index index) {
  const std::uint8_t flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE | (index == Index::no ? NGHTTP2_NV_FLAG_NO_INDEX : 0);
  fields_.push_back({bytes_of(name), bytes_of(value), name.size(), value.size(), flags});
}

void Fields::keep(std::string_view name, std::string value, Index index) {
  kept_.push_front(std::move(value));
  add(name, kept_.front(), index);
}

bool Fields::add(const Metadata& metadata) {
  for (std::size_t i = 0; i < metadata.size(); ++i) {
    const auto entry = metadata[i];
    if (!is_sendable(entry)) return false;
    if (entry.key.ends_with("-bin")) keep(entry.key, base64_encode(entry.value));
    else add(entry.key, entry.value, Index::no);
  }
  return true;
}

void Fields::add(const Status& status) {
  add("grpc-status", kCodes[static_cast<std::size_t>(status.code) % std::size(kCodes)]);
  if (!status.message.empty()) keep("grpc-message", percent_encode(status.message));
  if (!status.details.empty()) keep("grpc-status-details-bin", base64_encode(status.details));
}

bool is_sendable(const Metadata& metadata) {
  for (std::size_t i = 0; i < metadata.size(); ++i)
    if (!is_sendable(metadata[i])) return false;
  return true;
}

bool add_received(Metadata& metadata, std::string_view name, std::string_view value) {
  if (!name.ends_with("-bin")) {
    metadata.add(name, value);
    return true;
  }
  for (;;) {
    const auto end = std::min(value.find(','), value.size());
    auto item = value.substr(0, end);
    while (item.starts_with(' ')) item.remove_prefix(1);
    const auto bytes = base64_decode(item);
    if (!bytes) return false;
    metadata.add(name, *bytes);
    if (end == value.size()) return true;
    value.remove_prefix(end + 1);
  }
}

}  // namespace flexi::transports::grpc
