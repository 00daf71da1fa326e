// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <capnp/common.h>
#include <kj/array.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace flexi::transports::rpc {

/// Cuts the bytes of a stream into Cap'n Proto messages. What has not come takes no memory, whatever a header claims.
/// Source: https://capnproto.org/encoding.html, "Serialization Over a Stream"
class FrameReader {
 public:
  enum class Step { complete, need_more, malformed };
  static constexpr std::uint32_t kMaxSegments = 512;  ///< as capnp's own readers have it

  /// @param max_bytes of one message, its segment table included
  explicit FrameReader(std::size_t max_bytes) : max_bytes_(max_bytes) {}

  /// Room for at least `size` bytes; received() says how many have come.
  std::span<char> room(std::size_t size);
  void received(std::size_t size) { end_ += size; }
  /// The next message, copied where words may stand. After `malformed` the stream is beyond use; problem() says why.
  Step next(kj::Array<capnp::word>& message);
  /// Whether next() would give a message, or say that there never will be one.
  bool ready();
  std::size_t buffered() const { return end_ - begin_; }
  const std::string& problem() const { return problem_; }

 private:
  bool measure();

  std::size_t max_bytes_;
  std::vector<char> buffer_;
  std::size_t begin_ = 0, end_ = 0;
  std::size_t size_ = 0;  ///< of the message at begin_; 0: not known yet
  std::string problem_;
};

}  // namespace flexi::transports::rpc
