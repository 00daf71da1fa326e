// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/exchange.hpp"

#include <boost/json.hpp>
#include <iostream>

#include "apps/cli/secret.hpp"

namespace flexi::apps::cli {

namespace json = boost::json;

std::string Envelope::message() const {
  auto* text = body.if_contains("message");
  return text && text->is_string() ? std::string(text->as_string()) : "HTTP status " + std::to_string(answer.status);
}

core::Result<std::vector<std::string>> authorization(const Target& target) {
  std::vector<std::string> headers;
  if (target.token_file.empty()) return headers;
  FLEXI_TRY(auto token, read_secret_file(target.token_file));
  headers.push_back("Authorization: Bearer " + token);
  return headers;
}

core::Result<Envelope> envelope_of(const std::string& url, HttpAnswer answer) {
  Envelope envelope{.answer = std::move(answer), .body = {}};
  boost::system::error_code ec;
  auto parsed = json::parse(envelope.answer.body, ec);
  if (ec || !parsed.is_object()) return core::internal(url + " answered no JSON: is this a FlexiConnect broker?");
  envelope.body = std::move(parsed.as_object());
  return envelope;
}

core::Result<Envelope> exchange(const Target& target, HttpCall request) {
  FLEXI_TRY(auto headers, authorization(target));
  request.headers.insert(request.headers.end(), headers.begin(), headers.end());
  request.url = target.url + request.url;
  FLEXI_TRY(auto answer, call(request));
  return envelope_of(request.url, std::move(answer));
}

int report(const core::Error& error) {
  std::cerr << "flexiconnect: " << error.message << "\n";
  return error.kind == core::ErrorKind::unavailable ? exit_unreachable : exit_refused;
}

int refused(const Envelope& envelope) {
  std::cerr << "flexiconnect: " << envelope.message() << " (" << envelope.answer.status << ")\n";
  return envelope.answer.status == 502 || envelope.answer.status == 503 || envelope.answer.status == 504 ? exit_unreachable : exit_refused;
}

std::string text(const json::object& object, const char* key) {
  auto* value = object.if_contains(key);
  if (!value || value->is_null()) return "";
  return value->is_string() ? std::string(value->as_string()) : json::serialize(*value);
}

std::string printable(std::string_view data) {
  std::string clean;
  for (unsigned char c : data) {
    if (c == '\n' || c == '\t' || c == '\r') clean += ' ';
    else if (c < 0x20 || c == 0x7f) clean += '?';
    else clean += static_cast<char>(c);
  }
  return clean;
}

std::string url_encode(std::string_view value) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string encoded;
  for (unsigned char c : value) {
    if (std::isalnum(c) || c == '-' || c == '_' || c == '.' || c == '~') encoded += static_cast<char>(c);
    else encoded.append({'%', kHex[c >> 4], kHex[c & 15]});
  }
  return encoded;
}

}  // namespace flexi::apps::cli
