// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>

#include "transports/amqp/codec.hpp"
#include "transports/amqp/wire.hpp"

// A delivery as RabbitMQ hands it on: the content header as its sender wrote it, a zero octet, the body. And the same bytes as
// a stream of frames.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace flexi;
  using namespace flexi::transports::amqp;
  static const AmqpOptions options;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  Pool pool;
  Frame frame;
  for (auto rest = bytes; next_frame(rest, 4096, frame) == FrameStep::frame;) {
    amqp_method_number_t method = 0;
    if (frame.type == AMQP_FRAME_METHOD) (void)decode_method(pool, frame.payload, method);
    pool.recycle();
  }
  const auto cut = std::min<std::size_t>(size, size > 0 ? data[0] + 14u : 0);
  auto message = decode_content_header(pool, bytes.substr(std::min<std::size_t>(1, size), cut));
  if (!message) return 0;
  auto m = std::move(message).value();
  m.body = bytes.substr(cut);
  m.body_bytes = m.body.size();
  for (std::string_view action : {"log", "mail", "auth", "resize"}) {
    auto copy = m;
    auto job = read_job(action, copy, options);
    // Whatever can be handled has an id that the stores take, and keeps it.
    if (job && (job.value().request.id.empty() || read_job(action, copy, options).value().request.id != job.value().request.id)) std::abort();
    const auto letter = read_dead_letter(action, "q", for_dead_letter(action, copy, core::internal("x"), 3));
    if (letter.id.empty() || letter.attempts != 3) std::abort();
    std::string out;
    (void)append_publish(out, 1, "e", "k", true, for_retry(copy, core::internal("x"), 2), 131'072);
  }
  auto copy = m;
  (void)read_handle_request(copy, options, "token");
  (void)read_reply(m);
  (void)is_expired(m, 0);
  if (read_dead_letter("", "q", m).id.empty()) std::abort();
  return 0;
}
