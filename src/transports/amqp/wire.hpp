// SPDX-License-Identifier: Apache-2.0
// Private to this folder's sources: it includes librabbitmq's headers.
#pragma once

#include <amqp.h>
#include <amqp_framing.h>

#include <string>
#include <string_view>

#include "core/result.hpp"
#include "transports/amqp/message.hpp"

// AMQP 0-9-1 frames to and from bytes. librabbitmq does methods, properties and tables; reading and writing the socket is
// the connection's: librabbitmq's own amqp_basic_publish blocks its thread for as long as RabbitMQ pushes back.
namespace flexi::transports::amqp {

inline amqp_bytes_t bytes_of(std::string_view text) { return {text.size(), const_cast<char*>(text.data())}; }
inline std::string_view view_of(amqp_bytes_t bytes) { return {static_cast<const char*>(bytes.bytes), bytes.bytes ? bytes.len : 0}; }

/// Memory of decoded frames; what was decoded is good until the next recycle().
class Pool {
 public:
  Pool() { init_amqp_pool(&pool_, 16 * 1024); }
  ~Pool() { empty_amqp_pool(&pool_); }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  void recycle() { recycle_amqp_pool(&pool_); }
  amqp_pool_t* get() { return &pool_; }

 private:
  amqp_pool_t pool_{};
};

/// One frame as it stands in a buffer.
struct Frame {
  std::uint8_t type = 0;
  std::uint16_t channel = 0;
  std::string_view payload;
};

inline constexpr std::size_t kFrameOverhead = 8;  ///< type, channel and size before the payload, the end octet behind it

enum class FrameStep { frame, need_more, malformed };
/// Takes one whole frame from the front of `bytes`. Source: AMQP 0-9-1 specification section 2.3.5
/// @param frame_max as negotiated; a larger frame is malformed
FrameStep next_frame(std::string_view& bytes, std::size_t frame_max, Frame& frame);

/// @return false where the arguments don't fit one frame
bool append_method(std::string& out, std::uint16_t channel, amqp_method_number_t method, void* arguments, std::size_t frame_max);
void append_heartbeat(std::string& out);
/// basic.publish with its content.
/// @return invalid_argument where the properties don't fit one frame
core::Result<void> append_publish(std::string& out, std::uint16_t channel, std::string_view exchange, std::string_view routing_key,
                                  bool mandatory, const Message& message, std::size_t frame_max);

/// @return invalid_argument for what is no AMQP
core::Result<void*> decode_method(Pool& pool, std::string_view payload, amqp_method_number_t& method);
/// A content header: properties, headers and body_bytes; no body. Properties that can't be read, or whose headers are
/// nested too deeply, are left out: a message's sender must not end the connection.
core::Result<Message> decode_content_header(Pool& pool, std::string_view payload);

}  // namespace flexi::transports::amqp
