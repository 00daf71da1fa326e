// SPDX-License-Identifier: Apache-2.0
#include "transports/grpc/codec.hpp"

#include <google/protobuf/stubs/logging.h>

#include <mutex>

#include "runtime/json.hpp"
#include "transports/grpc/account.hpp"
#include "transports/json_codec.hpp"

namespace flexi::transports::grpc {

namespace actions = core::actions;

namespace {

/// One that is kept: its strings keep their memory.
template <class Message>
Message& reused() {
  thread_local Message message;
  message.Clear();
  return message;
}

core::Result<void> check_text(std::string_view prefix, std::string_view name, const std::string& text) {
  if (text.find('\0') == text.npos) return core::ok();
  return core::invalid_argument(std::string(prefix).append(name).append(" must not hold a NUL character"));
}

core::Result<core::Via> via_of(v1::Via via) {
  switch (via) {
    case v1::VIA_UNSPECIFIED:
    case v1::VIA_AUTO: return core::Via::automatic;
    case v1::VIA_INPROC: return core::Via::inproc;
    case v1::VIA_HTTP: return core::Via::http;
    case v1::VIA_RPC: return core::Via::rpc;
    case v1::VIA_GRPC: return core::Via::grpc;
    case v1::VIA_AMQP: return core::Via::amqp;
    default: return core::invalid_argument("via must be one of auto, inproc, http, rpc, grpc, amqp");
  }
}

core::Result<std::optional<core::Ack>> ack_of(v1::Ack ack) {
  switch (ack) {
    case v1::ACK_UNSPECIFIED: return std::optional<core::Ack>();
    case v1::ACK_ACCEPTED: return std::optional(core::Ack::accepted);
    case v1::ACK_STORED: return std::optional(core::Ack::stored);
    default: return core::invalid_argument("ack must be accepted or stored");
  }
}

bool has_typed_payload(std::string_view action) { return action == actions::kLog || action == actions::kAuth || action == actions::kMail; }

core::Result<core::Payload> take_handle_payload(v1::HandleRequest& message, std::string_view& own_action) {
  switch (message.payload_case()) {
    case v1::HandleRequest::kCredentials: own_action = actions::kAuth; return take_payload(*message.mutable_credentials(), "credentials.");
    case v1::HandleRequest::kLog: own_action = actions::kLog; return take_payload(*message.mutable_log(), "log.");
    case v1::HandleRequest::kMail: own_action = actions::kMail; return take_payload(*message.mutable_mail(), "mail.");
    case v1::HandleRequest::kJson: return payload_from_json(message.action(), message.json());
    case v1::HandleRequest::PAYLOAD_NOT_SET: break;
  }
  if (has_typed_payload(message.action())) return core::invalid_argument("the action " + message.action() + " wants its payload");
  return core::Payload(core::Json{});
}

}  // namespace

void silence_protobuf() {
  static std::once_flag once;
  std::call_once(once, [] { ::google::protobuf::SetLogHandler(nullptr); });
}

core::Result<void> parse(::google::protobuf::Message& message, std::string_view bytes) {
  if (message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return core::ok();
  return core::invalid_argument("the message is not a " + message.GetTypeName() + " with text in UTF-8");
}

core::Result<core::Payload> take_payload(v1::Credentials& message, std::string_view prefix) {
  FLEXI_TRY(check_text(prefix, "email", message.email()));
  FLEXI_TRY(check_text(prefix, "password", message.password()));
  return core::Payload(core::Credentials{std::move(*message.mutable_email()), std::move(*message.mutable_password())});
}

core::Result<core::Payload> take_payload(v1::LogEntry& message, std::string_view prefix) {
  FLEXI_TRY(check_text(prefix, "name", message.name()));
  FLEXI_TRY(check_text(prefix, "data", message.data()));
  return core::Payload(core::LogEntry{std::move(*message.mutable_name()), std::move(*message.mutable_data())});
}

core::Result<core::Payload> take_payload(v1::Email& message, std::string_view prefix) {
  FLEXI_TRY(check_text(prefix, "from", message.from()));
  FLEXI_TRY(check_text(prefix, "to", message.to()));
  FLEXI_TRY(check_text(prefix, "subject", message.subject()));
  FLEXI_TRY(check_text(prefix, "message", message.message()));
  core::Mail mail{std::move(*message.mutable_from()), std::move(*message.mutable_to()), std::move(*message.mutable_subject()),
                  std::move(*message.mutable_message())};
  mail.cc = std::move(*message.mutable_cc()), mail.bcc = std::move(*message.mutable_bcc()), mail.reply_to = std::move(*message.mutable_reply_to());
  mail.template_name = std::move(*message.mutable_template_()), mail.data = message.data();
  for (auto& [name, text] : core::kMailExtras) {
    FLEXI_TRY(check_text(prefix, name, mail.*text));
  }
  FLEXI_TRY(mail.data, template_data(mail.data));
  for (auto& attachment : *message.mutable_attachments()) {
    FLEXI_TRY(check_text(prefix, "attachments.name", attachment.name()));
    FLEXI_TRY(check_text(prefix, "attachments.content_type", attachment.content_type()));
    mail.attachments.push_back({std::move(*attachment.mutable_name()), std::move(*attachment.mutable_content_type()), std::move(*attachment.mutable_content())});
  }
  return core::Payload(std::move(mail));
}

core::Result<HandleCall> take_handle(v1::HandleRequest& message) {
  HandleCall call;
  FLEXI_TRY(check_text("", "action", message.action()));
  if (message.action().empty() && (message.payload_case() == v1::HandleRequest::kJson || message.payload_case() == v1::HandleRequest::PAYLOAD_NOT_SET))
    return core::invalid_argument("action is required: auth, log, mail or another that is configured");
  std::string_view own_action = message.action();
  FLEXI_TRY(call.request.payload, take_handle_payload(message, own_action));
  if (!message.action().empty() && message.action() != own_action)
    return core::invalid_argument("action says " + message.action() + ", but the payload is for " + std::string(own_action));
  call.request.action = own_action;
  FLEXI_TRY(call.request.via, via_of(message.via()));
  call.has_via = message.via() != v1::VIA_UNSPECIFIED;
  FLEXI_TRY(call.request.ack, ack_of(message.ack()));
  if (!message.id().empty()) call.id = std::move(*message.mutable_id());
  return call;
}

core::Result<core::Request> take_call(v1::CallRequest& message) {
  core::Request request;
  FLEXI_TRY(check_text("", "action", message.action()));
  if (message.action().empty()) return core::invalid_argument("action is required");
  request.action = std::move(*message.mutable_action());
  FLEXI_TRY(request.payload, payload_from_json(request.action, message.json()));
  return request;
}

std::string write_request(const core::Request& request) {
  if (auto* entry = std::get_if<core::LogEntry>(&request.payload)) {
    auto& message = reused<v1::LogEntry>();
    message.set_name(entry->name);
    message.set_data(entry->data);
    return message.SerializeAsString();
  }
  if (auto* mail = std::get_if<core::Mail>(&request.payload)) {
    v1::Email message;
    message.set_from(mail->from);
    message.set_to(mail->to);
    message.set_subject(mail->subject);
    message.set_message(mail->message);
    message.set_cc(mail->cc), message.set_bcc(mail->bcc), message.set_reply_to(mail->reply_to);
    message.set_template_(mail->template_name), message.set_data(mail->data);
    for (auto& attachment : mail->attachments) {
      auto& out = *message.add_attachments();
      out.set_name(attachment.name), out.set_content_type(attachment.content_type), out.set_content(attachment.content);
    }
    return message.SerializeAsString();
  }
  if (auto* credentials = std::get_if<core::Credentials>(&request.payload)) {
    v1::Credentials message;  // of its own: a password is not kept
    message.set_email(credentials->email);
    message.set_password(credentials->password);
    return message.SerializeAsString();
  }
  v1::CallRequest message;
  message.set_action(request.action);
  message.set_json(payload_to_json(request.payload));
  return message.SerializeAsString();
}

void write_reply(v1::Reply& message, core::Reply reply, const std::string& id, std::string_view action) {
  if (action == actions::kAuth && !reply.data.empty()) write_account(reply.data, *message.mutable_user());
  message.set_message(std::move(reply.message));
  message.set_data(std::move(reply.data));
  message.set_next(std::move(reply.next));
  message.set_duplicate(reply.duplicate);
  message.set_way(std::move(reply.way));
  message.set_token(std::move(reply.token));
  message.set_id(id);
}

core::Result<core::Reply> take_reply(v1::Reply& message) {
  core::Reply reply;
  if (!message.data().empty() && !runtime::is_json(message.data()))
    return core::internal("the service's answer was not understood", "data is not JSON: " + message.data().substr(0, 200));
  reply.message = std::move(*message.mutable_message());
  reply.data = std::move(*message.mutable_data());
  if (reply.data.empty() && message.has_user()) reply.data = account_json(message.user());
  reply.next = std::move(*message.mutable_next());
  reply.duplicate = message.duplicate();
  reply.way = std::move(*message.mutable_way());
  reply.token = std::move(*message.mutable_token());
  return reply;
}

}  // namespace flexi::transports::grpc
