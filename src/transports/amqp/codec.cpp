// SPDX-License-Identifier: Apache-2.0
#include "transports/amqp/codec.hpp"

#include <functional>

#include "core/bearer.hpp"
#include "core/hops.hpp"
#include "runtime/json.hpp"
#include "transports/json_codec.hpp"

namespace flexi::transports::amqp {

using core::ErrorKind;
using core::Result;

namespace {

constexpr std::size_t kMaxActionBytes = 64, kMaxAddressBytes = 64;
constexpr std::size_t kMaxReasonBytes = 2'000;
constexpr std::string_view kWithheld = R"({"withheld":"it may hold a password"})";

core::Timestamp accepted_at(const Message& message) {
  if (auto* text = message.text(headers::kAcceptedAt))
    if (auto time = core::parse_rfc3339(*text)) return time.value();
  if (message.timestamp > 0 && message.timestamp < 253'402'300'800) return core::from_unix_micros(message.timestamp * 1'000'000);
  return std::chrono::system_clock::now();
}

/// The message's own id where it can be one of ours; a stranger may not name an administrator's key.
core::MessageId id_of(Message& message) {
  const bool ours = message.app_id == kOurs;
  auto id = ours ? core::MessageId::parse(message.message_id) : core::MessageId::from_key(message.message_id, {});
  if (id) return std::move(id).value();
  auto fresh = core::MessageId::generate();
  message.message_id = fresh.str();
  return fresh;
}

std::string text_or(const Message& message, std::string_view name, std::string otherwise = {}) {
  auto* text = message.text(name);
  return text ? *text : std::move(otherwise);
}

Result<void> check_body(const Message& message, const AmqpOptions& options) {
  if (message.truncated() || static_cast<std::int64_t>(message.body.size()) > options.max_body_bytes)
    return core::invalid_argument("the body must be at most " + std::to_string(options.max_body_bytes) + " bytes");
  return core::ok();
}

void read_trace(const Message& message, core::CallContext& context) {
  if (auto* trace = message.text(headers::kTrace)) context.trace = core::TraceContext::from_traceparent(*trace);
  if (auto* hops = message.text(headers::kHops); hops && core::may_be_hops(*hops)) context.hops = *hops;
}

/// Who counts the message is told by this hop, so it is never what is left out.
void note_hop(core::CallContext& context) {
  const auto before = context.hops.size();
  context.add_hop(core::kRabbitmqHop);
  if (context.hops.size() > before) return;
  context.hops.clear();
  context.add_hop(core::kRabbitmqHop);
}

/// Time does not depend on where two texts differ first.
bool same_secret(std::string_view a, std::string_view b) {
  unsigned char different = a.size() == b.size() ? 0 : 1;
  for (std::size_t i = 0; i < a.size() && !b.empty(); ++i) different |= static_cast<unsigned char>(a[i] ^ b[i % b.size()]);
  return different == 0;
}

constexpr std::string_view kBearer = "Bearer ";
bool is_login_token(std::string_view authorization) {
  return authorization.starts_with(kBearer) && core::may_be_login_token(authorization.substr(kBearer.size()));
}

/// Passwords and tokens never get into a dead letter: what names one and is not another action's is withheld.
bool may_hold_password(std::string_view action, const std::string& body) {
  if (action == core::actions::kAuth) return true;
  if (!action.empty() || (body.find("password") == body.npos && body.find("token") == body.npos)) return false;
  auto read = read_handle_body(body);
  if (!read) return true;
  return holds_secret(read.value().request.action);
}

/// RabbitMQ's own notes belong to the message as it was delivered, not to the one that is published now.
void erase_notes(Message& m) {
  std::erase_if(m.headers, [](auto& header) {
    return header.first.starts_with("x-first-death") || header.first.starts_with("x-last-death") || header.first == "x-delivery-count";
  });
}

std::string shortened(std::string text) {
  if (text.size() > kMaxReasonBytes) text.resize(kMaxReasonBytes);
  return text;
}

}  // namespace

std::int64_t now_micros() { return core::to_unix_micros(std::chrono::system_clock::now()); }

bool holds_secret(std::string_view action) { return action == core::actions::kAuth || action == core::actions::kMeGet || action.starts_with("users."); }

bool may_heal(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::overloaded:
    case ErrorKind::unavailable:
    case ErrorKind::deadline_exceeded:
    case ErrorKind::internal:
    case ErrorKind::cancelled: return true;
    default: return false;
  }
}

Result<Message> write_request(const core::Request& request, const core::CallContext& context, const AmqpOptions& options) {
  if (request.action.empty() || request.action.size() > kMaxActionBytes)
    return core::invalid_argument("action must be 1 to " + std::to_string(kMaxActionBytes) + " characters");
  if (core::is_administrative(request.action)) return core::invalid_argument("action " + request.action + " can't be queued: it reads or administers");
  FLEXI_TRY(check_utf8(request.payload));
  Message m;
  m.body = payload_to_json(request.payload);
  if (static_cast<std::int64_t>(m.body.size()) > options.max_body_bytes)
    return core::invalid_argument("the body must be at most " + std::to_string(options.max_body_bytes) + " bytes");
  const bool stored = request.ack == core::Ack::stored, transient = request.action == core::actions::kAuth;
  m.content_type = "application/json";
  m.app_id = kOurs;
  m.type = request.action;
  m.message_id = request.id.str();
  m.delivery_mode = transient ? 1 : 2;
  const auto accepted = request.accepted_at == core::Timestamp{} ? std::chrono::system_clock::now() : request.accepted_at;
  m.timestamp = core::to_unix_micros(accepted) / 1'000'000;
  m.headers.reserve(10);
  m.set(headers::kAcceptedAt, core::to_rfc3339(accepted));
  m.set(headers::kAck, std::string(core::to_string(stored ? core::Ack::stored : core::Ack::accepted)));
  if (request.id_from_caller) m.set(headers::kKey, request.id.str());
  if (context.trace.valid()) m.set(headers::kTrace, context.trace.to_traceparent());
  if (!context.hops.empty()) m.set(headers::kHops, context.hops);
  if (!context.caller.empty()) m.set(headers::kCaller, context.caller);
  if (transient && !context.client.empty()) m.set(headers::kClient, context.client);
  if (!stored) return m;  // what was accepted never expires
  const auto patience = std::min(context.remaining(), options.max_wait);
  m.set(headers::kTimeout, std::int64_t{patience.count()});
  m.set(headers::kDeadline, now_micros() + patience.count() * 1000);
  if (transient) m.expiration = std::to_string(std::max<std::int64_t>(patience.count(), 1));
  return m;
}

bool is_expired(const Message& message, std::int64_t now) {
  const auto deadline = message.number(headers::kDeadline);
  return deadline && *deadline <= now;
}

Result<Job> read_job(std::string_view action, Message& message, const AmqpOptions& options) {
  Job job;
  job.request.id = id_of(message);
  job.request.action = action;
  FLEXI_TRY(check_body(message, options));
  FLEXI_TRY(job.request.payload, payload_from_json(action, message.body));
  job.request.via = core::Via::amqp;
  job.request.ack = core::Ack::stored;
  job.request.id_from_caller = message.text(headers::kKey) != nullptr;
  job.request.accepted_at = accepted_at(message);
  job.attempt = std::max<std::int64_t>(message.number(headers::kAttempt).value_or(1), 1);
  job.told = !message.reply_to.empty();
  auto timeout = options.attempt_timeout;
  if (const auto deadline = message.number(headers::kDeadline)) {
    const auto left = std::chrono::milliseconds((*deadline - now_micros()) / 1000);
    timeout = std::clamp(left, std::chrono::milliseconds(1), timeout);
  }
  job.context = core::CallContext::with_timeout(timeout);
  job.context.caller = text_or(message, headers::kCaller);
  if (action == core::actions::kAuth) job.context.client = text_or(message, headers::kClient).substr(0, kMaxAddressBytes);
  read_trace(message, job.context);
  note_hop(job.context);  // of this attempt: the message itself keeps the hops that it was published with
  return job;
}

Result<Job> read_handle_request(Message& message, const AmqpOptions& options, const std::string& admin_token) {
  Job job;
  job.request.id = id_of(message);
  job.attempt = std::max<std::int64_t>(message.number(headers::kAttempt).value_or(1), 1);
  FLEXI_TRY(check_body(message, options));
  FLEXI_TRY(auto body, read_handle_body(message.body));
  job.told = !message.reply_to.empty();
  if (auto* authorization = message.text(headers::kAuthorization); authorization && !admin_token.empty()) {
    if (same_secret(*authorization, "Bearer " + admin_token)) job.context.caller = "admin";
    else if (!is_login_token(*authorization)) return core::unauthenticated("the administrator's token is wrong");
  }
  // It opens what is protected. Administration wants the administrator's own: it must not wait in a queue under a user's name.
  if (auto* authorization = message.text(headers::kAuthorization); authorization && job.context.caller.empty() && is_login_token(*authorization))
    job.context.bearer = authorization->substr(kBearer.size());
  if (core::is_administrative(body.request.action) && job.context.caller.empty())
    return core::permission_denied("action " + body.request.action + " wants the administrator's token");
  const auto own_id = job.request.id;
  job.request = std::move(body.request);
  if (auto* via = message.text(headers::kVia)) {
    const auto known = core::via_from(*via);
    if (!known) return core::invalid_argument("x-flexi-via must be one of auto, inproc, http, rpc, grpc, amqp");
    if (body.has_via && *known != job.request.via) return core::invalid_argument("x-flexi-via and the body's via differ: give one");
    job.request.via = *known;
  }
  if (auto* ack = message.text(headers::kAck)) {
    const auto known = core::ack_from(*ack);
    if (!known) return core::invalid_argument("x-flexi-ack must be accepted or stored");
    if (job.request.ack && *job.request.ack != *known) return core::invalid_argument("x-flexi-ack and the body's ack differ: give one");
    job.request.ack = known;
  }
  auto* key = message.text(headers::kKey);
  if (key && body.id && *key != *body.id) return core::invalid_argument("idempotency-key and the body's id differ: give one");
  if (key || body.id) {
    FLEXI_TRY(job.request.id, core::MessageId::from_key(key ? *key : *body.id, job.context.caller, key ? "idempotency-key" : "id"));
    job.request.id_from_caller = true;
  } else {
    job.request.id = own_id;
  }
  job.request.accepted_at = accepted_at(message);
  auto timeout = options.request_timeout;
  if (const auto ms = message.number(headers::kTimeout)) {
    if (*ms < 0) return core::invalid_argument("x-flexi-timeout-ms must be a number of milliseconds, 0 or more");
    timeout = std::min(std::chrono::milliseconds(*ms), options.max_request_timeout);
  }
  job.context.deadline = core::CallContext::Clock::now() + timeout;
  if (auto* trace = message.text(headers::kTrace)) job.context.trace = core::TraceContext::from_traceparent(*trace);
  return job;
}

Message write_reply(const Result<core::Reply>& result) {
  Message m;
  m.content_type = "application/json";
  m.app_id = kOurs;
  m.delivery_mode = 1;
  if (result) {
    auto& reply = result.value();
    append_envelope(m.body, false, reply.message, reply.data, reply.next);
    if (reply.duplicate) m.set(headers::kDuplicate, std::string("true"));
    if (!reply.way.empty()) m.set(headers::kWay, reply.way);
    if (!reply.token.empty()) m.set(headers::kToken, reply.token);
    return m;
  }
  auto& error = result.error();
  append_envelope(m.body, true, error.message, {}, {});
  m.set(headers::kError, std::string(core::to_string(error.kind)));
  if (error.sent == core::Sent::maybe) m.set(headers::kSent, std::string("maybe"));
  if (error.retry_after) m.set(headers::kRetryAfter, std::int64_t{error.retry_after->count()});
  return m;
}

Result<core::Reply> read_reply(const Message& message) {
  auto envelope = read_envelope(message.body);
  if (!envelope) return core::internal("the service's answer was not understood", message.body.substr(0, 200));
  auto& e = envelope.value();
  if (!e.error) {
    core::Reply reply;
    reply.message = std::move(e.message);
    reply.data = std::move(e.data);
    reply.next = std::move(e.next);
    reply.duplicate = text_or(message, headers::kDuplicate) == "true";
    reply.way = text_or(message, headers::kWay);
    reply.token = text_or(message, headers::kToken);
    return reply;
  }
  core::Error error;
  error.kind = core::error_kind_from(text_or(message, headers::kError)).value_or(ErrorKind::internal);
  error.message = std::move(e.message);
  error.answered = true;
  error.sent = text_or(message, headers::kSent) == "maybe" ? core::Sent::maybe : core::Sent::no;
  if (const auto after = message.number(headers::kRetryAfter)) error.retry_after = std::chrono::milliseconds(std::clamp<std::int64_t>(*after, 0, 86'400'000));
  return error;
}

Message for_retry(Message m, const core::Error& error, std::int64_t failed) {
  m.delivery_mode = 2;
  m.expiration.clear();
  erase_notes(m);
  m.set(headers::kAttempt, failed + 1);
  m.set(headers::kError, std::string(core::to_string(error.kind)));
  m.set(headers::kReason, shortened(error.message));
  if (!m.number(headers::kFirstAt)) m.set(headers::kFirstAt, now_micros());
  // Of a foreign message this is the first that anybody knows of its time: it must not grow younger with each look.
  if (!m.text(headers::kAcceptedAt) && m.timestamp <= 0) m.set(headers::kAcceptedAt, core::to_rfc3339(std::chrono::system_clock::now()));
  return m;
}

Message for_dead_letter(std::string_view action, Message m, const core::Error& error, std::int64_t attempts) {
  m = for_retry(std::move(m), error, attempts);
  m.erase(headers::kAttempt);
  m.erase(headers::kAuthorization);
  m.set(headers::kAttempts, attempts);
  m.set(headers::kDeadAt, now_micros());
  if (may_hold_password(action, m.body)) m.body = kWithheld;
  return m;
}

Message for_replay(Message m) {
  for (auto name : {headers::kAttempt, headers::kAttempts, headers::kReason, headers::kError, headers::kDeadAt, headers::kFirstAt, headers::kDeadline, headers::kTimeout,
                    headers::kUntaken})
    m.erase(name);
  erase_notes(m);
  // What has none, or none of ours, gets one for good: letters that look alike are messages apart.
  if (!core::MessageId::parse(m.message_id)) m.message_id = core::MessageId::generate().str();
  m.expiration.clear();
  m.reply_to.clear();  // nobody waits any more
  m.correlation_id.clear();
  m.delivery_mode = 2;
  return m;
}

core::DeadLetter read_dead_letter(std::string_view action, const std::string& queue, const Message& message) {
  core::DeadLetter letter;
  const auto id = core::MessageId::parse(message.message_id);
  if (id) {
    letter.id = id.value();
  } else {
    // RabbitMQ itself dead-lettered what had no id. One of what it is made of: the same each time it is looked at.
    const auto made_of = queue + '\n' + std::to_string(message.death_time) + '\n' + std::to_string(message.timestamp) + '\n' + message.message_id + '\n' + message.body;
    letter.id = core::MessageId::parse("dead-" + std::to_string(std::hash<std::string>{}(made_of))).value();
  }
  letter.action = action;
  if (action.empty())
    if (auto body = read_handle_body(message.body)) letter.action = body.value().request.action;
  letter.payload = may_hold_password(action, message.body) ? std::string(kWithheld) : message.body;
  letter.attempts = static_cast<unsigned>(std::clamp<std::int64_t>(message.number(headers::kAttempts).value_or(0), 0, 1'000'000'000));
  letter.accepted_at = accepted_at(message);
  if (const auto dead = message.number(headers::kDeadAt)) letter.dead_at = core::from_unix_micros(*dead);
  else letter.dead_at = core::from_unix_micros(message.death_time * 1'000'000);
  if (!message.text(headers::kAcceptedAt) && message.timestamp <= 0) letter.accepted_at = letter.dead_at;
  if (auto* reason = message.text(headers::kReason); reason && message.number(headers::kDeadAt)) {
    letter.reason = text_or(message, headers::kError, "internal") + ": " + *reason;
  } else {
    const auto why = message.death_reason.empty() ? text_or(message, "x-first-death-reason", "unknown") : message.death_reason;
    if (why == "delivery_limit") letter.reason = "internal: delivered again and again without an answer: who handles it dies of it (delivery_limit)";
    else if (why == "rejected") letter.reason = "invalid_argument: rejected, its body has " + std::to_string(message.body_bytes) + " bytes";
    else letter.reason = "unavailable: RabbitMQ dead-lettered it (" + why + ")";
    if (letter.attempts == 0) letter.attempts = static_cast<unsigned>(std::clamp<std::int64_t>(message.number("x-delivery-count").value_or(0), 0, 1'000'000));
  }
  return letter;
}

}  // namespace flexi::transports::amqp
