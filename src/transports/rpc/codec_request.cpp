// SPDX-License-Identifier: Apache-2.0
// Requests, both ways.
#include "core/bearer.hpp"
#include "core/timestamp.hpp"
#include "transports/json_codec.hpp"
#include "transports/rpc/access.hpp"
#include "transports/rpc/codec.hpp"

namespace flexi::transports::rpc {

namespace actions = core::actions;

namespace {

std::string text(capnp::Text::Reader reader) { return {reader.begin(), reader.size()}; }
capnp::Text::Reader text(const std::string& string) { return {string.data(), string.size()}; }

enum class Surface { broker, services };

constexpr std::size_t kMaxAddressBytes = 64;
constexpr std::int64_t kLatestMicros = 8'000'000'000'000'000;  // the year 2223; our clock counts to 2262

core::Result<std::optional<core::Ack>> read_ack(schema::Ack ack) {
  switch (ack) {
    case schema::Ack::STANDARD: return std::optional<core::Ack>();
    case schema::Ack::ACCEPTED: return std::optional(core::Ack::accepted);
    case schema::Ack::STORED: return std::optional(core::Ack::stored);
  }
  return core::invalid_argument("meta.ack must be standard, accepted or stored");
}

core::Result<core::Via> read_via(schema::Via via) {
  switch (via) {
    case schema::Via::AUTO: return core::Via::automatic;
    case schema::Via::INPROC: return core::Via::inproc;
    case schema::Via::HTTP: return core::Via::http;
    case schema::Via::RPC: return core::Via::rpc;
    case schema::Via::GRPC: return core::Via::grpc;
    case schema::Via::AMQP: return core::Via::amqp;
  }
  return core::invalid_argument("meta.via must be auto, inproc, http, rpc, grpc or amqp");
}

core::Result<void> read_identity(core::Request& request, const core::CallContext& context, schema::Metadata::Reader meta, Surface surface) {
  const auto id = view(meta.getId());
  request.accepted_at = std::chrono::system_clock::now();
  if (id.empty()) {
    request.id = core::MessageId::generate();
  } else if (surface == Surface::broker) {
    request.id_from_caller = true;
    FLEXI_TRY(request.id, core::MessageId::from_key(id, context.caller, "meta.id"));
  } else {
    // The peer has scoped the key already; a stranger must not name an administrator's.
    if (id.starts_with('~') && context.caller.empty()) return core::invalid_argument("meta.id must not begin with '~'");
    request.id_from_caller = meta.getIdFromCaller();
    FLEXI_TRY(request.id, core::MessageId::parse(id, "meta.id"));
  }
  return core::ok();
}

/// What a broker says of the message: when it was accepted, where it has been.
core::Result<void> read_journey(Plan& plan, schema::Metadata::Reader meta) {
  if (const auto micros = meta.getAcceptedAtMicros(); micros != 0) {
    if (micros < 0 || micros > kLatestMicros) return core::invalid_argument("meta.acceptedAtMicros must be microseconds since 1970");
    plan.request.accepted_at = std::min(plan.request.accepted_at, core::from_unix_micros(micros));  // a peer's clock may be ahead of ours
  }
  if (const auto hops = meta.getHops(); hops.size() <= core::CallContext::kMaxHopsBytes) plan.context.hops = text(hops);
  if (const auto client = meta.getClient(); plan.request.action == actions::kAuth && client.size() != 0 && client.size() <= kMaxAddressBytes)
    plan.context.client = text(client);
  return core::ok();
}

void read_deadline(Plan& plan, schema::Metadata::Reader meta, const CallRules& rules) {
  auto timeout = rules.default_timeout;
  if (meta.getTimeoutMs() >= 0) timeout = std::chrono::milliseconds(std::min<std::int64_t>(meta.getTimeoutMs(), rules.max_timeout.count()));
  plan.context.deadline = core::CallContext::Clock::now() + timeout;
  // A tail goes on until somebody leaves.
  if (plan.request.action == actions::kLogsTail) plan.context.deadline = core::CallContext::Clock::time_point::max();
}

/// Whether the broker hands it on: no service here owns the action.
bool is_for_broker(const Exported& object, std::string_view action) {
  if (!object.broker || core::is_administrative(action)) return false;
  return !object.handler || (action != actions::kAuth && action != actions::kLog && action != actions::kMail);
}

/// All that is the same for every object, once action and payload are there.
core::Result<Plan> finish_plan(Plan plan, const Exported& object, schema::Metadata::Reader meta, const CallRules& rules) {
  const bool for_broker = is_for_broker(object, plan.request.action);
  const auto surface = object.type == ObjectType::broker || for_broker ? Surface::broker : Surface::services;
  plan.object = object.type;
  plan.handler = for_broker ? object.broker : object.handler;
  FLEXI_TRY(check_texts(plan.request.payload));
  const auto authorization = view(meta.getAuthorization());
  const bool has_token = !authorization.empty() && check_token(rules.admin_token, authorization) == Token::valid;
  const auto bearer = bearer_of(authorization);
  const bool administrative = core::is_administrative(plan.request.action);
  if (administrative && object.administration) plan.handler = object.administration;
  if (plan.request.action == actions::kAuth) plan.context.client = rules.client;
  if (!has_token && rules.login_tokens && core::may_be_login_token(bearer)) {
    plan.context.bearer = bearer;  // whose it is decides behind the server
  } else if (administrative) {
    FLEXI_TRY(check_administrator(rules.admin_token, authorization, rules.same_machine));
    plan.context.caller = "admin";
  } else if (has_token) {
    plan.context.caller = "admin";
  }
  if (!plan.handler) return core::unimplemented("this server has no such action; Broker.handle hands it on");
  FLEXI_TRY(plan.request.ack, read_ack(meta.getAck()));
  FLEXI_TRY(read_identity(plan.request, plan.context, meta, surface));
  if (surface == Surface::broker) {
    FLEXI_TRY(plan.request.via, read_via(meta.getVia()));
  } else if (rules.trusts_peers || has_token || is_secret(view(meta.getProcessKey()), rules.process_key)) {
    FLEXI_TRY(read_journey(plan, meta));
  }
  if (const auto trace = meta.getTraceparent(); trace.size() != 0) plan.context.trace = core::TraceContext::from_traceparent(view(trace));
  read_deadline(plan, meta, rules);
  if (plan.context.expired()) return core::deadline_exceeded("the request's time was over before it was handled");
  return plan;
}

core::Result<void> check_size(std::size_t bytes, const CallRules& rules) {
  if (bytes <= static_cast<std::size_t>(rules.max_payload_bytes)) return core::ok();
  return core::invalid_argument("the payload must be at most " + std::to_string(rules.max_payload_bytes) + " bytes");
}

// Sizes are looked at before anything is copied.
core::Result<core::Payload> read_log(schema::LogEntry::Reader entry, const CallRules& rules) {
  const auto name = entry.getName(), data = entry.getData();
  FLEXI_TRY(check_size(name.size() + data.size(), rules));
  return core::Payload(core::LogEntry{text(name), text(data)});
}

core::Result<core::Payload> read_credentials(schema::Credentials::Reader credentials, const CallRules& rules) {
  const auto email = credentials.getEmail(), password = credentials.getPassword();
  FLEXI_TRY(check_size(email.size() + password.size(), rules));
  return core::Payload(core::Credentials{text(email), text(password)});
}

core::Result<core::Payload> read_mail(schema::MailMessage::Reader mail, const CallRules& rules) {
  const auto from = mail.getFrom(), to = mail.getTo(), subject = mail.getSubject(), message = mail.getMessage();
  const auto cc = mail.getCc(), bcc = mail.getBcc(), reply_to = mail.getReplyTo(), name = mail.getTemplate(), data = mail.getData();
  std::size_t bytes = from.size() + to.size() + subject.size() + message.size() + cc.size() + bcc.size() + reply_to.size() + name.size() + data.size();
  // An attachment without bytes takes some of a message, too.
  for (auto attachment : mail.getAttachments())
    bytes += attachment.getName().size() + attachment.getContentType().size() + attachment.getContent().size() + sizeof(capnp::word);
  FLEXI_TRY(check_size(bytes, rules));
  FLEXI_TRY(auto values, template_data(view(data)));
  core::Mail out{text(from), text(to), text(subject), text(message), text(cc), text(bcc), text(reply_to), text(name), std::move(values), {}};
  for (auto attachment : mail.getAttachments()) {
    const auto content = attachment.getContent().asChars();
    out.attachments.push_back({text(attachment.getName()), text(attachment.getContentType()), std::string(content.begin(), content.size())});
  }
  return core::Payload(std::move(out));
}

core::Result<core::Payload> read_json(std::string_view action, std::string_view json, const CallRules& rules) {
  FLEXI_TRY(check_size(json.size(), rules));
  return payload_from_json(action, json);
}

}  // namespace

core::Result<Plan> plan_log(const Exported& object, schema::LogEntry::Reader entry, schema::Metadata::Reader meta, const CallRules& rules) {
  Plan plan;
  plan.request.action = actions::kLog;
  FLEXI_TRY(plan.request.payload, read_log(entry, rules));
  plan.log_name = std::get<core::LogEntry>(plan.request.payload).name;
  return finish_plan(std::move(plan), object, meta, rules);
}

core::Result<Plan> plan_authentication(const Exported& object, schema::Credentials::Reader credentials, schema::Metadata::Reader meta, const CallRules& rules) {
  Plan plan;
  plan.request.action = actions::kAuth;
  FLEXI_TRY(plan.request.payload, read_credentials(credentials, rules));
  return finish_plan(std::move(plan), object, meta, rules);
}

core::Result<Plan> plan_mail(const Exported& object, schema::MailMessage::Reader mail, schema::Metadata::Reader meta, const CallRules& rules) {
  Plan plan;
  plan.request.action = actions::kMail;
  FLEXI_TRY(plan.request.payload, read_mail(mail, rules));
  return finish_plan(std::move(plan), object, meta, rules);
}

core::Result<Plan> plan_action(const Exported& object, std::string_view action, std::string_view payload, schema::Metadata::Reader meta, const CallRules& rules) {
  Plan plan;
  if (action.empty()) return core::invalid_argument("action is required");
  FLEXI_TRY(check_size(action.size(), rules));
  plan.request.action = action;
  FLEXI_TRY(plan.request.payload, read_json(action, payload, rules));
  return finish_plan(std::move(plan), object, meta, rules);
}

core::Result<Plan> plan_broker(const Exported& object, schema::Request::Reader request, schema::Metadata::Reader meta, const CallRules& rules) {
  Plan plan;
  FLEXI_TRY(check_size(request.getAction().size(), rules));
  auto& action = plan.request.action;
  action = text(request.getAction());
  const auto typed = [&](std::string_view of) {
    if (action.empty()) action = of;
    return action == of;
  };
  const auto payload = request.getPayload();
  bool fits = true;
  if (payload.isJson()) {
    if (action.empty()) return core::invalid_argument("action is required: auth, log, mail or another that is configured");
    FLEXI_TRY(plan.request.payload, read_json(action, view(payload.getJson()), rules));
  } else if (payload.isLog()) {
    fits = typed(actions::kLog);
    FLEXI_TRY(plan.request.payload, read_log(payload.getLog(), rules));
  } else if (payload.isCredentials()) {
    fits = typed(actions::kAuth);
    FLEXI_TRY(plan.request.payload, read_credentials(payload.getCredentials(), rules));
  } else if (payload.isMail()) {
    fits = typed(actions::kMail);
    FLEXI_TRY(plan.request.payload, read_mail(payload.getMail(), rules));
  } else {
    return core::invalid_argument("request.payload is of a kind that this server doesn't know");
  }
  if (!fits) return core::invalid_argument("request.action and the kind of request.payload differ");
  return finish_plan(std::move(plan), object, meta, rules);
}

namespace {

bool holds_nul(const std::string& string) { return string.find('\0') != string.npos; }

bool extras_hold_nul(const core::Mail& mail) {
  for (auto& extra : core::kMailExtras)
    if (holds_nul(mail.*extra.text)) return true;
  for (auto& attachment : mail.attachments)
    if (holds_nul(attachment.name) || holds_nul(attachment.content_type)) return true;
  return false;
}

}  // namespace

core::Result<void> check_texts(const core::Payload& payload) {
  FLEXI_TRY(check_utf8(payload));
  bool nul = false;
  if (auto* entry = std::get_if<core::LogEntry>(&payload)) nul = holds_nul(entry->name) || holds_nul(entry->data);
  else if (auto* who = std::get_if<core::Credentials>(&payload)) nul = holds_nul(who->email) || holds_nul(who->password);
  else if (auto* mail = std::get_if<core::Mail>(&payload))
    nul = holds_nul(mail->from) || holds_nul(mail->to) || holds_nul(mail->subject) || holds_nul(mail->message) || extras_hold_nul(*mail);
  if (nul) return core::invalid_argument("texts must not hold a NUL character");
  return core::ok();
}

std::size_t payload_bytes(const core::Payload& payload) {
  if (auto* entry = std::get_if<core::LogEntry>(&payload)) return entry->name.size() + entry->data.size();
  if (auto* who = std::get_if<core::Credentials>(&payload)) return who->email.size() + who->password.size();
  if (auto* mail = std::get_if<core::Mail>(&payload)) {
    std::size_t bytes = mail->from.size() + mail->to.size() + mail->subject.size() + mail->message.size();
    for (auto& extra : core::kMailExtras) bytes += (mail->*extra.text).size();
    for (auto& attachment : mail->attachments)
      bytes += attachment.name.size() + attachment.content_type.size() + attachment.content.size() + 8 * sizeof(capnp::word);
    return bytes;
  }
  return std::get<core::Json>(payload).text.size();
}

capnp::MessageSize size_of(const core::Request& request, const core::CallContext& context) {
  // Each text takes a pointer and ends at a word; the structs, their pointers and the metadata's numbers are the rest.
  const auto texts = payload_bytes(request.payload) + request.action.size() + request.id.str().size() + context.hops.size() + context.client.size();
  return {texts / sizeof(capnp::word) + 64, 1};
}

void write_text_fields(schema::LogEntry::Builder out, const core::LogEntry& entry) {
  out.setName(text(entry.name));
  out.setData(text(entry.data));
}

void write_text_fields(schema::Credentials::Builder out, const core::Credentials& credentials) {
  out.setEmail(text(credentials.email));
  out.setPassword(text(credentials.password));
}

void write_text_fields(schema::MailMessage::Builder out, const core::Mail& mail) {
  out.setFrom(text(mail.from));
  out.setTo(text(mail.to));
  out.setSubject(text(mail.subject));
  out.setMessage(text(mail.message));
  if (!mail.cc.empty()) out.setCc(text(mail.cc));
  if (!mail.bcc.empty()) out.setBcc(text(mail.bcc));
  if (!mail.reply_to.empty()) out.setReplyTo(text(mail.reply_to));
  if (!mail.template_name.empty()) out.setTemplate(text(mail.template_name));
  if (!mail.data.empty()) out.setData(text(mail.data));
  if (mail.attachments.empty()) return;
  auto list = out.initAttachments(static_cast<unsigned>(mail.attachments.size()));
  for (unsigned i = 0; i < list.size(); ++i) {
    auto& attachment = mail.attachments[i];
    list[i].setName(text(attachment.name));
    list[i].setContentType(text(attachment.content_type));
    list[i].setContent({reinterpret_cast<const capnp::byte*>(attachment.content.data()), attachment.content.size()});
  }
}

void write_metadata(schema::Metadata::Builder out, const core::Request& request, const core::CallContext& context, const Shown& shown) {
  if (!request.id.empty()) out.setId(text(request.id.str()));
  out.setIdFromCaller(request.id_from_caller);
  if (request.ack) out.setAck(*request.ack == core::Ack::accepted ? schema::Ack::ACCEPTED : schema::Ack::STORED);
  if (context.has_deadline()) out.setTimeoutMs(context.remaining().count());
  if (context.trace.valid()) out.setTraceparent(text(context.trace.to_traceparent()));
  if (!shown.token.empty() && (core::is_administrative(request.action) || !context.caller.empty()))
    out.setAuthorization(text("Bearer " + std::string(shown.token)));
  if (request.accepted_at != core::Timestamp{}) out.setAcceptedAtMicros(core::to_unix_micros(request.accepted_at));
  if (!context.hops.empty()) out.setHops(text(context.hops));
  if (request.action == actions::kAuth && !context.client.empty()) out.setClient(text(context.client));
  if (!shown.process_key.empty()) out.setProcessKey(capnp::Text::Reader(shown.process_key.data(), shown.process_key.size()));
}

}  // namespace flexi::transports::rpc
