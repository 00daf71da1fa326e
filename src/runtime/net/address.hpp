// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <string>
#include <string_view>

#include "core/result.hpp"

namespace flexi::runtime::net {

struct Authority {
  std::string host;  ///< without the brackets of an IPv6 address; several with commas between where a peer is meant
  std::uint16_t port = 0;
};

/// "host:port", "host", "[::1]:port".
core::Result<Authority> parse_authority(std::string_view text, std::uint16_t default_port);
/// "<scheme>://host:port", with or without a slash at the end.
core::Result<Authority> parse_endpoint(std::string_view text, std::string_view scheme, std::uint16_t default_port);

struct Url {
  Authority authority;
  std::string target = "/";  ///< path and query, as they stand in a request line
};
/// "<scheme>://host:port/path?query"; path and query must be percent-encoded already, a fragment means nothing to a server.
core::Result<Url> parse_url(std::string_view text, std::string_view scheme, std::uint16_t default_port);

/// Where to listen: "127.0.0.1:8080", "[::]:80", "localhost:0", "*:80" (every IPv4 address). No other name: it would be
/// looked up at start, and could mean several addresses or another machine's.
/// @return invalid_argument that says what would be right
core::Result<boost::asio::ip::tcp::endpoint> parse_listen(std::string_view text, std::uint16_t default_port);

std::string to_authority(const boost::asio::ip::tcp::endpoint& endpoint);
std::string to_authority(const Authority& authority);

}  // namespace flexi::runtime::net
