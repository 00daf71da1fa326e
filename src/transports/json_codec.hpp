// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/request.hpp"
#include "core/result.hpp"

// Payloads and envelopes as JSON: shared by the transports whose bodies are JSON (http, amqp, the embedded queue).
//
// All readers: a body is exactly one JSON value in valid UTF-8. Anything else is invalid_argument that names the field
// and what would be right: not JSON, a second value, a missing or wrongly typed field, a NUL character in a text.
// Unknown fields are ignored; null is absent. Any thread.

namespace flexi::transports {

core::Result<core::Credentials> read_credentials(std::string_view json);  ///< {"email","password"}
core::Result<core::LogEntry> read_log_entry(std::string_view json);       ///< {"name","data"}
/// {"from"?,"to","subject","message","cc"?,"bcc"?,"reply_to"?,"template"?,"data"?,"attachments"?:[{"name","content_type"?,"content"}]}: to, cc
/// and bcc a text or an array of them, content base64, message optional with a template.
core::Result<core::Mail> read_mail(std::string_view json);

/// Mail::data of a transport that has it as a text: always the same text for the same value, or it would be another mail by
/// another transport.
/// @return invalid_argument unless it is empty or one JSON object
core::Result<std::string> template_data(std::string_view json);

/// The payload of `action`: "auth", "log" and "mail" are typed, any other is core::Json that keeps `json` as it is.
/// @param json for other actions one JSON value; empty is "{}"
core::Result<core::Payload> payload_from_json(std::string_view action, std::string_view json);
/// What payload_from_json reads back, fields in the contract's order. Credentials are written in full: mind where it goes.
std::string payload_to_json(const core::Payload& payload);

/// JSON is UTF-8: what is not can't be sent as it is, and must not be sent as something else.
/// @return invalid_argument that names the field
core::Result<void> check_utf8(const core::Payload& payload);

/// A broker's request as it stands in a body. The id is the caller's key, not scoped yet (MessageId::from_key).
struct HandleBody {
  core::Request request;              ///< action, payload, via and ack; neither id nor accepted_at
  bool has_via = false;               ///< "via" was given
  std::optional<std::string> id{};    ///< "id", an idempotency key
};

/// `POST /handle`: {"action","via"?,"ack"?,"id"?,"<action>":{…}}.
/// An action of the contract must have its payload object; another's may be missing ("{}").
core::Result<HandleBody> read_handle_body(std::string_view json);
/// `POST /log-gRPC`: as read_handle_body where "action" is "log", else the log entry itself beside "via", "ack", "id".
core::Result<HandleBody> read_log_body(std::string_view json);

/// The contract's answer {"error","message","data"?,"next"?}.
struct Envelope {
  bool error = false;
  bool has_error = false;  ///< the field is there: it is an envelope, not just an object
  std::string message;
  std::string data;  ///< JSON text; empty: none
  std::string next;
};
core::Result<Envelope> read_envelope(std::string_view json);
/// @param data JSON text; empty: left out, as is `next`
void append_envelope(std::string& out, bool error, std::string_view message, std::string_view data, std::string_view next);

}  // namespace flexi::transports
