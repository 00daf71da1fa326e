// SPDX-License-Identifier: Apache-2.0
#include "transports/http/client_address.hpp"

#include <algorithm>
#include <charconv>

namespace flexi::transports::http {

namespace ip = boost::asio::ip;

namespace {

ip::address_v6 as_v6(const ip::address& address) { return address.is_v4() ? ip::make_address_v6(ip::v4_mapped, address.to_v4()) : address.to_v6(); }

std::optional<ip::address> read_address(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  // Some write a port beside it: "192.0.2.1:4711", "[2001:db8::1]:4711".
  if (text.starts_with('[')) text = text.substr(1, std::min(text.find(']'), text.size()) - 1);
  else if (std::count(text.begin(), text.end(), ':') == 1) text = text.substr(0, text.find(':'));
  boost::system::error_code ec;
  auto address = ip::make_address(std::string(text.substr(0, 64)), ec);
  if (ec) return std::nullopt;
  return address;
}

std::string to_text(const ip::address& address) {
  if (address.is_v6() && address.to_v6().is_v4_mapped()) return ip::make_address_v4(ip::v4_mapped, address.to_v6()).to_string();
  return address.to_string();
}

}  // namespace

std::optional<Network> Network::parse(std::string_view text) {
  const auto slash = std::min(text.find('/'), text.size());
  boost::system::error_code ec;
  const auto address = ip::make_address(std::string(text.substr(0, slash)), ec);
  if (ec) return std::nullopt;
  Network network;
  network.base_ = as_v6(address);
  const unsigned most = address.is_v4() ? 32 : 128;
  unsigned bits = most;
  if (slash != text.size()) {
    const auto digits = text.substr(slash + 1);
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), bits);
    if (digits.empty() || code != std::errc() || end != digits.data() + digits.size() || bits > most) return std::nullopt;
  }
  network.bits_ = bits + (128 - most);
  return network;
}

bool Network::contains(const ip::address& address) const {
  const auto theirs = as_v6(address).to_bytes(), ours = base_.to_bytes();
  for (unsigned bit = 0; bit < bits_; bit += 8) {
    const auto mask = static_cast<unsigned char>(bits_ - bit >= 8 ? 0xff : 0xff << (8 - (bits_ - bit)));
    if ((theirs[bit / 8] & mask) != (ours[bit / 8] & mask)) return false;
  }
  return true;
}

std::string client_address(const std::vector<Network>& trusted, const ip::address& peer, std::string_view forwarded_for) {
  const auto is_trusted = [&](const ip::address& address) { return std::any_of(trusted.begin(), trusted.end(), [&](auto& network) { return network.contains(address); }); };
  auto client = peer;
  while (is_trusted(client) && !forwarded_for.empty()) {
    const auto comma = forwarded_for.rfind(',');
    const auto before = read_address(comma == forwarded_for.npos ? forwarded_for : forwarded_for.substr(comma + 1));
    if (!before) break;
    client = *before;
    forwarded_for = comma == forwarded_for.npos ? std::string_view() : forwarded_for.substr(0, comma);
  }
  return to_text(client);
}

}  // namespace flexi::transports::http
