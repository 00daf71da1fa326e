// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <memory>
#include <string>

#include "core/handler.hpp"
#include "transports/grpc/options.hpp"

namespace flexi::transports::grpc {

/// Certificates and rules of one end. TLS 1.2 or later with the ciphers that HTTP/2 allows, ALPN "h2".
/// Source: RFC 9113 section 9.2
/// Lifetime/threads: immutable once made; any thread
class Tls {
 public:
  /// @return invalid_argument where a file can't be read or the key is not the certificate's
  static core::Result<std::unique_ptr<Tls>> of_server(const GrpcServerOptions& options);
  static core::Result<std::unique_ptr<Tls>> of_client(const GrpcClientOptions& options);
  ~Tls();

 private:
  friend class Link;
  struct Impl;
  explicit Tls(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// A connected socket, plain or under TLS. One read and one write at a time, side by side.
/// Cancellation: close() ends what waits
/// Lifetime/threads: the shard's thread
class Link {
 public:
  explicit Link(boost::asio::ip::tcp::socket socket);
  ~Link();

  boost::asio::ip::tcp::socket& socket() { return socket_; }
  bool secure() const { return tls_ != nullptr; }

  /// @return why not, in words; empty: done
  core::awaitable<std::string> accept_tls(const Tls& tls);
  /// @param host what the certificate must be for
  core::awaitable<std::string> connect_tls(const Tls& tls, std::string host);

  core::awaitable<std::size_t> read_some(boost::asio::mutable_buffer buffer, boost::system::error_code& ec);
  core::awaitable<void> write(boost::asio::const_buffer bytes, boost::system::error_code& ec);
  /// What the socket takes without waiting: nothing under TLS.
  std::size_t write_now(boost::asio::const_buffer bytes, boost::system::error_code& ec);
  /// Says that nothing more comes (TLS close_notify, FIN).
  core::awaitable<void> shutdown();
  void close();

 private:
  struct Stream;
  boost::asio::ip::tcp::socket socket_;
  std::unique_ptr<Stream> tls_;
};

}  // namespace flexi::transports::grpc
