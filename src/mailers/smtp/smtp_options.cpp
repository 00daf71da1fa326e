// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "mailers/smtp/smtp_mailer.hpp"

namespace flexi::mailers::smtp {

namespace {

/// Host names and addresses; nothing that could change what the URL around it means.
bool is_host(const std::string& text) {
  return text.size() <= 253 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.' || c == ':' || c == '_';
  });
}

bool has_control(const std::string& text) {
  return std::any_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; });
}

}  // namespace

void SmtpOptions::describe(runtime::OptionVisitor& v) {
  using Visitor = runtime::OptionVisitor;
  v.field("host", host, "SMTP server; empty: none", Visitor::Extra{.also_env = "MAIL_HOST"});
  v.field("port", port, "Its port: 25, 465 (ssl), 587 (submission), 1025 (a mail catcher)", Visitor::Extra{.also_env = "MAIL_PORT"});
  v.field("username", username, "Login; empty: none", Visitor::Extra{.also_env = "MAIL_USERNAME"});
  v.field("password", password, "Password of the login", Visitor::Extra{.secret = Visitor::Secret::yes, .also_env = "MAIL_PASSWORD"});
  v.field("encryption", encryption, "none, ssl (TLS from the start) or tls (STARTTLS)", Visitor::Extra{.also_env = "MAIL_ENCRYPTION"});
  v.field("ca_file", ca_file, "PEM file of the certificates to trust; empty: the system's");
  v.field("helo_name", helo_name, "Name by which this host introduces itself");
  v.field("connect_timeout", connect_timeout, "Time to connect, with DNS and TLS");
  v.field("timeout", timeout, "Time for one whole mail");
  v.field("deferred_retry", deferred_retry, "When a mail that the server refuses for now (4xx) is tried again, at the earliest");
  v.field("connections", connections, "Mails sent at once");
  v.field("queue_limit", queue_limit, "Mails that may wait for a connection");
}

runtime::Problems SmtpOptions::validate() const {
  runtime::Problems problems;
  if (!is_host(host)) problems.push_back({"host", "must be a host name or an address"});
  if (port < 1 || port > 65535) problems.push_back({"port", "must be 1 to 65535"});
  // An empty setting means none, as the contract has it.
  if (!encryption.empty() && encryption != "none" && encryption != "ssl" && encryption != "tls")
    problems.push_back({"encryption", "must be none, ssl or tls"});
  if (username.empty() && !password.empty()) problems.push_back({"username", "must be set where password is"});
  if (has_control(username)) problems.push_back({"username", "must not hold control characters"});
  if (has_control(password)) problems.push_back({"password", "must not hold control characters"});
  if (helo_name.empty() || !is_host(helo_name)) problems.push_back({"helo_name", "must be a host name"});
  if (connect_timeout < std::chrono::milliseconds(10)) problems.push_back({"connect_timeout", "must be at least 10ms"});
  if (timeout < std::chrono::milliseconds(10)) problems.push_back({"timeout", "must be at least 10ms"});
  if (deferred_retry < std::chrono::milliseconds(1) || deferred_retry > std::chrono::hours(24))
    problems.push_back({"deferred_retry", "must be 1ms to 24h"});
  if (connections < 1 || connections > 64) problems.push_back({"connections", "must be 1 to 64"});
  if (queue_limit < 1 || queue_limit > 100'000) problems.push_back({"queue_limit", "must be 1 to 100000"});
  return problems;
}

}  // namespace flexi::mailers::smtp
