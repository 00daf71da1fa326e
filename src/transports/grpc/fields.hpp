// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nghttp2/nghttp2.h>

#include <forward_list>
#include <string>
#include <string_view>
#include <vector>

#include "transports/grpc/metadata.hpp"
#include "transports/grpc/status.hpp"

namespace flexi::transports::grpc {

/// The fields of one HEADERS frame. nghttp2 copies nothing: this, and what it refers to, stays until the frame has been sent.
class Fields {
 public:
  enum class Index { yes, no };  ///< whether HPACK keeps it for the next call: not what differs from call to call

  /// Both outlive the frame.
  void add(std::string_view name, std::string_view value, Index index = Index::yes);
  /// As add(), for a value made here.
  void keep(std::string_view name, std::string value, Index index = Index::no);
  /// `metadata` outlives the frame; "-bin" values become base64.
  /// @return false where a key or a value can't be sent
  bool add(const Metadata& metadata);
  /// grpc-status, and the rest where there is something to say.
  void add(const Status& status);

  const nghttp2_nv* data() const { return fields_.data(); }
  std::size_t size() const { return fields_.size(); }
  void clear() {
    fields_.clear();
    kept_.clear();
  }

 private:
  std::vector<nghttp2_nv> fields_;
  std::forward_list<std::string> kept_;
};

/// Whether all of it can be sent.
bool is_sendable(const Metadata& metadata);
/// One field of the peer's metadata; "-bin" values are decoded, several in one field are several.
/// @return false where it is not base64
bool add_received(Metadata& metadata, std::string_view name, std::string_view value);

}  // namespace flexi::transports::grpc
