// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.hpp"

namespace flexi::transports::grpc {

/// Source of all here: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md

// --- grpc-timeout ---

/// At most eight digits and a unit, rounded up to what eight digits hold.
std::string encode_timeout(std::chrono::milliseconds timeout);
/// None where the text is no timeout. Beyond a year it is a year: no clock overflows.
std::optional<std::chrono::nanoseconds> decode_timeout(std::string_view text);

// --- "-bin" values ---

/// Without padding, as the protocol recommends.
std::string base64_encode(std::string_view bytes);
/// With padding or without. None where it is not base64.
std::optional<std::string> base64_decode(std::string_view text);

// --- names ---

/// "application/grpc", also with "+proto" or parameters; what else is there is not ours to answer.
bool is_grpc_content_type(std::string_view value);
/// Whether a caller may use this key for metadata of its own.
bool is_metadata_key(std::string_view key);
/// Printable ASCII, which is all that a header value of text may hold.
bool is_metadata_text(std::string_view value);
/// Whether `list` ("identity, gzip") names `encoding`.
bool lists_encoding(std::string_view list, std::string_view encoding);

// --- messages ---

inline constexpr std::size_t kPrefixBytes = 5;
void write_prefix(char (&prefix)[kPrefixBytes], bool compressed, std::size_t size);

/// A message as it stands on the wire.
struct Frame {
  std::string bytes;
  bool compressed = false;
};

/// Cuts the bytes of a stream into messages. Memory grows with what has come, not with what a prefix announces.
class Deframer {
 public:
  /// @param max_bytes a longer message is refused as soon as its prefix is there
  explicit Deframer(std::size_t max_bytes) : max_bytes_(max_bytes) {}
  void reset(std::size_t max_bytes);

  /// @return overloaded where a message is over the limit; internal where a prefix is no prefix
  core::Result<void> feed(std::string_view bytes);
  std::size_t messages() const { return frames_.size() - next_; }
  Frame take();
  /// Bytes held: those of whole messages and of one that is still coming.
  std::size_t held() const { return held_; }
  /// A message has begun and is not there yet.
  bool in_message() const { return prefix_size_ != 0; }

 private:
  std::size_t max_bytes_;
  char prefix_[kPrefixBytes]{};
  std::size_t prefix_size_ = 0, length_ = 0, held_ = 0;
  Frame partial_;
  std::vector<Frame> frames_;
  std::size_t next_ = 0;  ///< of frames_: those before it have been taken
};

/// Messages on their way out, each behind its prefix.
class OutQueue {
 public:
  void push(Frame frame);
  /// Copies up to `size` bytes and forgets them.
  std::size_t read(std::uint8_t* buffer, std::size_t size);
  bool empty() const { return held_ == 0; }
  std::size_t held() const { return held_; }  ///< bytes, prefixes included
  void clear();
  /// Keeps the next message when it has been read, so that take_back() still has it. Until clear().
  void keep() { keep_ = true; }
  Frame take_back();

 private:
  std::vector<Frame> frames_;
  std::size_t next_ = 0, offset_ = 0, held_ = 0;  ///< offset_ counts the prefix, too
  bool keep_ = false;
};

}  // namespace flexi::transports::grpc
