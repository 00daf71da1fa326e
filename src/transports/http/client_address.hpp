// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/ip/address.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace flexi::transports::http {

/// Addresses that begin alike.
class Network {
 public:
  /// "10.0.0.0/8", "2001:db8::/32", or one address.
  static std::optional<Network> parse(std::string_view text);
  bool contains(const boost::asio::ip::address& address) const;

 private:
  boost::asio::ip::address_v6 base_;  ///< IPv4 as ::ffff:a.b.c.d
  unsigned bits_ = 128;
};

/// Who asks: the peer, or, where that is a trusted proxy, whoever it says it got the request from. Each trusted proxy on the way is
/// believed; what stands before them anybody may have written.
/// @param forwarded_for "client, proxy, proxy": each proxy appends whom it got it from
std::string client_address(const std::vector<Network>& trusted, const boost::asio::ip::address& peer, std::string_view forwarded_for);

}  // namespace flexi::transports::http
