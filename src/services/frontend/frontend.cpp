// SPDX-License-Identifier: Apache-2.0
#include "services/frontend/frontend.hpp"

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <cstdio>
#include <string_view>

#include "embedded_files.hpp"

namespace flexi::services::frontend {
namespace {

constexpr std::string_view kBrokerPlaceholder = R"(<meta name="broker-url" content="">)";

/// "https://broker.example:8080" of "https://broker.example:8080/path".
std::string_view origin_of(std::string_view url) {
  auto host = url.find("://");
  if (host == url.npos) return {};
  return url.substr(0, url.find('/', host + 3));
}

/// Scripts come from this server only, and nothing may frame the page. Styles allow inline ones for one reason: a mail
/// is shown in a sandboxed srcdoc frame, which inherits this policy (as a blob: or data: frame would), and a mail's CSS
/// is inline. The page itself has no inline style and writes text, never markup.
/// Source: https://www.w3.org/TR/CSP3/ section 7.8
std::string page_policy(std::string_view broker_url) {
  std::string policy =
      "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
      "frame-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; connect-src 'self'";
  if (!broker_url.empty()) policy.append(" ").append(origin_of(broker_url));
  return policy;
}

std::vector<std::pair<std::string, std::string>> security_headers(std::string policy) {
  return {{"Content-Security-Policy", std::move(policy)},
          {"X-Content-Type-Options", "nosniff"},
          {"X-Frame-Options", "DENY"},
          {"Referrer-Policy", "no-referrer"},
          {"Cross-Origin-Resource-Policy", "same-origin"},
          {"Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"}};
}

/// FNV-1a: tells versions of the page apart, promises nothing against an attacker.
std::string fingerprint(std::string_view text) {
  std::uint64_t hash = 14695981039346656037u;
  for (unsigned char byte : text) hash = (hash ^ byte) * 1099511628211u;
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(hash));
  return digits;
}

void set_broker_url(StaticFile& page, const std::string& broker_url) {
  auto at = page.body.find(kBrokerPlaceholder);
  if (at == std::string::npos) return;
  page.body.replace(at, kBrokerPlaceholder.size(), R"(<meta name="broker-url" content=")" + broker_url + R"(">)");
  page.gzip.clear();
  page.etag = "W/\"" + fingerprint(page.body) + '"';
}

}  // namespace

void FrontEndOptions::describe(runtime::OptionVisitor& visitor) {
  visitor.field("broker_url", broker_url, "Where the browser finds the broker, e.g. http://localhost:8080; empty: where the page came from",
                {.also_env = "BROKER_URL"});
}

runtime::Problems FrontEndOptions::validate() const {
  if (broker_url.empty()) return {};
  // The value goes into an HTML attribute and a header, so only characters that mean nothing there are let in.
  auto harmless = [](unsigned char c) { return std::isalnum(c) || std::string_view("-._~:/[]%").find(static_cast<char>(c)) != std::string_view::npos; };
  bool scheme = broker_url.starts_with("http://") || broker_url.starts_with("https://");
  if (scheme && origin_of(broker_url).size() > broker_url.find("://") + 3 && std::ranges::all_of(broker_url, harmless)) return {};
  return {{"broker_url", "must be an address such as http://localhost:8080 or https://broker.example.com/api, without query or fragment"}};
}

std::vector<StaticFile> static_files(const FrontEndOptions& options) {
  std::vector<StaticFile> files;
  for (const auto& embedded : embedded_files()) {
    bool page = embedded.path == "/";
    StaticFile file{.path = std::string(embedded.path),
                    .content_type = std::string(embedded.content_type),
                    .body = std::string(embedded.body),
                    .gzip = std::string(embedded.gzip),
                    .etag = "W/\"" + std::string(embedded.hash) + '"',
                    .cache_control = "no-cache",
                    .headers = security_headers(page ? page_policy(options.broker_url) : "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")};
    if (page && !options.broker_url.empty()) set_broker_url(file, options.broker_url);
    files.push_back(std::move(file));
  }
  return files;
}

}  // namespace flexi::services::frontend
