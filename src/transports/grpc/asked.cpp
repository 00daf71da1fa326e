// SPDX-License-Identifier: Apache-2.0
#include "transports/grpc/asked.hpp"

#include <charconv>

#include "core/bearer.hpp"
#include "core/hops.hpp"
#include "core/timestamp.hpp"

namespace flexi::transports::grpc {

namespace {

constexpr std::size_t kMaxAddressBytes = 64;

/// Views into the call's metadata; data() is null where there is none.
struct Asked {
  std::string_view idempotency_key, id, via, ack, accepted_at, hops, authorization, process_key, client;
  bool forwarded = false;  ///< came through a proxy: the peer is not who asks
};

Asked look_up(const Metadata& metadata) {
  Asked asked;
  for (std::size_t i = 0; i < metadata.size(); ++i) {
    const auto [key, value] = metadata[i];
    if (key == keys::kId) asked.id = value;
    else if (key == keys::kAcceptedAt) asked.accepted_at = value;
    else if (key == keys::kHops) asked.hops = value;
    else if (key == keys::kAck) asked.ack = value;
    else if (key == keys::kVia) asked.via = value;
    else if (key == keys::kIdempotencyKey) asked.idempotency_key = value;
    else if (key == keys::kAuthorization) asked.authorization = value;
    else if (key == keys::kProcessKey) asked.process_key = value;
    else if (key == keys::kClient) asked.client = value;
    else if (key == "forwarded" || key == "via" || key == "x-real-ip" || key.starts_with("x-forwarded-")) asked.forwarded = true;
  }
  return asked;
}

enum class Token { absent, valid, wrong };

/// Takes as long whatever the first difference is; the length is no secret.
bool constant_time_equal(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  volatile unsigned char difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) difference = difference | static_cast<unsigned char>(a[i] ^ b[i]);
  return difference == 0;
}

bool is_secret(std::string_view given, std::string_view secret) { return !secret.empty() && constant_time_equal(given, secret); }

/// What stands behind "Bearer"; data() is null where nothing does.
std::string_view bearer_of(std::string_view authorization) {
  static constexpr std::string_view kBearer = "bearer ";
  if (authorization.size() < kBearer.size()) return {};
  for (std::size_t i = 0; i < kBearer.size(); ++i)
    if ((authorization[i] | 0x20) != (kBearer[i] | 0x20)) return {};
  return authorization.substr(kBearer.size());
}

Token check_token(const std::string& token, std::string_view bearer) {
  if (!bearer.data()) return Token::absent;
  return is_secret(bearer, token) ? Token::valid : Token::wrong;
}

/// "192.0.2.1" of "192.0.2.1:4711", "::1" of "[::1]:4711".
std::string_view host_of(std::string_view peer) {
  peer = peer.substr(0, std::min(peer.rfind(':'), peer.size()));
  return peer.starts_with('[') && peer.ends_with(']') ? peer.substr(1, peer.size() - 2) : peer;
}

/// No page of a browser speaks gRPC's HTTP/2, so the peer's address says enough.
core::Result<void> check_administrator(const Trust& trust, Token given, const ServerCall& call, const Asked& asked) {
  if (given == Token::valid) return core::ok();
  if (given == Token::wrong) return core::unauthenticated("the administrator's token is wrong");
  if (call.peer_is_loopback() && !asked.forwarded && !trust.token_always) return core::ok();
  if (trust.token.empty()) return core::permission_denied("administration from another machine wants a token: set FLEXI_ADMIN_TOKEN_FILE on the server");
  return core::unauthenticated("administration wants the metadata authorization: Bearer <administrator's token>");
}

core::Result<core::Timestamp> read_time(std::string_view text) {
  std::int64_t micros = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), micros);
  // The years 0 to 9999, which RFC 3339 can write.
  if (ec == std::errc() && end == text.data() + text.size() && micros > -62'135'596'800'000'000 && micros < 253'402'300'800'000'000)
    return core::from_unix_micros(micros);
  auto time = core::parse_rfc3339(text);
  if (!time) return core::invalid_argument("x-flexi-accepted-at must be microseconds since 1970, or an RFC 3339 time such as 2026-11-24T09:30:00Z");
  return time;
}

core::Result<void> read_wishes(const Asked& asked, Side side, bool has_via, core::Request& request) {
  if (asked.via.data() && side == Side::broker) {
    const auto via = core::via_from(asked.via);
    if (!via) return core::invalid_argument("x-flexi-via must be one of auto, inproc, http, rpc, grpc, amqp");
    if (has_via && request.via != *via) return core::invalid_argument("x-flexi-via and the message's via differ: give one");
    request.via = *via;
  }
  if (asked.ack.data()) {
    const auto ack = core::ack_from(asked.ack);
    if (!ack) return core::invalid_argument("x-flexi-ack must be accepted or stored");
    if (request.ack && *request.ack != *ack) return core::invalid_argument("x-flexi-ack and the message's ack differ: give one");
    request.ack = ack;
  }
  return core::ok();
}

core::Result<void> read_identity(const Asked& asked, Side side, const std::optional<std::string>& own_id, const std::string& caller, core::Request& request) {
  if (asked.idempotency_key.data() && own_id && asked.idempotency_key != *own_id)
    return core::invalid_argument("idempotency-key and the message's id differ: give one");
  request.id_from_caller = asked.idempotency_key.data() || own_id;
  if (side == Side::services && asked.id.data()) {
    // The peer has scoped the key already; a stranger must not name an administrator's.
    if (asked.id.starts_with('~') && caller.empty()) return core::invalid_argument("x-flexi-id must not begin with '~'");
    FLEXI_TRY(request.id, core::MessageId::parse(asked.id, keys::kId));
  } else if (request.id_from_caller) {
    FLEXI_TRY(request.id, core::MessageId::from_key(own_id ? std::string_view(*own_id) : asked.idempotency_key, caller, own_id ? "id" : keys::kIdempotencyKey));
  } else {
    request.id = core::MessageId::generate();
  }
  return core::ok();
}

}  // namespace

core::Result<void> read_metadata(const ServerCall& call, const Trust& trust, Side side, const OwnWords& own, core::Request& request,
                                 core::CallContext& context) {
  const auto asked = look_up(call.metadata());
  const auto bearer = bearer_of(asked.authorization);
  const auto given = check_token(trust.token, bearer);
  const bool is_login = request.action == core::actions::kAuth;
  if (is_login) context.client = host_of(call.peer());
  if (given == Token::wrong && trust.login_tokens && core::may_be_login_token(bearer)) {
    context.bearer = bearer;  // whose it is decides behind the server
  } else if (core::is_administrative(request.action)) {
    FLEXI_TRY(check_administrator(trust, given, call, asked));
    context.caller = "admin";
  } else if (given == Token::valid) {
    context.caller = "admin";
  }
  FLEXI_TRY(read_wishes(asked, side, own.has_via, request));
  FLEXI_TRY(read_identity(asked, side, own.id, context.caller, request));
  request.accepted_at = std::chrono::system_clock::now();
  const bool believed = trust.peers || given == Token::valid || is_secret(asked.process_key, trust.process_key);
  if (side == Side::broker || !believed) return core::ok();
  if (asked.accepted_at.data()) {
    FLEXI_TRY(auto time, read_time(asked.accepted_at));
    request.accepted_at = std::min(request.accepted_at, time);  // a peer's clock may be ahead of ours
  }
  if (core::may_be_hops(asked.hops)) context.hops = asked.hops;
  if (is_login && !asked.client.empty() && asked.client.size() <= kMaxAddressBytes) context.client = asked.client;
  return core::ok();
}

std::string id_of_refused(const ServerCall& call) {
  const auto asked = look_up(call.metadata());
  for (const auto key : {asked.id, asked.idempotency_key})
    if (key.data())
      if (const auto id = core::MessageId::from_key(key, {})) return id.value().str();
  return core::MessageId::generate().str();
}

Metadata write_metadata(const core::Request& request, const core::CallContext& context, const std::string& token, const std::string& process_key) {
  Metadata metadata;
  if (!request.id.empty()) metadata.add(keys::kId, request.id.str());
  if (request.id_from_caller) metadata.add(keys::kIdempotencyKey, request.id.str());
  if (request.ack) metadata.add(keys::kAck, core::to_string(*request.ack));
  if (request.accepted_at != core::Timestamp{}) {
    char text[24];
    const auto end = std::to_chars(text, text + sizeof text, core::to_unix_micros(request.accepted_at)).ptr;
    metadata.add(keys::kAcceptedAt, std::string_view(text, static_cast<std::size_t>(end - text)));
  }
  if (!context.hops.empty()) metadata.add(keys::kHops, context.hops);
  if (!process_key.empty()) metadata.add(keys::kProcessKey, process_key);
  if (request.action == core::actions::kAuth && !context.client.empty()) metadata.add(keys::kClient, context.client);
  if (!token.empty() && (core::is_administrative(request.action) || !context.caller.empty())) metadata.add(keys::kAuthorization, "Bearer " + token);
  return metadata;
}

}  // namespace flexi::transports::grpc
