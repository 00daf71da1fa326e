// SPDX-License-Identifier: Apache-2.0
#include "transports/amqp/options.hpp"

#include <amqp.h>

#include <cmath>

namespace flexi::transports::amqp {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kDay = std::chrono::hours(24);

void check(runtime::Problems& problems, const char* path, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value < least || value > most) problems.push_back({path, "must be " + std::to_string(least) + " to " + std::to_string(most)});
}
void check(runtime::Problems& problems, const char* path, milliseconds value, milliseconds least, milliseconds most) {
  if (value < least || value > most)
    problems.push_back({path, "must be " + std::to_string(least.count()) + "ms to " + std::to_string(most.count()) + "ms"});
}

}  // namespace

void AmqpOptions::describe(runtime::OptionVisitor& v) {
  v.field("url", url, "RabbitMQ 3.10 or later: amqp://user:password@host:port/vhost, over TLS amqps://; empty: the embedded queue",
          {.secret = runtime::OptionVisitor::Secret::yes, .also_env = "AMQP_URI"});
  v.field("tls_ca_file", tls_ca_file, "PEM file of the authorities that may sign RabbitMQ's certificate; empty: the system's");
  v.field("tls_certificate_file", tls_certificate_file, "PEM chain shown to RabbitMQ");
  v.field("tls_key_file", tls_key_file, "PEM key of that certificate");
  v.field("tls_verify", tls_verify, "Check RabbitMQ's certificate and its host name");
  v.field("prefix", prefix, "Stands before every exchange and queue name, for several systems in one virtual host");
  v.field("prefetch", prefetch, "Messages of one queue taken and not yet finished; with max_body_bytes it bounds the memory they take");
  v.field("concurrency", concurrency, "Messages of one queue handled at once; 1 keeps the queue's order");
  v.field("confirm_window", confirm_window, "Messages sent and not yet confirmed");
  v.field("max_waiting", max_waiting, "Publishes under way; one more is refused with 429");
  v.field("max_waiting_bytes", max_waiting_bytes, "Bytes of the same, likewise");
  v.field("max_body_bytes", max_body_bytes, "Larger messages are refused");
  v.field("max_waiters", max_waiters, "Callers that may wait for `stored`; one more is refused with 429");
  v.field("max_transient", max_transient, "Log-ins that may wait in RabbitMQ; one more is refused. Part of flexi.logins: another number puts it out of order until it is deleted");
  v.field("retry_steps", retry_steps, "Retry queues with growing delays for each queue; 0: nothing is tried again");
  v.field("retry_delay", retry_delay, "Pause before the second attempt");
  v.field("retry_factor", retry_factor, "Growth of the pause from step to step");
  v.field("max_attempts", max_attempts, "Failed attempts after which a message is dead-lettered; an outage, in which nobody takes it, does not count");
  v.field("delivery_limit", delivery_limit, "Deliveries without an answer (crashes) after which RabbitMQ dead-letters a message. Part of the queues: once they are there, another number "
          "puts every one of them out of order until it is migrated (docs/operations.md)");
  v.field("attempt_timeout", attempt_timeout, "What one attempt may take");
  v.field("max_wait", max_wait, "How long a caller without a deadline waits");
  v.field("request_timeout", request_timeout, "Of a request from flexi.requests that names no time-out");
  v.field("max_request_timeout", max_request_timeout, "Cap of the time-out that it names");
  v.field("heartbeat", heartbeat, "Twice this long without a byte and the connection is given up");
  v.field("connect_timeout", connect_timeout, "For one address to be reached");
  v.field("handshake_timeout", handshake_timeout, "For TLS and login");
  v.field("reconnect_delay", reconnect_delay, "First pause before connecting again");
  v.field("max_reconnect_delay", max_reconnect_delay, "Longest pause before connecting again");
  v.field("reconnect_patience", reconnect_patience, "How long publishes wait while the connection is made again");
  v.field("listener_patience", listener_patience, "How long `stored` waits for a listener to appear");
  v.field("recheck", recheck, "How often an exchange or queue with other arguments is looked at again");
  v.field("browse_messages", browse_messages, "Dead letters of one queue looked at for a list");
  v.field("browse_bytes", browse_bytes, "Bytes of the same");
}

runtime::Problems AmqpOptions::validate() const {
  runtime::Problems problems;
  if (!url.empty())
    if (auto parsed = parse_url(url); !parsed) problems.push_back({"url", parsed.error().message});
  if (tls_certificate_file.empty() != tls_key_file.empty()) problems.push_back({"tls_key_file", "goes together with tls_certificate_file"});
  if (prefix.size() > 100 || prefix.find_first_of("*# \t") != std::string::npos) problems.push_back({"prefix", "must be at most 100 characters without *, # and spaces"});
  check(problems, "prefetch", prefetch, 1, 10'000);
  check(problems, "concurrency", concurrency, 1, 10'000);
  check(problems, "confirm_window", confirm_window, 1, 65'535);
  check(problems, "max_waiting", max_waiting, 1, 10'000'000);
  check(problems, "max_waiting_bytes", max_waiting_bytes, 1 << 20, std::int64_t{1} << 40);
  check(problems, "max_body_bytes", max_body_bytes, 1024, 128 << 20);
  check(problems, "max_waiters", max_waiters, 0, 10'000'000);
  check(problems, "max_transient", max_transient, 1, 10'000'000);
  check(problems, "retry_steps", retry_steps, 0, 10);
  check(problems, "retry_delay", retry_delay, milliseconds(1), kDay);
  if (!(retry_factor >= 1 && retry_factor <= 100)) problems.push_back({"retry_factor", "must be 1 to 100"});
  check(problems, "max_attempts", max_attempts, 1, 1'000'000);
  check(problems, "delivery_limit", delivery_limit, 1, 1'000'000);
  check(problems, "attempt_timeout", attempt_timeout, milliseconds(1), kDay);
  check(problems, "max_wait", max_wait, milliseconds(1), kDay);
  check(problems, "request_timeout", request_timeout, milliseconds(1), kDay);
  check(problems, "max_request_timeout", max_request_timeout, milliseconds(1), kDay);
  check(problems, "heartbeat", heartbeat, milliseconds(1'000), milliseconds(600'000));
  check(problems, "connect_timeout", connect_timeout, milliseconds(20), milliseconds(60'000));
  check(problems, "handshake_timeout", handshake_timeout, milliseconds(100), milliseconds(60'000));
  check(problems, "reconnect_delay", reconnect_delay, milliseconds(1), milliseconds(60'000));
  check(problems, "max_reconnect_delay", max_reconnect_delay, reconnect_delay, kDay);
  check(problems, "reconnect_patience", reconnect_patience, milliseconds(0), milliseconds(60'000));
  check(problems, "listener_patience", listener_patience, milliseconds(0), milliseconds(60'000));
  check(problems, "recheck", recheck, milliseconds(100), kDay);
  check(problems, "browse_messages", browse_messages, 1, 1'000'000);
  check(problems, "browse_bytes", browse_bytes, 1 << 20, std::int64_t{1} << 40);
  if (concurrency > prefetch) problems.push_back({"concurrency", "must not exceed prefetch"});
  return problems;
}

milliseconds AmqpOptions::delay_of_step(std::int64_t step) const {
  const double grown = static_cast<double>(retry_delay.count()) * std::pow(retry_factor, static_cast<double>(step));
  return milliseconds(static_cast<std::int64_t>(std::min(grown, static_cast<double>(kDay.count()))));
}

std::string Endpoint::authority() const { return (host.find(':') != std::string::npos ? "[" + host + "]" : host) + ":" + std::to_string(port); }

std::string Endpoint::str() const {
  std::string text = (tls ? "amqps://" : "amqp://") + authority() + "/";
  static constexpr char kHex[] = "0123456789ABCDEF";
  if (vhost == "/") return text;
  for (unsigned char c : vhost) {
    if (std::isalnum(c) || c == '-' || c == '_' || c == '.' || c == '~') text += static_cast<char>(c);
    else text.append(1, '%').append(1, kHex[c >> 4]).append(1, kHex[c & 15]);
  }
  return text;
}

core::Result<Endpoint> parse_url(std::string_view url) {
  const auto wrong = core::invalid_argument("RabbitMQ's address must be amqp://user:password@host:port/vhost, or amqps:// for TLS");
  std::string copy(url);
  // One slash and nothing behind it is the virtual host "": what everybody means is the default one.
  const auto begin = copy.find("://");
  if (begin == copy.npos || copy.find('\0') != copy.npos) return wrong;
  const bool login = copy.substr(begin + 3, copy.find('/', begin + 3) - begin - 3).find('@') != copy.npos;
  if (copy.ends_with('/') && copy.size() > begin + 3) copy.pop_back();
  amqp_connection_info info{};
  if (amqp_parse_url(copy.data(), &info) != AMQP_STATUS_OK) return wrong;
  Endpoint endpoint;
  endpoint.host = info.host;
  endpoint.tls = info.ssl != 0;
  endpoint.user = info.user;
  endpoint.password = info.password;
  endpoint.vhost = info.vhost;
  endpoint.has_login = login;
  if (info.port < 1 || info.port > 65'535 || endpoint.host.empty()) return wrong;
  endpoint.port = static_cast<std::uint16_t>(info.port);
  for (unsigned char c : endpoint.host)
    if (c <= 0x20 || c >= 0x7f || c == '/' || c == '?' || c == '#') return wrong;
  return endpoint;
}

}  // namespace flexi::transports::amqp
