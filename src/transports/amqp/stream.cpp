// SPDX-License-Identifier: Apache-2.0
#include "transports/amqp/stream.hpp"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include "runtime/net/balancer.hpp"

namespace flexi::transports::amqp {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

std::string tls_reason(const char* otherwise) {
  const auto code = ERR_get_error();
  ERR_clear_error();
  if (code == 0) return otherwise;
  char text[256];
  ERR_error_string_n(code, text, sizeof text);
  return text;
}

template <auto Free>
struct Freer {
  template <class T>
  void operator()(T* p) const {
    Free(p);
  }
};

}  // namespace

struct Stream::Tls {
  std::unique_ptr<SSL_CTX, Freer<SSL_CTX_free>> context{SSL_CTX_new(TLS_client_method())};
  std::unique_ptr<SSL, Freer<SSL_free>> ssl;
  BIO* in = nullptr;   ///< what came from the socket; owned by ssl
  BIO* out = nullptr;  ///< what goes to it; owned by ssl
  std::array<char, 16 * 1024> received;
};

Stream::Stream(asio::any_io_executor executor) : socket_(std::move(executor)) {}
Stream::~Stream() = default;

core::awaitable<core::Result<void>> Stream::connect(const Endpoint& endpoint, const AmqpOptions& options) {
  tcp::resolver resolver(socket_.get_executor());
  error_code ec;
  auto found = co_await resolver.async_resolve(endpoint.host, std::to_string(endpoint.port), asio::redirect_error(asio::use_awaitable, ec));
  if (ec) co_return core::unavailable("RabbitMQ can't be reached", "no address for " + endpoint.host + ": " + ec.message());
  for (auto& address : found) {
    ec = co_await runtime::net::connect_within(socket_, address.endpoint(), options.connect_timeout);
    if (!ec) break;
  }
  if (ec) co_return core::unavailable("RabbitMQ can't be reached", endpoint.authority() + ": " + ec.message());
  if (!endpoint.tls) co_return core::ok();
  co_return co_await shake_hands(endpoint, options);
}

core::awaitable<core::Result<void>> Stream::shake_hands(const Endpoint& endpoint, const AmqpOptions& options) {
  ERR_clear_error();
  tls_ = std::make_unique<Tls>();
  auto* context = tls_->context.get();
  const auto failed = [&](const std::string& what, const char* why) { return core::unavailable("RabbitMQ can't be reached over TLS", endpoint.authority() + ": " + what + ": " + tls_reason(why)); };
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  const bool trusts = options.tls_ca_file.empty() ? SSL_CTX_set_default_verify_paths(context) : SSL_CTX_load_verify_locations(context, options.tls_ca_file.c_str(), nullptr);
  if (!trusts) co_return failed("tls_ca_file " + options.tls_ca_file, "can't be read");
  if (!options.tls_certificate_file.empty() && (SSL_CTX_use_certificate_chain_file(context, options.tls_certificate_file.c_str()) != 1 ||
                                                SSL_CTX_use_PrivateKey_file(context, options.tls_key_file.c_str(), SSL_FILETYPE_PEM) != 1))
    co_return failed("tls_certificate_file or tls_key_file", "can't be read");
  tls_->ssl.reset(SSL_new(context));
  auto* ssl = tls_->ssl.get();
  tls_->in = BIO_new(BIO_s_mem());
  tls_->out = BIO_new(BIO_s_mem());
  SSL_set_bio(ssl, tls_->in, tls_->out);
  SSL_set_verify(ssl, options.tls_verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
  error_code literal;
  asio::ip::make_address(endpoint.host, literal);
  if (literal) SSL_set_tlsext_host_name(ssl, endpoint.host.c_str());
  if (options.tls_verify) {
    if (literal) SSL_set1_host(ssl, endpoint.host.c_str());
    else X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), endpoint.host.c_str());
  }
  for (;;) {
    const int done = SSL_connect(ssl);
    const int wants = SSL_get_error(ssl, done);
    error_code ec;
    co_await flush(ec);
    if (ec) co_return failed("handshake", "the connection was closed");
    if (done == 1) co_return core::ok();
    if (wants != SSL_ERROR_WANT_READ) {
      // Which check failed says more than that one did.
      const auto verified = SSL_get_verify_result(ssl);
      if (verified != X509_V_OK) ERR_clear_error();
      co_return failed("handshake", verified == X509_V_OK ? "refused" : X509_verify_cert_error_string(verified));
    }
    co_await feed(ec);
    if (ec) co_return failed("handshake", "the connection was closed");
  }
}

/// What TLS has to say goes to the socket.
core::awaitable<void> Stream::flush(error_code& ec) {
  while (BIO_ctrl_pending(tls_->out) > 0) {
    std::string bytes(BIO_ctrl_pending(tls_->out), '\0');
    const int size = BIO_read(tls_->out, bytes.data(), static_cast<int>(bytes.size()));
    if (size <= 0) co_return;
    bytes.resize(static_cast<std::size_t>(size));
    co_await asio::async_write(socket_, asio::buffer(bytes), asio::redirect_error(asio::use_awaitable, ec));
    if (ec) co_return;
  }
}

core::awaitable<void> Stream::feed(error_code& ec) {
  const auto size = co_await socket_.async_read_some(asio::buffer(tls_->received), asio::redirect_error(asio::use_awaitable, ec));
  if (size > 0) BIO_write(tls_->in, tls_->received.data(), static_cast<int>(size));
}

core::awaitable<std::size_t> Stream::read_some(asio::mutable_buffer buffer, error_code& ec) {
  if (!tls_) co_return co_await socket_.async_read_some(buffer, asio::redirect_error(asio::use_awaitable, ec));
  for (;;) {
    ERR_clear_error();
    const int size = SSL_read(tls_->ssl.get(), buffer.data(), static_cast<int>(buffer.size()));
    if (size > 0) co_return static_cast<std::size_t>(size);
    if (SSL_get_error(tls_->ssl.get(), size) != SSL_ERROR_WANT_READ) {
      ec = asio::error::eof;
      co_return 0;
    }
    co_await feed(ec);
    if (ec) co_return 0;
  }
}

core::awaitable<void> Stream::write(const std::string& bytes, error_code& ec) {
  if (!tls_) {
    co_await asio::async_write(socket_, asio::buffer(bytes), asio::redirect_error(asio::use_awaitable, ec));
    co_return;
  }
  for (std::string_view rest = bytes; !rest.empty();) {
    ERR_clear_error();
    // Into memory: it takes all. A key update that the reader owes goes out with it.
    const int size = SSL_write(tls_->ssl.get(), rest.data(), static_cast<int>(std::min<std::size_t>(rest.size(), 16 * 1024)));
    if (size <= 0) {
      ec = asio::error::broken_pipe;
      co_return;
    }
    rest.remove_prefix(static_cast<std::size_t>(size));
    if (BIO_ctrl_pending(tls_->out) < 256 * 1024 && !rest.empty()) continue;
    co_await flush(ec);
    if (ec) co_return;
  }
}

void Stream::close() {
  error_code ignored;
  socket_.shutdown(tcp::socket::shutdown_both, ignored);
  socket_.close(ignored);
}

}  // namespace flexi::transports::amqp
