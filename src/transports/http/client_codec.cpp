// SPDX-License-Identifier: Apache-2.0
#include "transports/http/client_codec.hpp"

#include <charconv>

#include "core/hops.hpp"
#include "core/timestamp.hpp"
#include "runtime/json.hpp"
#include "transports/http/response.hpp"
#include "transports/json_codec.hpp"

namespace flexi::transports::http {

namespace bhttp = boost::beast::http;
namespace actions = core::actions;

namespace {

void append_path(std::string& out, std::string_view action) {
  if (action == actions::kLog) {
    out += "/log";
  } else if (action == actions::kAuth) {
    out += "/authenticate";
  } else if (action == actions::kMail) {
    out += "/send";
  } else {
    static constexpr char kHex[] = "0123456789ABCDEF";
    out += "/actions/";
    for (unsigned char c : action) {
      if (std::isalnum(c) || c == '.' || c == '-' || c == '_' || c == '~') {
        out += static_cast<char>(c);
      } else {
        out += '%';
        out += kHex[c >> 4];
        out += kHex[c & 15];
      }
    }
  }
}

void header(std::string& out, std::string_view name, std::string_view value) { out.append(name).append(": ").append(value).append("\r\n"); }

std::string text_of(boost::beast::string_view value) { return {value.data(), value.size()}; }

void read_headers(const bhttp::response<bhttp::string_body>& message, core::Reply& reply) {
  reply.way = text_of(message["X-Flexi-Way"]);
  reply.duplicate = message["X-Flexi-Duplicate"] == "true";
  reply.token = text_of(message["X-Flexi-Token"]);
}

}  // namespace

void append_request(std::string& out, const PeerHeader& peer, const core::Request& request, const core::CallContext& context) {
  const auto body = payload_to_json(request.payload);
  out += "POST ";
  if (peer.foreign()) out += peer.target;
  else append_path(out, request.action);
  out += " HTTP/1.1\r\n";
  header(out, "Host", peer.host);
  header(out, "Content-Type", kJsonType);
  header(out, "Content-Length", std::to_string(body.size()));
  if (!request.id.empty()) header(out, "X-Flexi-Id", request.id.str());
  if (peer.foreign()) {
    header(out, "Accept", kJsonType);
    header(out, "X-Flexi-Action", request.action);
  }
  if (request.id_from_caller || (peer.foreign() && !request.id.empty())) header(out, "Idempotency-Key", request.id.str());
  if (request.ack) header(out, "X-Flexi-Ack", core::to_string(*request.ack));
  header(out, "X-Flexi-Timeout-Ms", std::to_string(context.remaining().count()));
  if (request.accepted_at != core::Timestamp{}) header(out, "X-Flexi-Accepted-At", core::to_rfc3339(request.accepted_at));
  if (!peer.foreign()) {
    if (request.via != core::Via::automatic) header(out, "X-Flexi-Via", core::to_string(request.via));
    if (!context.hops.empty() && core::may_be_hops(context.hops)) header(out, "X-Flexi-Hops", context.hops);
    if (!peer.process_key.empty()) header(out, "X-Flexi-Process-Key", peer.process_key);
    if (request.action == actions::kAuth && !context.client.empty()) header(out, "X-Flexi-Client", context.client);
  }
  if (context.trace.valid()) header(out, "traceparent", context.trace.to_traceparent());
  if (!peer.token.empty() && (core::is_administrative(request.action) || !context.caller.empty())) header(out, "Authorization", "Bearer " + peer.token);
  out += "\r\n";
  out += body;
}

namespace {

core::Error read_failure(const bhttp::response<bhttp::string_body>& message, const core::Result<Envelope>& envelope) {
  const auto status = static_cast<int>(message.result_int());
  core::Error error;
  const auto named = core::error_kind_from(text_of(message["X-Flexi-Error"]));
  error.kind = named.value_or(kind_of_status(status));
  error.message = envelope ? envelope.value().message : std::string();
  if (error.message.empty()) error.message = "the service answered " + std::to_string(status);
  // A server that closes with its 503 is the one that goes, not what it serves; a proxy's 502 to 504 carries no kind.
  error.answered = named ? *named != core::ErrorKind::unavailable || message.keep_alive() : status < 502 || status > 504;
  // What another program's failure left behind can't be known.
  error.sent = message["X-Flexi-Sent"] == "maybe" || (!named && status >= 500) ? core::Sent::maybe : core::Sent::no;
  const auto after = message[bhttp::field::retry_after];
  unsigned seconds = 0;
  if (std::from_chars(after.data(), after.data() + after.size(), seconds).ec == std::errc() && !after.empty()) error.retry_after = std::chrono::seconds(seconds);
  return error;
}

bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\r\n") == text.npos; }

}  // namespace

core::Result<core::Reply> read_foreign_reply(const bhttp::response<bhttp::string_body>& message) {
  const auto status = static_cast<int>(message.result_int());
  auto envelope = read_envelope(message.body());
  const bool ours = envelope && envelope.value().has_error;
  if (status < 200 || status >= 300) return read_failure(message, envelope);
  core::Reply reply;
  if (ours) {
    if (envelope.value().error) {
      // The service says so itself, whatever the status: it has seen the request.
      auto error = core::internal(envelope.value().message.empty() ? "the service answered an error" : envelope.value().message);
      error.sent = core::Sent::maybe;
      return error;
    }
    reply.message = std::move(envelope.value().message);
    reply.data = std::move(envelope.value().data);
    reply.next = std::move(envelope.value().next);
  } else if (!is_blank(message.body())) {
    if (!runtime::is_json(message.body())) {
      auto error = core::internal("the service's answer is not JSON", message.body().substr(0, 200));
      error.sent = core::Sent::maybe;
      return error;
    }
    reply.data = message.body();
  }
  if (reply.message.empty()) reply.message = "done";
  reply.duplicate = message["X-Flexi-Duplicate"] == "true";
  return reply;
}

core::Result<core::Reply> read_reply(const bhttp::response<bhttp::string_body>& message) {
  const auto status = static_cast<int>(message.result_int());
  auto envelope = read_envelope(message.body());
  if (status >= 200 && status < 300) {
    if (!envelope || envelope.value().error) return core::internal("the service's answer was not understood", message.body().substr(0, 200));
    core::Reply reply;
    reply.message = std::move(envelope.value().message);
    reply.data = std::move(envelope.value().data);
    reply.next = std::move(envelope.value().next);
    read_headers(message, reply);
    return reply;
  }
  return read_failure(message, envelope);
}

bool is_event_stream(const bhttp::response<bhttp::string_body>& message) {
  return message.result_int() == 200 && message[bhttp::field::content_type].starts_with("text/event-stream");
}

core::Reply read_stream_head(const bhttp::response<bhttp::string_body>& message) {
  core::Reply reply;
  reply.message = "ok";
  read_headers(message, reply);
  return reply;
}

}  // namespace flexi::transports::http
