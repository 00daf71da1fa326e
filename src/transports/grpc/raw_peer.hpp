// SPDX-License-Identifier: Apache-2.0
#pragma once
// For tests: one end of an HTTP/2 connection, frame by frame, so that it can misbehave.

#include <gtest/gtest.h>
#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <sys/socket.h>

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "transports/grpc/wire.hpp"

namespace flexi::transports::grpc::test {

using Headers = std::vector<std::pair<std::string, std::string>>;

struct RawFrame {
  std::uint8_t type = 0, flags = 0;
  std::uint32_t stream = 0;
  std::string payload;
  std::multimap<std::string, std::string> headers{};  ///< of HEADERS
  std::uint32_t number(std::size_t at) const {
    std::uint32_t n = 0;
    for (std::size_t i = at; i < at + 4 && i < payload.size(); ++i) n = n << 8 | static_cast<std::uint8_t>(payload[i]);
    return n;
  }
  bool ends() const { return flags & NGHTTP2_FLAG_END_STREAM; }
  std::string header(const std::string& name) const {
    auto found = headers.find(name);
    return found == headers.end() ? "" : found->second;
  }
};

inline std::string big_endian(std::uint32_t n, int bytes) {
  std::string out;
  for (int i = bytes; i-- > 0;) out += static_cast<char>(n >> (8 * i) & 255);
  return out;
}
inline std::string frame(std::uint8_t type, std::uint8_t flags, std::uint32_t stream, std::string_view payload = {}) {
  return big_endian(static_cast<std::uint32_t>(payload.size()), 3) + static_cast<char>(type) + static_cast<char>(flags) + big_endian(stream, 4).append(payload);
}
/// Literal fields, never indexed: no state.
inline std::string header_block(const Headers& headers) {
  std::string out;
  const auto text = [&](const std::string& t) {
    if (t.size() < 127) {
      out += static_cast<char>(t.size());
    } else {
      out += '\x7f';
      auto rest = t.size() - 127;
      for (; rest >= 128; rest >>= 7) out += static_cast<char>(rest % 128 + 128);
      out += static_cast<char>(rest);
    }
    out += t;
  };
  for (auto& [name, value] : headers) out += '\x10', text(name), text(value);
  return out;
}
inline Headers request(const std::string& path, const Headers& more = {}) {
  Headers headers{{":method", "POST"}, {":scheme", "http"}, {":path", path}, {":authority", "test"}, {"te", "trailers"}, {"content-type", "application/grpc"}};
  headers.insert(headers.end(), more.begin(), more.end());
  return headers;
}
inline std::string message(std::string_view bytes, bool compressed = false) {
  char prefix[kPrefixBytes];
  write_prefix(prefix, compressed, bytes.size());
  return std::string(prefix, sizeof prefix).append(bytes);
}
inline std::string setting(std::uint16_t id, std::uint32_t value) { return big_endian(id, 2) + big_endian(value, 4); }

class RawPeer {
 public:
  explicit RawPeer(boost::asio::ip::tcp::socket socket) : socket_(std::move(socket)) {
    timeval limit{.tv_sec = 20, .tv_usec = 0};
    ::setsockopt(socket_.native_handle(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    nghttp2_hd_inflate_new(&inflater_);
  }
  ~RawPeer() { nghttp2_hd_inflate_del(inflater_); }
  RawPeer(const RawPeer&) = delete;

  static boost::asio::io_context& io() {
    static boost::asio::io_context context;
    return context;
  }
  static boost::asio::ip::tcp::socket connected(const std::string& endpoint) {
    const auto host = endpoint.substr(endpoint.find("//") + 2);
    const auto colon = host.rfind(':');
    boost::asio::ip::tcp::socket socket(io());
    socket.connect({boost::asio::ip::make_address(host.substr(0, colon)), static_cast<std::uint16_t>(std::stoi(host.substr(colon + 1)))});
    return socket;
  }
  /// A client that has said hello, and got the server's SETTINGS.
  static std::unique_ptr<RawPeer> client_of(const std::string& endpoint, std::string_view settings = {}) {
    auto peer = std::make_unique<RawPeer>(connected(endpoint));
    peer->send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(NGHTTP2_SETTINGS, 0, 0, settings));
    EXPECT_TRUE(peer->next(NGHTTP2_SETTINGS));
    peer->send(frame(NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0));
    return peer;
  }

  /// @return false where the peer is gone
  bool send(std::string_view bytes) {
    boost::system::error_code ec;
    boost::asio::write(socket_, boost::asio::buffer(bytes), ec);
    return !ec;
  }
  bool send_headers(std::uint32_t stream, const Headers& headers, std::uint8_t flags = 0) {
    return send(frame(NGHTTP2_HEADERS, static_cast<std::uint8_t>(flags | NGHTTP2_FLAG_END_HEADERS), stream, header_block(headers)));
  }
  bool send_data(std::uint32_t stream, std::string_view bytes, std::uint8_t flags = 0) {
    while (bytes.size() > 16'384) {
      if (!send(frame(NGHTTP2_DATA, 0, stream, bytes.substr(0, 16'384)))) return false;
      bytes.remove_prefix(16'384);
    }
    return send(frame(NGHTTP2_DATA, flags, stream, bytes));
  }
  /// A whole unary call.
  bool call(std::uint32_t stream, const std::string& path, std::string_view bytes, const Headers& more = {}) {
    return send_headers(stream, request(path, more)) && send_data(stream, message(bytes), NGHTTP2_FLAG_END_STREAM);
  }

  /// The next frame; none at the connection's end.
  std::optional<RawFrame> next() {
    auto head = read(9);
    if (!head) return std::nullopt;
    RawFrame got;
    const auto at = [&](std::size_t i) { return static_cast<std::uint8_t>((*head)[i]); };
    got.type = at(3);
    got.flags = at(4);
    got.stream = (at(5) & 127u) << 24 | at(6) << 16u | at(7) << 8u | at(8);
    auto payload = read(at(0) << 16u | at(1) << 8u | at(2));
    if (!payload) return std::nullopt;
    got.payload = std::move(*payload);
    if (got.type == NGHTTP2_HEADERS) inflate(got);
    return got;
  }
  /// The next frame of that type (and stream), dropping others.
  std::optional<RawFrame> next(std::uint8_t type, std::uint32_t stream = 0) {
    while (auto got = next())
      if (got->type == type && got->stream == stream) return got;
    return std::nullopt;
  }
  /// The frame that ends the stream: trailers, or RST_STREAM. What came as DATA is in `payload` then.
  std::optional<RawFrame> end_of(std::uint32_t stream) {
    std::string data;
    while (auto got = next()) {
      if (got->stream != stream) continue;
      if (got->type == NGHTTP2_DATA) data += got->payload;
      if (got->type == NGHTTP2_RST_STREAM) return got;
      if (got->ends()) {
        got->payload = data;
        return got;
      }
    }
    return std::nullopt;
  }
  /// The error code of the GOAWAY, none where the connection ended without.
  std::optional<std::uint32_t> goaway() {
    auto got = next(NGHTTP2_GOAWAY);
    return got ? std::optional(got->number(4)) : std::nullopt;
  }
  /// Whether the peer closes; what it still says is dropped.
  bool closes() {
    while (next()) {
    }
    return last_error_ == boost::asio::error::eof || last_error_ == boost::asio::error::connection_reset;
  }
  boost::asio::ip::tcp::socket& socket() { return socket_; }
  bool readable_within(int ms) {
    pollfd fd{socket_.native_handle(), POLLIN, 0};
    return ::poll(&fd, 1, ms) == 1;
  }

 private:
  std::optional<std::string> read(std::size_t size) {
    std::string out(size, '\0');
    boost::asio::read(socket_, boost::asio::buffer(out), last_error_);
    if (last_error_) return std::nullopt;
    return out;
  }
  void inflate(RawFrame& got) {
    const auto* in = reinterpret_cast<const std::uint8_t*>(got.payload.data());
    std::size_t left = got.payload.size();
    for (;;) {
      nghttp2_nv field;
      int flags = 0;
      const auto used = nghttp2_hd_inflate_hd2(inflater_, &field, &flags, in, left, 1);
      ASSERT_GE(used, 0);
      in += used, left -= static_cast<std::size_t>(used);
      if (flags & NGHTTP2_HD_INFLATE_EMIT)
        got.headers.emplace(std::string(reinterpret_cast<char*>(field.name), field.namelen), std::string(reinterpret_cast<char*>(field.value), field.valuelen));
      if (flags & NGHTTP2_HD_INFLATE_FINAL) break;
    }
    nghttp2_hd_inflate_end_headers(inflater_);
  }

  boost::asio::ip::tcp::socket socket_;
  boost::system::error_code last_error_;
  nghttp2_hd_inflater* inflater_ = nullptr;
};

}  // namespace flexi::transports::grpc::test
