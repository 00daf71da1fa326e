// SPDX-License-Identifier: Apache-2.0
#include "runtime/postgres/conninfo.hpp"

#include <libpq-fe.h>

#include <boost/asio/ip/address.hpp>
#include <cctype>
#include <cstdlib>
#include <memory>

namespace flexi::runtime::postgres {

namespace {

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts(1);
  for (char c : list) {
    if (c == ',') parts.emplace_back();
    else parts.back() += c;
  }
  return parts;
}

std::string value_or_environment(const Conninfo::Values& values, const char* key, const char* variable) {
  if (auto it = values.find(key); it != values.end()) return it->second;
  const char* text = std::getenv(variable);
  return text ? text : "";
}

/// Keywords that the reference's driver takes and libpq doesn't know, and that make no difference here: sessions of ours have times in UTC, and
/// tables are named in full.
bool means_nothing_here(std::string key) {
  for (auto& c : key) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return key == "timezone" || key == "search_path";
}

std::string without_meaningless_in_url(const std::string& url) {
  const auto query = url.find('?');
  if (query == url.npos) return url;
  std::string kept;
  for (std::size_t at = query + 1; at <= url.size();) {
    const auto end = std::min(url.find('&', at), url.size());
    const auto part = url.substr(at, end - at);
    if (!means_nothing_here(part.substr(0, part.find('=')))) kept += (kept.empty() ? "?" : "&") + part;
    at = end + 1;
  }
  return url.substr(0, query) + kept;
}

/// Source: PostgreSQL manual, 34.1.1.1 (keyword/value connection strings): blanks around '=', quotes and backslashes in a value
std::string without_meaningless(const std::string& dsn) {
  if (dsn.starts_with("postgresql://") || dsn.starts_with("postgres://")) return without_meaningless_in_url(dsn);
  const auto is_blank = [&](std::size_t at) { return at < dsn.size() && std::isspace(static_cast<unsigned char>(dsn[at])); };
  std::string kept;
  for (std::size_t at = 0; at < dsn.size();) {
    const auto begin = at;
    while (is_blank(at)) ++at;
    const auto key = at;
    while (at < dsn.size() && dsn[at] != '=' && !is_blank(at)) ++at;
    const auto name = dsn.substr(key, at - key);
    while (is_blank(at)) ++at;
    if (at < dsn.size() && dsn[at] == '=') ++at;
    while (is_blank(at)) ++at;
    const bool quoted = at < dsn.size() && dsn[at] == '\'';
    if (quoted) ++at;
    while (at < dsn.size() && (quoted ? dsn[at] != '\'' : !is_blank(at))) at += dsn[at] == '\\' ? 2 : 1;
    if (quoted) ++at;
    at = std::min(at, dsn.size());
    if (!means_nothing_here(name)) kept += dsn.substr(begin, at - begin);
  }
  return kept;
}

}  // namespace

bool Conninfo::Host::wants_resolving() const {
  if (!address.empty() || name.empty() || name.front() == '/' || name.front() == '@') return false;
  boost::system::error_code ec;
  boost::asio::ip::make_address(name, ec);
  return bool(ec);
}

core::Result<Conninfo> Conninfo::parse(const std::string& dsn) {
  // libpq's own words repeat what it could not read, which may be the password.
  const auto wrong = core::invalid_argument(
      "is no connection string of PostgreSQL: \"host=postgres port=5432 user=u password=p dbname=users sslmode=prefer\" or "
      "postgresql://u:p@postgres:5432/users");
  if (dsn.find('\0') != dsn.npos) return wrong;
  char* words = nullptr;
  std::unique_ptr<PQconninfoOption, void (*)(PQconninfoOption*)> options(PQconninfoParse(without_meaningless(dsn).c_str(), &words), PQconninfoFree);
  PQfreemem(words);
  if (!options) return wrong;
  Conninfo info;
  for (auto* option = options.get(); option->keyword; ++option)
    if (option->val && *option->val) info.values[option->keyword] = option->val;
  const auto names = split(value_or_environment(info.values, "host", "PGHOST"));
  const auto addresses = split(value_or_environment(info.values, "hostaddr", "PGHOSTADDR"));
  const auto ports = split(value_or_environment(info.values, "port", "PGPORT"));
  const auto count = std::max(names.size(), addresses.size());
  const auto fits_or_is_empty = [count](auto& list) { return list.size() == count || list == std::vector<std::string>{""}; };
  const bool fits = fits_or_is_empty(names) && fits_or_is_empty(addresses) && (ports.size() == count || ports.size() == 1);
  if (!fits) return core::invalid_argument("names several hosts, and not as many addresses or ports: give one port, or one for each host");
  for (std::size_t i = 0; i < count; ++i)
    info.hosts.push_back({names.size() == count ? names[i] : "", addresses.size() == count ? addresses[i] : "", ports[ports.size() == 1 ? 0 : i]});
  return info;
}

std::string Conninfo::where() const {
  std::string text;
  for (auto& host : hosts) {
    if (!text.empty()) text += ',';
    text += host.name.empty() ? (host.address.empty() ? "local socket" : host.address) : host.name;
    if (!host.port.empty()) text += ":" + host.port;
  }
  if (auto it = values.find("dbname"); it != values.end()) text += "/" + it->second;
  return text;
}

}  // namespace flexi::runtime::postgres
