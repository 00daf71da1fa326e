// SPDX-License-Identifier: Apache-2.0
#include "transports/json_codec.hpp"

#include <simdjson.h>

#include "runtime/base64.hpp"
#include "runtime/json.hpp"

namespace flexi::transports {

namespace dom = simdjson::dom;

namespace {

/// One parser and one padded copy per thread. The DOM reader, not the on-demand one: on-demand never looks at the
/// fields it skips, so it would take bodies that are not JSON.
struct Parser {
  dom::parser parser;
  std::string padded;
};
constexpr std::size_t kKeepBytes = 64 * 1024;  // a rare large body doesn't stay in memory

core::Result<dom::element> parse(std::string_view json) {
  thread_local Parser state;
  if (state.padded.capacity() > kKeepBytes && json.size() + simdjson::SIMDJSON_PADDING <= kKeepBytes) state = Parser();
  state.padded.assign(json);
  state.padded.append(simdjson::SIMDJSON_PADDING, '\0');
  dom::element root;
  switch (state.parser.parse(state.padded.data(), json.size(), false).get(root)) {
    case simdjson::SUCCESS: return root;
    case simdjson::EMPTY: return core::invalid_argument("the body is empty; it must be one JSON object");
    case simdjson::UTF8_ERROR: return core::invalid_argument("the body must be valid UTF-8");
    case simdjson::DEPTH_ERROR: return core::invalid_argument("the body is nested too deeply");
    default: return core::invalid_argument("the body must be one valid JSON object, with nothing after it");
  }
}

core::Result<dom::object> parse_object(std::string_view json) {
  FLEXI_TRY(auto root, parse(json));
  dom::object object;
  if (root.get(object)) return core::invalid_argument("the body must be a JSON object");
  return object;
}

/// One text field that is looked for.
struct TextField {
  std::string_view name;
  std::string* value;
  bool required = true;
  bool found = false;
};

/// @param prefix stands before a field's name in messages: "log." for {"log":{"name":…}}
core::Result<void> read_texts(dom::object object, std::string_view prefix, std::span<TextField> fields) {
  const auto wrong = [&](const TextField& field, std::string_view what) {
    return core::invalid_argument(std::string(prefix).append(field.name).append(what));
  };
  for (auto [key, element] : object) {
    for (auto& field : fields) {
      if (field.name != key) continue;
      if (element.is_null()) break;
      std::string_view text;
      if (element.get(text)) return wrong(field, " must be a string");
      if (text.find('\0') != text.npos) return wrong(field, " must not hold a NUL character");
      field.value->assign(text);
      field.found = true;
      break;
    }
  }
  for (auto& field : fields)
    if (field.required && !field.found) return wrong(field, " is required and must be a string");
  return core::ok();
}

core::Error wrong_field(std::string_view prefix, std::string_view name, std::string_view what) {
  return core::invalid_argument(std::string(prefix).append(name).append(what));
}

/// One text with addresses, or an array of them, which becomes one text with commas between.
core::Result<std::string> read_addresses(dom::element element, std::string_view prefix, std::string_view name) {
  dom::array array;
  std::string_view text;
  if (element.get(array)) {
    if (element.get(text)) return wrong_field(prefix, name, " must be a string or an array of strings");
    return std::string(text);
  }
  std::string joined;
  for (auto one : array) {
    if (one.get(text)) return wrong_field(prefix, name, " must be a string or an array of strings");
    joined.append(joined.empty() ? "" : ", ").append(text);
  }
  return joined;
}

core::Result<core::Attachment> read_attachment(dom::element element, const std::string& prefix) {
  dom::object object;
  if (element.get(object)) return core::invalid_argument(prefix + " must be an object with name, content_type and content");
  core::Attachment attachment;
  std::string content;
  TextField fields[] = {{"name", &attachment.name}, {"content_type", &attachment.content_type, false}, {"content", &content}};
  FLEXI_TRY(read_texts(object, prefix + ".", fields));
  auto bytes = runtime::base64_decode(content);
  if (!bytes) return core::invalid_argument(prefix + ".content must be base64, padded and without line breaks");
  attachment.content = std::move(*bytes);
  return attachment;
}

core::Result<void> read_attachments(dom::element element, std::string_view prefix, std::vector<core::Attachment>& out) {
  dom::array array;
  if (element.get(array)) return wrong_field(prefix, "attachments", " must be an array of objects with name, content_type and content");
  for (auto one : array) {
    FLEXI_TRY(auto attachment, read_attachment(one, std::string(prefix) + "attachments[" + std::to_string(out.size()) + "]"));
    out.push_back(std::move(attachment));
  }
  return core::ok();
}

/// What the contract does not have.
core::Result<void> read_mail_extras(dom::object object, std::string_view prefix, core::Mail& mail) {
  for (auto [key, element] : object) {
    if (element.is_null()) continue;
    if (key == "attachments") {
      FLEXI_TRY(read_attachments(element, prefix, mail.attachments));
      continue;
    }
    if (key == "data") {
      if (!element.is_object()) return wrong_field(prefix, key, " must be an object with the template's values");
      mail.data = simdjson::minify(element);
      continue;
    }
    for (auto& extra : core::kMailExtras) {
      if (extra.name != key) continue;
      if (key == "template" || key == "reply_to") {
        std::string_view text;
        if (element.get(text)) return wrong_field(prefix, key, " must be a string");
        mail.*extra.text = text;
      } else {
        FLEXI_TRY(mail.*extra.text, read_addresses(element, prefix, key));
      }
      if ((mail.*extra.text).find('\0') != std::string::npos) return wrong_field(prefix, key, " must not hold a NUL character");
    }
  }
  return core::ok();
}

core::Result<core::Payload> read_mail_payload(dom::object object, std::string_view prefix) {
  core::Mail mail;
  FLEXI_TRY(read_mail_extras(object, prefix, mail));
  dom::array several;
  const bool several_to = !object["to"].get(several);
  if (several_to) {
    FLEXI_TRY(mail.to, read_addresses(object["to"], prefix, "to"));
    if (mail.to.find('\0') != std::string::npos) return wrong_field(prefix, "to", " must not hold a NUL character");
  }
  TextField fields[] = {{"from", &mail.from, false}, {"subject", &mail.subject}, {"message", &mail.message, mail.template_name.empty()}, {"to", &mail.to}};
  FLEXI_TRY(read_texts(object, prefix, std::span(fields).first(several_to ? 3 : 4)));
  return core::Payload(std::move(mail));
}

core::Result<core::Payload> read_payload(std::string_view action, dom::object object, std::string_view prefix) {
  if (action == core::actions::kLog) {
    core::LogEntry entry;
    TextField fields[] = {{"name", &entry.name}, {"data", &entry.data}};
    FLEXI_TRY(read_texts(object, prefix, fields));
    return core::Payload(std::move(entry));
  }
  if (action == core::actions::kAuth) {
    core::Credentials credentials;
    TextField fields[] = {{"email", &credentials.email}, {"password", &credentials.password}};
    FLEXI_TRY(read_texts(object, prefix, fields));
    return core::Payload(std::move(credentials));
  }
  return read_mail_payload(object, prefix);
}

bool is_contract_action(std::string_view action) {
  return action == core::actions::kLog || action == core::actions::kAuth || action == core::actions::kMail;
}

/// Reads "action", "via", "ack" and "id", where they are.
core::Result<void> read_routing(dom::object object, HandleBody& body) {
  std::string via, ack, id;
  TextField fields[] = {{"action", &body.request.action, false}, {"via", &via, false}, {"ack", &ack, false}, {"id", &id, false}};
  FLEXI_TRY(read_texts(object, "", fields));
  if (fields[1].found) {
    auto known = core::via_from(via);
    if (!known) return core::invalid_argument("via must be one of auto, inproc, http, rpc, grpc, amqp");
    body.request.via = *known;
    body.has_via = true;
  }
  if (fields[2].found) {
    body.request.ack = core::ack_from(ack);
    if (!body.request.ack) return core::invalid_argument("ack must be accepted or stored");
  }
  if (fields[3].found) body.id = std::move(id);
  return core::ok();
}

core::Result<void> read_action_payload(dom::object object, HandleBody& body) {
  const std::string& action = body.request.action;
  dom::element payload;
  bool found = false;
  for (auto [key, element] : object)
    if (key == action && !element.is_null()) payload = element, found = true;
  if (!is_contract_action(action)) {
    body.request.payload = core::Json{found ? std::string(simdjson::minify(payload)) : "{}"};
    return core::ok();
  }
  if (!found) return core::invalid_argument(action + " is required: an object with the action's payload");
  dom::object fields;
  if (payload.get(fields)) return core::invalid_argument(action + " must be an object");
  FLEXI_TRY(body.request.payload, read_payload(action, fields, action + "."));
  return core::ok();
}

void append_field(std::string& out, std::string_view name, std::string_view text) {
  out += out.size() > 1 ? ",\"" : "\"";
  out.append(name).append("\":");
  runtime::append_json_string(out, text);
}

void append_mail(std::string& out, const core::Mail& mail) {
  append_field(out, "from", mail.from);
  append_field(out, "to", mail.to);
  append_field(out, "subject", mail.subject);
  append_field(out, "message", mail.message);
  for (auto& [name, text] : core::kMailExtras) {
    if ((mail.*text).empty()) continue;
    if (name == "data") out.append(",\"data\":").append(mail.data);
    else append_field(out, name, mail.*text);
  }
  if (mail.attachments.empty()) return;
  out += ",\"attachments\":[";
  for (auto& attachment : mail.attachments) {
    std::string one = "{";
    append_field(one, "name", attachment.name);
    if (!attachment.content_type.empty()) append_field(one, "content_type", attachment.content_type);
    one += ",\"content\":\"";
    runtime::append_base64(one, attachment.content);
    out.append(&attachment == &mail.attachments.front() ? "" : ",").append(one).append("\"}");
  }
  out += ']';
}

}  // namespace

core::Result<core::Credentials> read_credentials(std::string_view json) {
  FLEXI_TRY(auto object, parse_object(json));
  FLEXI_TRY(auto payload, read_payload(core::actions::kAuth, object, ""));
  return std::get<core::Credentials>(std::move(payload));
}

core::Result<core::LogEntry> read_log_entry(std::string_view json) {
  FLEXI_TRY(auto object, parse_object(json));
  FLEXI_TRY(auto payload, read_payload(core::actions::kLog, object, ""));
  return std::get<core::LogEntry>(std::move(payload));
}

core::Result<core::Mail> read_mail(std::string_view json) {
  FLEXI_TRY(auto object, parse_object(json));
  FLEXI_TRY(auto payload, read_payload(core::actions::kMail, object, ""));
  return std::get<core::Mail>(std::move(payload));
}

core::Result<std::string> template_data(std::string_view json) {
  if (json.empty()) return std::string();
  auto object = parse_object(json);
  if (!object) return wrong_field("", "data", " must be a JSON object with the template's values");
  return std::string(simdjson::minify(object.value()));
}

core::Result<core::Payload> payload_from_json(std::string_view action, std::string_view json) {
  if (is_contract_action(action)) {
    FLEXI_TRY(auto object, parse_object(json));
    return read_payload(action, object, "");
  }
  if (json.empty()) return core::Payload(core::Json{});
  FLEXI_TRY(parse(json));
  return core::Payload(core::Json{std::string(json)});
}

std::string payload_to_json(const core::Payload& payload) {
  if (auto* json = std::get_if<core::Json>(&payload)) return json->text;
  std::string out = "{";
  if (auto* entry = std::get_if<core::LogEntry>(&payload)) {
    out.reserve(entry->name.size() + entry->data.size() + 32);
    append_field(out, "name", entry->name);
    append_field(out, "data", entry->data);
  } else if (auto* credentials = std::get_if<core::Credentials>(&payload)) {
    append_field(out, "email", credentials->email);
    append_field(out, "password", credentials->password);
  } else {
    append_mail(out, std::get<core::Mail>(payload));
  }
  return out += '}';
}

core::Result<void> check_utf8(const core::Payload& payload) {
  std::string_view wrong;
  const auto check = [&](std::string_view name, const std::string& text) {
    if (!simdjson::validate_utf8(text)) wrong = name;
  };
  if (auto* entry = std::get_if<core::LogEntry>(&payload)) {
    check("name", entry->name), check("data", entry->data);
  } else if (auto* credentials = std::get_if<core::Credentials>(&payload)) {
    check("email", credentials->email), check("password", credentials->password);
  } else if (auto* mail = std::get_if<core::Mail>(&payload)) {
    check("from", mail->from), check("to", mail->to), check("subject", mail->subject), check("message", mail->message);
    for (auto& [name, text] : core::kMailExtras) check(name, mail->*text);
    for (auto& attachment : mail->attachments) check("attachments: name", attachment.name), check("attachments: content_type", attachment.content_type);
  } else {
    check("the payload", std::get<core::Json>(payload).text);
  }
  if (!wrong.empty()) return core::invalid_argument(std::string(wrong) + " must be valid UTF-8");
  return core::ok();
}

core::Result<HandleBody> read_handle_body(std::string_view json) {
  FLEXI_TRY(auto object, parse_object(json));
  HandleBody body;
  FLEXI_TRY(read_routing(object, body));
  if (body.request.action.empty()) return core::invalid_argument("action is required: auth, log, mail or another that is configured");
  FLEXI_TRY(read_action_payload(object, body));
  return body;
}

core::Result<HandleBody> read_log_body(std::string_view json) {
  FLEXI_TRY(auto object, parse_object(json));
  HandleBody body;
  FLEXI_TRY(read_routing(object, body));
  if (body.request.action.empty()) {
    body.request.action = core::actions::kLog;
    FLEXI_TRY(body.request.payload, read_payload(core::actions::kLog, object, ""));
    return body;
  }
  if (body.request.action != core::actions::kLog) return core::invalid_argument("action must be log here");
  FLEXI_TRY(read_action_payload(object, body));
  return body;
}

core::Result<Envelope> read_envelope(std::string_view json) {
  FLEXI_TRY(auto object, parse_object(json));
  Envelope envelope;
  for (auto [key, element] : object) {
    std::string_view text;
    if (key == "error") {
      if (element.get(envelope.error)) return core::invalid_argument("error must be true or false");
      envelope.has_error = true;
    } else if (key == "data") {
      if (!element.is_null()) envelope.data = simdjson::minify(element);
    } else if (key == "message" && !element.get(text)) {
      envelope.message = text;
    } else if (key == "next" && !element.get(text)) {
      envelope.next = text;
    }
  }
  return envelope;
}

void append_envelope(std::string& out, bool error, std::string_view message, std::string_view data, std::string_view next) {
  out += error ? "{\"error\":true,\"message\":" : "{\"error\":false,\"message\":";
  runtime::append_json_string(out, message);
  if (!data.empty()) out.append(",\"data\":").append(data);
  if (!next.empty()) {
    out += ",\"next\":";
    runtime::append_json_string(out, next);
  }
  out += '}';
}

}  // namespace flexi::transports
