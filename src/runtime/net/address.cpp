// SPDX-License-Identifier: Apache-2.0
#include "runtime/net/address.hpp"

#include <charconv>

namespace flexi::runtime::net {

core::Result<Authority> parse_authority(std::string_view text, std::uint16_t default_port) {
  const auto wrong = [&] { return core::invalid_argument("an address is host:port, e.g. 127.0.0.1:8080, not \"" + std::string(text) + "\""); };
  Authority authority{.port = default_port};
  std::string_view port;
  if (text.starts_with('[')) {
    const auto close = text.find(']');
    if (close == text.npos) return wrong();
    authority.host = text.substr(1, close - 1);
    port = text.substr(close + 1);
  } else {
    const auto colon = std::min(text.find(':'), text.size());
    authority.host = text.substr(0, colon);
    port = text.substr(colon);
  }
  for (unsigned char c : authority.host)
    if (c <= 0x20 || c >= 0x7f || c == '/' || c == '@' || c == '?' || c == '#') return wrong();
  // Several hosts, with commas between: none of them may be missing.
  const std::string list = "," + authority.host + ",";
  if (list.size() > 2 && list.find(",,") != list.npos) return wrong();
  if (port.empty()) return authority;
  unsigned number = 0;
  auto [end, ec] = std::from_chars(port.data() + 1, port.data() + port.size(), number);
  if (port.front() != ':' || ec != std::errc() || end != port.data() + port.size() || number > 65535) return wrong();
  authority.port = static_cast<std::uint16_t>(number);
  return authority;
}

core::Result<Authority> parse_endpoint(std::string_view text, std::string_view scheme, std::uint16_t default_port) {
  const auto wrong = core::invalid_argument("an endpoint is " + std::string(scheme) + "://host:port, not \"" + std::string(text) + "\"");
  if (!text.starts_with(scheme) || !text.substr(scheme.size()).starts_with("://")) return wrong;
  auto rest = text.substr(scheme.size() + 3);
  if (rest.ends_with('/')) rest.remove_suffix(1);
  auto authority = parse_authority(rest, default_port);
  if (!authority || authority.value().host.empty() || authority.value().port == 0) return wrong;
  return authority;
}

core::Result<Url> parse_url(std::string_view text, std::string_view scheme, std::uint16_t default_port) {
  const auto start = scheme.size() + 3;
  const auto path = text.size() > start ? text.find_first_of("/?", start) : text.npos;
  Url url;
  FLEXI_TRY(url.authority, parse_endpoint(text.substr(0, path), scheme, default_port));
  if (path == text.npos) return url;
  url.target = text[path] == '?' ? "/" : "";
  for (unsigned char c : text.substr(path)) {
    if (c <= 0x20 || c >= 0x7f || c == '#' || c == '"' || c == '<' || c == '>' || c == '\\')
      return core::invalid_argument("the path of \"" + std::string(text) + "\" must be percent-encoded and without #");
    url.target += static_cast<char>(c);
  }
  return url;
}

core::Result<boost::asio::ip::tcp::endpoint> parse_listen(std::string_view text, std::uint16_t default_port) {
  auto authority = parse_authority(text, default_port);
  boost::system::error_code ec;
  boost::asio::ip::address address;
  if (authority) {
    auto host = authority.value().host;
    if (host == "localhost") host = "127.0.0.1";
    if (host.empty() || host == "*") host = "0.0.0.0";
    address = boost::asio::ip::make_address(host, ec);
  }
  if (!authority || ec)
    return core::invalid_argument("must be an IP address (or localhost) and a port, e.g. 127.0.0.1:8080, [::1]:8080 or 0.0.0.0:8080, not \"" + std::string(text) + "\"");
  return boost::asio::ip::tcp::endpoint(address, authority.value().port);
}

std::string to_authority(const boost::asio::ip::tcp::endpoint& endpoint) {
  return to_authority(Authority{endpoint.address().to_string(), endpoint.port()});
}

std::string to_authority(const Authority& authority) {
  const bool v6 = authority.host.find(':') != std::string::npos;
  return (v6 ? "[" + authority.host + "]" : authority.host) + ":" + std::to_string(authority.port);
}

}  // namespace flexi::runtime::net
