// SPDX-License-Identifier: Apache-2.0
#include "transports/http/head.hpp"

#include <boost/beast/core/string.hpp>
#include <boost/beast/http/fields.hpp>
#include <cstring>

namespace flexi::transports::http {

namespace beast = boost::beast;
namespace bhttp = boost::beast::http;

namespace {

std::string_view sv(beast::string_view text) { return {text.data(), text.size()}; }

/// The headers whose value is wanted. Given twice with two values, one of two readers would pick the wrong one.
struct Wanted {
  std::string_view name;  ///< compared without case
  std::string_view Head::*value;
};
constexpr Wanted kWanted[] = {{"Content-Type", &Head::content_type},     {"Origin", &Head::origin},
                              {"Authorization", &Head::authorization},   {"If-None-Match", &Head::if_none_match},
                              {"Accept-Encoding", &Head::accept_encoding}, {"Sec-Fetch-Site", &Head::fetch_site},
                              {"Sec-Fetch-Mode", &Head::fetch_mode},     {"Idempotency-Key", &Head::idempotency_key},
                              {"traceparent", &Head::traceparent},       {"X-Flexi-Via", &Head::via},
                              {"X-Flexi-Ack", &Head::ack},               {"X-Flexi-Timeout-Ms", &Head::timeout_ms},
                              {"X-Flexi-Accepted-At", &Head::accepted_at}, {"X-Flexi-Hops", &Head::hops}, {"X-Flexi-Id", &Head::flexi_id},
                              {"X-Flexi-Process-Key", &Head::process_key}, {"X-Flexi-Client", &Head::client},
                              {"Access-Control-Request-Method", &Head::preflight_method}};

/// What proxies add. One that adds none of them can't be told from a client.
bool is_of_a_proxy(std::string_view name) {
  constexpr std::string_view kPrefix = "X-Forwarded-";
  return beast::iequals(name, "Forwarded") || beast::iequals(name, "Via") || beast::iequals(name, "X-Real-IP") ||
         beast::iequals(name.substr(0, kPrefix.size()), kPrefix);
}

/// Source: RFC 9112 section 3.2. Origin form, "*" for OPTIONS, and the absolute form that every server must take.
bool split_target(std::string_view target, Head& head) {
  if (target == "*" && head.method == Method::options) return head.path = target, true;
  for (std::string_view scheme : {"http://", "https://"})
    if (target.size() > scheme.size() && beast::iequals(target.substr(0, scheme.size()), scheme)) {
      target.remove_prefix(scheme.size());
      const auto slash = std::min(target.find_first_of("/?"), target.size());
      head.host = target.substr(0, slash);  // goes before the Host header. Source: RFC 9112 section 3.2.2
      target.remove_prefix(slash);
      if (target.empty()) target = "/";
      break;
    }
  if (!target.starts_with('/')) return false;
  target = target.substr(0, std::min(target.find('#'), target.size()));
  const auto question = std::min(target.find('?'), target.size());
  head.path = target.substr(0, question);
  head.query = target.substr(std::min(question + 1, target.size()));
  return true;
}

bool read_host(std::string_view value) {
  for (unsigned char c : value)
    if (c <= 0x20 || c >= 0x7f || std::strchr("/?#@\\\"<>,", c)) return false;
  return true;
}

}  // namespace

HeaderScanner::Found HeaderScanner::scan(std::string_view buffer) {
  const auto malformed = [&](std::string_view problem) {
    problem_ = problem;
    return Found::malformed;
  };
  for (;;) {
    const void* at = buffer.size() > seen_ ? std::memchr(buffer.data() + seen_, '\n', buffer.size() - seen_) : nullptr;
    if (!at) {
      seen_ = buffer.size();
      return Found::nothing;
    }
    const auto end = static_cast<std::size_t>(static_cast<const char*>(at) - buffer.data());
    if (end == line_ || buffer[end - 1] != '\r') return malformed("a header line must end with CR LF");
    if (line_ != 0 && (buffer[line_] == ' ' || buffer[line_] == '\t')) return malformed("a header line must not begin with a space (folded header)");
    if (std::memchr(buffer.data() + line_, '\r', end - 1 - line_)) return malformed("a header line must not hold a CR");
    const bool empty = end == line_ + 1;
    seen_ = line_ = end + 1;
    if (empty) return Found::end;
  }
}

int read_head(const bhttp::request<bhttp::string_body>& message, Head& head, std::string_view& problem) {
  const auto refuse = [&](std::string_view why, int status = 400) {
    problem = why;
    return status;
  };
  head = Head{};
  head.method = method_from(sv(message.method_string()));
  head.http_1_0 = message.version() < 11;
  head.keep_alive = message.keep_alive();
  if (!split_target(sv(message.target()), head)) return refuse("the request target must begin with /");
  unsigned hosts = 0, encodings = 0;
  std::string_view host_header;
  for (auto& field : message) {
    const auto value = sv(field.value());
    switch (field.name()) {
      case bhttp::field::host:
        if (++hosts > 1) return refuse("a request has one Host header, not two");
        if (!read_host(value)) return refuse("Host must be a name or address, with or without a port");
        host_header = value;
        continue;
      case bhttp::field::transfer_encoding:
        if (++encodings > 1 || head.http_1_0 || !beast::iequals(field.value(), "chunked")) return refuse("Transfer-Encoding must be chunked, once, in HTTP/1.1");
        continue;
      case bhttp::field::content_length:
        if (encodings != 0) return refuse("a request has either Content-Length or Transfer-Encoding");
        continue;
      case bhttp::field::expect:
        if (!beast::iequals(field.value(), "100-continue")) return refuse("Expect may be 100-continue only", 417);
        head.expects_continue = !head.http_1_0;
        continue;
      default: break;
    }
    const auto name = sv(field.name_string());
    if (is_of_a_proxy(name)) head.forwarded = true;
    if (beast::iequals(name, "X-Forwarded-For")) head.forwarded_for = value;
    for (auto& wanted : kWanted) {
      if (wanted.name.size() != name.size() || !beast::iequals(wanted.name, name)) continue;
      auto& slot = head.*wanted.value;
      if (slot.data() && slot != value && wanted.value != &Head::accept_encoding && wanted.value != &Head::if_none_match) {
        return refuse("a header that may stand once was given twice with two values");
      }
      slot = value;
      break;
    }
  }
  if (hosts == 0 && !head.http_1_0) return refuse("HTTP/1.1 wants a Host header");
  if (head.host.empty()) head.host = host_header;
  return 0;
}

}  // namespace flexi::transports::http
