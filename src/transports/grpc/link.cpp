// SPDX-License-Identifier: Apache-2.0
#include "transports/grpc/link.hpp"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/ssl/impl/src.hpp>
#include <boost/asio/write.hpp>

namespace flexi::transports::grpc {

namespace asio = boost::asio;
namespace ssl = asio::ssl;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

constexpr unsigned char kAlpn[] = {2, 'h', '2'};
// TLS 1.2: forward secrecy and authenticated encryption only, as RFC 9113 section 9.2.2 asks.
constexpr const char* kCiphers = "ECDHE+AESGCM:ECDHE+CHACHA20";

int select_h2(SSL*, const unsigned char** out, unsigned char* size, const unsigned char* offered, unsigned offered_size, void*) {
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, size, kAlpn, sizeof kAlpn, offered, offered_size) != OPENSSL_NPN_NEGOTIATED) return SSL_TLSEXT_ERR_ALERT_FATAL;
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

bool speaks_h2(SSL* stream) {
  const unsigned char* name = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(stream, &name, &size);
  return size == 2 && name[0] == 'h' && name[1] == '2';
}

core::Result<void> use_files(ssl::context& context, const std::string& certificate, const std::string& key) {
  error_code ec;
  context.use_certificate_chain_file(certificate, ec);
  if (ec) return core::invalid_argument("can't use the certificate " + certificate + ": " + ec.message());
  context.use_private_key_file(key, ssl::context::pem, ec);
  if (!ec && SSL_CTX_check_private_key(context.native_handle()) != 1) ec = error_code(static_cast<int>(ERR_get_error()), asio::error::get_ssl_category());
  if (ec) return core::invalid_argument("can't use the key " + key + ": " + ec.message());
  return core::ok();
}

void restrict_protocol(ssl::context& context) {
  SSL_CTX_set_min_proto_version(context.native_handle(), TLS1_2_VERSION);
  SSL_CTX_set_options(context.native_handle(), SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_cipher_list(context.native_handle(), kCiphers);
  // A connection that waits holds no buffers of its own.
  SSL_CTX_set_mode(context.native_handle(), SSL_MODE_RELEASE_BUFFERS);
}

}  // namespace

struct Tls::Impl {
  explicit Impl(ssl::context::method method) : context(method) {}
  mutable ssl::context context;
  bool verify = true;
};

Tls::Tls(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tls::~Tls() = default;

core::Result<std::unique_ptr<Tls>> Tls::of_server(const GrpcServerOptions& options) {
  auto impl = std::make_unique<Impl>(ssl::context::tls_server);
  restrict_protocol(impl->context);
  FLEXI_TRY(use_files(impl->context, options.certificate_file, options.key_file));
  SSL_CTX_set_alpn_select_cb(impl->context.native_handle(), select_h2, nullptr);
  return std::unique_ptr<Tls>(new Tls(std::move(impl)));
}

core::Result<std::unique_ptr<Tls>> Tls::of_client(const GrpcClientOptions& options) {
  auto impl = std::make_unique<Impl>(ssl::context::tls_client);
  restrict_protocol(impl->context);
  impl->verify = options.verify_peer;
  error_code ec;
  if (options.ca_file.empty()) impl->context.set_default_verify_paths(ec);
  else impl->context.load_verify_file(options.ca_file, ec);
  if (ec) return core::invalid_argument("can't use the certificates of " + options.ca_file + ": " + ec.message());
  if (!options.certificate_file.empty()) {
    FLEXI_TRY(use_files(impl->context, options.certificate_file, options.key_file));
  }
  SSL_CTX_set_alpn_protos(impl->context.native_handle(), kAlpn, sizeof kAlpn);
  return std::unique_ptr<Tls>(new Tls(std::move(impl)));
}

struct Link::Stream {
  Stream(tcp::socket& socket, ssl::context& context) : stream(socket, context) {}
  ssl::stream<tcp::socket&> stream;
};

Link::Link(tcp::socket socket) : socket_(std::move(socket)) {
  error_code ignored;
  socket_.set_option(tcp::no_delay(true), ignored);
  socket_.non_blocking(true, ignored);
}
Link::~Link() = default;

core::awaitable<std::string> Link::accept_tls(const Tls& tls) {
  tls_ = std::make_unique<Stream>(socket_, tls.impl_->context);
  error_code ec;
  co_await tls_->stream.async_handshake(ssl::stream_base::server, asio::redirect_error(asio::use_awaitable, ec));
  if (ec) co_return ec.message();
  co_return speaks_h2(tls_->stream.native_handle()) ? "" : "the client does not offer h2 (ALPN)";
}

core::awaitable<std::string> Link::connect_tls(const Tls& tls, std::string host) {
  tls_ = std::make_unique<Stream>(socket_, tls.impl_->context);
  error_code ec;
  if (tls.impl_->verify) {
    tls_->stream.set_verify_mode(ssl::verify_peer, ec);
    tls_->stream.set_verify_callback(ssl::host_name_verification(host), ec);
  }
  error_code not_an_address;
  asio::ip::make_address(host, not_an_address);
  if (not_an_address) SSL_set_tlsext_host_name(tls_->stream.native_handle(), host.c_str());
  co_await tls_->stream.async_handshake(ssl::stream_base::client, asio::redirect_error(asio::use_awaitable, ec));
  if (ec) co_return ec.message();
  co_return speaks_h2(tls_->stream.native_handle()) ? "" : "the server does not speak h2 (ALPN)";
}

core::awaitable<std::size_t> Link::read_some(asio::mutable_buffer buffer, error_code& ec) {
  if (tls_) co_return co_await tls_->stream.async_read_some(buffer, asio::redirect_error(asio::use_awaitable, ec));
  co_return co_await socket_.async_read_some(buffer, asio::redirect_error(asio::use_awaitable, ec));
}

core::awaitable<void> Link::write(asio::const_buffer bytes, error_code& ec) {
  if (tls_) co_await asio::async_write(tls_->stream, bytes, asio::redirect_error(asio::use_awaitable, ec));
  else co_await asio::async_write(socket_, bytes, asio::redirect_error(asio::use_awaitable, ec));
}

std::size_t Link::write_now(asio::const_buffer bytes, error_code& ec) {
  if (tls_) {
    ec = asio::error::would_block;
    return 0;
  }
  return socket_.write_some(bytes, ec);
}

core::awaitable<void> Link::shutdown() {
  error_code ec;
  // Its answer is not waited for here: the read that follows does, within the session's limit.
  if (tls_) SSL_set_shutdown(tls_->stream.native_handle(), SSL_RECEIVED_SHUTDOWN);
  if (tls_) co_await tls_->stream.async_shutdown(asio::redirect_error(asio::use_awaitable, ec));
  socket_.shutdown(tcp::socket::shutdown_send, ec);
}

void Link::close() {
  error_code ignored;
  socket_.close(ignored);
}

}  // namespace flexi::transports::grpc
