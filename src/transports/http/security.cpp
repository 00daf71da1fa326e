// SPDX-License-Identifier: Apache-2.0
#include "transports/http/security.hpp"

#include <boost/beast/core/string.hpp>

#include "core/bearer.hpp"

namespace flexi::transports::http {

namespace {

bool same_text(std::string_view a, std::string_view b) { return boost::beast::iequals(a, b); }

/// Takes as long whatever the first difference is; the length is no secret.
bool constant_time_equal(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  volatile unsigned char difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) difference = difference | static_cast<unsigned char>(a[i] ^ b[i]);
  return difference == 0;
}

/// "example.com" of "example.com:8080", "::1" of "[::1]:8080".
std::string_view host_without_port(std::string_view host) {
  if (host.starts_with('[')) return host.substr(1, std::min(host.find(']'), host.size()) - 1);
  return host.substr(0, std::min(host.rfind(':'), host.size()));
}

bool is_loopback(const boost::asio::ip::address& address) {
  if (address.is_v6() && address.to_v6().is_v4_mapped())
    return boost::asio::ip::make_address_v4(boost::asio::ip::v4_mapped, address.to_v6()).is_loopback();
  return address.is_loopback();
}

bool is_loopback_name(std::string_view host) {
  if (same_text(host, "localhost")) return true;
  boost::system::error_code ec;
  const auto address = boost::asio::ip::make_address(std::string(host), ec);
  return !ec && is_loopback(address);
}

std::string_view authority_of(std::string_view origin) {
  const auto scheme = origin.find("://");
  return scheme == origin.npos ? std::string_view() : origin.substr(scheme + 3);
}

}  // namespace

std::string_view bearer_of(std::string_view authorization) {
  constexpr std::string_view kBearer = "Bearer ";
  if (authorization.size() < kBearer.size() || !same_text(authorization.substr(0, kBearer.size()), kBearer)) return {};
  return authorization.substr(kBearer.size());
}

Token check_token(const AdminRules& rules, std::string_view authorization) {
  const auto token = bearer_of(authorization);
  if (!token.data()) return Token::absent;
  return is_secret(token, rules.token) ? Token::valid : Token::wrong;
}

bool is_secret(std::string_view given, std::string_view secret) { return !secret.empty() && constant_time_equal(given, secret); }

bool is_web_origin(std::string_view origin) {
  return (origin.starts_with("http://") && origin.size() > 7) || (origin.starts_with("https://") && origin.size() > 8);
}

bool may_administer_from(const AdminRules& rules, std::string_view origin, std::string_view host) {
  if (is_web_origin(origin) && !host.empty() && same_text(authority_of(origin), host)) return true;
  for (auto& allowed : rules.allowed_origins)
    if (same_text(allowed, origin)) return true;
  return false;
}

core::Result<Admission> check_administrator(const AdminRules& rules, const Asker& asker) {
  if (!asker.origin.empty() && !may_administer_from(rules, asker.origin, asker.host))
    return core::permission_denied("administration is not open to the origin " + std::string(asker.origin));
  // A page of another site that embeds or fetches without Origin; following a link is fine.
  if (asker.origin.empty() && same_text(asker.fetch_site, "cross-site") && !same_text(asker.fetch_mode, "navigate"))
    return core::permission_denied("administration is not open to other sites");
  switch (check_token(rules, asker.authorization)) {
    case Token::valid: return Admission::administrator;
    case Token::wrong:
      if (rules.login_tokens && core::may_be_login_token(bearer_of(asker.authorization))) return Admission::by_login_token;
      return core::unauthenticated("the administrator's token is wrong");
    case Token::absent: break;
  }
  const auto host = host_without_port(asker.host);
  const bool here = !asker.forwarded && !rules.token_always && is_loopback(asker.peer);
  if (here && (host.empty() || is_loopback_name(host) || same_text(host, rules.own_host))) return Admission::administrator;
  if (here) {
    const auto reason = "administration is not open under the name " + std::string(host.substr(0, 253)) + " (Host header): on this machine use localhost or 127.0.0.1, or ";
    if (rules.token.empty()) return core::permission_denied(reason + "set FLEXI_ADMIN_TOKEN_FILE on the server and give the token");
    return core::unauthenticated(reason + "give the header Authorization: Bearer <administrator's token>");
  }
  if (rules.token.empty())
    return core::permission_denied("administration from another machine wants a token: set FLEXI_ADMIN_TOKEN_FILE on the server");
  return core::unauthenticated("administration wants the header Authorization: Bearer <administrator's token>");
}

}  // namespace flexi::transports::http
