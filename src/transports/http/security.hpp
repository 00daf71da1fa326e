// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/asio/ip/address.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.hpp"

namespace flexi::transports::http {

/// What is known of who asks.
struct Asker {
  boost::asio::ip::address peer;
  std::string_view host;            ///< Host header
  std::string_view origin;          ///< Origin header, empty: none
  std::string_view fetch_site;      ///< Sec-Fetch-Site
  std::string_view fetch_mode;      ///< Sec-Fetch-Mode
  std::string_view authorization;
  bool forwarded = false;           ///< came through a proxy (Forwarded, Via, X-Real-IP, X-Forwarded-…): the peer is not the asker
};

struct AdminRules {
  std::string token;                         ///< empty: none is configured
  std::string own_host;                      ///< the address that the server listens on
  std::vector<std::string> allowed_origins;
  bool token_always = false;                 ///< this machine is no better than another
  bool login_tokens = false;                 ///< whom a login's token belongs to is asked behind the server
};

enum class Token { absent, valid, wrong };
/// Compares in constant time.
Token check_token(const AdminRules& rules, std::string_view authorization);
/// What stands behind "Bearer"; empty: nothing does.
std::string_view bearer_of(std::string_view authorization);
/// Compares in constant time; an empty secret is nobody's.
bool is_secret(std::string_view given, std::string_view secret);

enum class Admission {
  administrator,
  by_login_token,  ///< the token of a login: whether it is an administrator's is still to be asked
};
/// May `asker` read or administer? From a browser only the same or a configured origin; then either the token, or the
/// same machine under a name of its own (a rebound DNS name is not).
/// @return permission_denied, or unauthenticated where a token would help
core::Result<Admission> check_administrator(const AdminRules& rules, const Asker& asker);

/// Whether contract calls may answer this origin: any http or https one.
bool is_web_origin(std::string_view origin);
/// Whether administration may answer this origin.
bool may_administer_from(const AdminRules& rules, std::string_view origin, std::string_view host);

}  // namespace flexi::transports::http
