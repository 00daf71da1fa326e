// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/dead_letters.hpp"
#include "core/timestamp.hpp"
#include "transports/amqp/message.hpp"
#include "transports/amqp/options.hpp"

// Requests and answers as AMQP messages. What AMQP has a property for stands there; the rest are headers.
// Any thread. Source: README.md, "On the wire"
namespace flexi::transports::amqp {

inline constexpr std::string_view kOurs = "flexiconnect";  ///< app_id of what we publish

/// Names of headers.
namespace headers {
inline constexpr std::string_view kKey = "idempotency-key", kVia = "x-flexi-via", kAck = "x-flexi-ack", kTimeout = "x-flexi-timeout-ms",
                                  kDeadline = "x-flexi-deadline", kTrace = "traceparent", kAcceptedAt = "x-flexi-accepted-at",
                                  kHops = "x-flexi-hops", kCaller = "x-flexi-caller", kAuthorization = "authorization",
                                  kAttempt = "x-flexi-attempt", kReason = "x-flexi-reason", kError = "x-flexi-error",
                                  kAttempts = "x-flexi-attempts", kFirstAt = "x-flexi-first-at", kDeadAt = "x-flexi-dead-at",
                                  kSent = "x-flexi-sent", kRetryAfter = "x-flexi-retry-after-ms", kDuplicate = "x-flexi-duplicate",
                                  kWay = "x-flexi-way", kUntaken = "x-flexi-untaken", kClient = "x-flexi-client", kToken = "x-flexi-token";
}  // namespace headers

/// Wall-clock microseconds since 1970: deadlines in a queue hold across processes, whose clocks agree well enough.
std::int64_t now_micros();

/// The request as a message, without where it goes and where its answer comes.
/// @return invalid_argument: too large, not UTF-8, or what can't be queued
core::Result<Message> write_request(const core::Request& request, const core::CallContext& context, const AmqpOptions& options);

/// A consumed message, understood.
struct Job {
  core::Request request;
  core::CallContext context;
  std::int64_t attempt = 1;
  bool told = false;  ///< somebody waits for the answer (reply_to)
};

/// A message of the listener's queues. A foreign one, {"name","data"} and nothing else, is as good as ours.
/// @param action whose queue it came from
/// @return the job; or why it can't be one. Sets message.message_id where there was none that can be used
core::Result<Job> read_job(std::string_view action, Message& message, const AmqpOptions& options);
/// A message of flexi.requests: its body is that of POST /handle.
/// @param admin_token empty: there is none
core::Result<Job> read_handle_request(Message& message, const AmqpOptions& options, const std::string& admin_token);
/// Whether its caller's deadline has passed.
bool is_expired(const Message& message, std::int64_t now);

Message write_reply(const core::Result<core::Reply>& result);
core::Result<core::Reply> read_reply(const Message& message);

/// The message for its next attempt, `failed` attempts after the first.
Message for_retry(Message message, const core::Error& error, std::int64_t failed);
/// The message as dead letter, with why. A body that may hold a password is withheld.
/// @param action whose queue it came from; empty: flexi.requests
Message for_dead_letter(std::string_view action, Message message, const core::Error& error, std::int64_t attempts);
/// A dead letter as it was before its first attempt; with an id, where it had none.
Message for_replay(Message message);
/// What an operator sees of a message in a dead-letter queue.
/// @param action whose queue it is; empty: flexi.requests
core::DeadLetter read_dead_letter(std::string_view action, const std::string& queue, const Message& message);

/// Whether a message of this action holds a password or a token: it is never kept.
bool holds_secret(std::string_view action);
/// Whether another attempt can help. Source: docs/errors.md
bool may_heal(core::ErrorKind kind);

}  // namespace flexi::transports::amqp
