// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <memory>

#include "core/reply.hpp"
#include "transports/amqp/options.hpp"

namespace flexi::transports::amqp {

/// Bytes to and from RabbitMQ, in plain text or TLS. One reader and one writer at a time.
/// TLS is OpenSSL between two memory buffers, so that reading and writing stay this class's, and no second copy of Asio's
/// compiled TLS code is needed beside another transport's.
/// Lifetime/threads: one executor's thread
class Stream {
 public:
  explicit Stream(boost::asio::any_io_executor executor);
  ~Stream();

  /// Connects to the first address of the host that takes the connection; with TLS, shakes hands.
  /// @return unavailable with what and why
  core::awaitable<core::Result<void>> connect(const Endpoint& endpoint, const AmqpOptions& options);
  /// @return 0 and an error at the end
  core::awaitable<std::size_t> read_some(boost::asio::mutable_buffer buffer, boost::system::error_code& ec);
  core::awaitable<void> write(const std::string& bytes, boost::system::error_code& ec);
  void close();

 private:
  struct Tls;
  core::awaitable<core::Result<void>> shake_hands(const Endpoint& endpoint, const AmqpOptions& options);
  core::awaitable<void> flush(boost::system::error_code& ec);
  core::awaitable<void> feed(boost::system::error_code& ec);

  boost::asio::ip::tcp::socket socket_;
  std::unique_ptr<Tls> tls_;
};

}  // namespace flexi::transports::amqp
