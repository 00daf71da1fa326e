// SPDX-License-Identifier: Apache-2.0
#include "transports/rpc/access.hpp"

#include <boost/asio/ip/address_v4.hpp>

namespace flexi::transports::rpc {

namespace {

/// Takes as long whatever the first difference is; the length is no secret.
bool constant_time_equal(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  volatile unsigned char difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) difference = difference | static_cast<unsigned char>(a[i] ^ b[i]);
  return difference == 0;
}

}  // namespace

std::string_view bearer_of(std::string_view authorization) {
  constexpr std::string_view kBearer = "Bearer ";
  return authorization.starts_with(kBearer) ? authorization.substr(kBearer.size()) : std::string_view();
}

Token check_token(std::string_view token, std::string_view authorization) {
  const auto given = bearer_of(authorization);
  if (!given.data()) return Token::absent;
  return is_secret(given, token) ? Token::valid : Token::wrong;
}

bool is_secret(std::string_view given, std::string_view secret) { return !secret.empty() && constant_time_equal(given, secret); }

core::Result<void> check_administrator(std::string_view token, std::string_view authorization, bool same_machine) {
  switch (check_token(token, authorization)) {
    case Token::valid: return core::ok();
    case Token::wrong: return core::unauthenticated("the administrator's token is wrong");
    case Token::absent: break;
  }
  if (same_machine) return core::ok();
  if (token.empty()) return core::permission_denied("administration from another machine wants a token: set FLEXI_ADMIN_TOKEN_FILE on the server");
  return core::unauthenticated("administration wants meta.authorization \"Bearer <administrator's token>\"");
}

bool is_same_machine(const boost::asio::ip::address& peer) {
  if (peer.is_v6() && peer.to_v6().is_v4_mapped()) return boost::asio::ip::make_address_v4(boost::asio::ip::v4_mapped, peer.to_v6()).is_loopback();
  return peer.is_loopback();
}

}  // namespace flexi::transports::rpc
