// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/handler.hpp"
#include "transports/grpc/method.hpp"

namespace flexi::transports::grpc {

// Keys of what a request carries beside its message; values are the same as those of HTTP's headers.
namespace keys {
inline constexpr std::string_view kIdempotencyKey = "idempotency-key", kId = "x-flexi-id", kVia = "x-flexi-via", kAck = "x-flexi-ack",
                                  kAcceptedAt = "x-flexi-accepted-at", kHops = "x-flexi-hops", kAuthorization = "authorization",
                                  kWay = "x-flexi-way", kDuplicate = "x-flexi-duplicate", kProcessKey = "x-flexi-process-key",
                                  kClient = "x-flexi-client";
}

/// Whom a call is for: what its caller may say of the message differs.
enum class Side {
  broker,    ///< a stranger's message: it gets its id and its time here
  services,  ///< a broker's: id, time and hops are what the broker says
};

/// Whom a server believes what.
struct Trust {
  std::string token{};        ///< the administrator's; empty: none is configured
  std::string process_key{};  ///< what a client in this very process shows; empty: there is none
  bool token_always = false;  ///< administration wants the token on this machine, too
  bool login_tokens = false;  ///< whom a login's token belongs to is asked behind the server
  bool peers = true;          ///< whoever calls the services is a broker: false where the broker is here, and strangers with it
};

/// What a message brings by itself, beside its payload.
struct OwnWords {
  bool has_via = false;              ///< `request.via` was given
  std::optional<std::string> id{};   ///< an idempotency key
};

/// Completes `request` and `context` with what the call's metadata say: id, via, ack, when, where it has been, who calls.
/// @return invalid_argument that names the key; unauthenticated or permission_denied where the action is not for this caller
core::Result<void> read_metadata(const ServerCall& call, const Trust& trust, Side side, const OwnWords& own, core::Request& request,
                                 core::CallContext& context);

/// Under which id a call is refused that was not understood: the caller's key where it is one, else a new one.
std::string id_of_refused(const ServerCall& call);

/// What our clients send of a request to a service.
/// @param token sent with what an administrator asks
/// @param process_key of a client of its own process; empty: of another
Metadata write_metadata(const core::Request& request, const core::CallContext& context, const std::string& token, const std::string& process_key = {});

}  // namespace flexi::transports::grpc
