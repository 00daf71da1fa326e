// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/reply.hpp"
#include "core/request.hpp"
#include "flexiconnect/v1/flexiconnect.pb.h"
#include "transports/grpc/channel.hpp"

// Between core and the messages of flexiconnect.v1. Private to this folder: generated headers stop here.
//
// All readers: text is UTF-8 (protobuf refuses what is not) without NUL characters, `json` is one JSON value. Anything else is
// invalid_argument that names the field, in the words of the JSON codec. A message that is read is moved out of. Any thread.

namespace flexi::transports::grpc {

namespace v1 = ::flexiconnect::v1;

/// Protobuf's own words about strangers' bytes don't belong on our standard error. Once a process.
void silence_protobuf();

/// @return invalid_argument that names the message's type
core::Result<void> parse(::google::protobuf::Message& message, std::string_view bytes);

/// @param prefix stands before a field's name in errors, e.g. "log."
core::Result<core::Payload> take_payload(v1::Credentials& message, std::string_view prefix = {});
core::Result<core::Payload> take_payload(v1::LogEntry& message, std::string_view prefix = {});
core::Result<core::Payload> take_payload(v1::Email& message, std::string_view prefix = {});

/// A broker's request as it stands in a message. The id is the caller's key, not scoped yet.
struct HandleCall {
  core::Request request{};  ///< action, payload, via and ack
  bool has_via = false;
  std::optional<std::string> id{};
};
core::Result<HandleCall> take_handle(v1::HandleRequest& message);
/// Action and payload.
core::Result<core::Request> take_call(v1::CallRequest& message);

/// The serialized message of the method that carries the action: Credentials, LogEntry, Email or CallRequest.
std::string write_request(const core::Request& request);

/// @param action where it is "auth" the account in `data` is written typed, too
void write_reply(v1::Reply& message, core::Reply reply, const std::string& id, std::string_view action);
/// @return internal where `data` is not JSON
core::Result<core::Reply> take_reply(v1::Reply& message);

/// google.rpc.Status with ErrorInfo and, where waiting helps, RetryInfo. Never the detail.
/// @param id the message's, where the answer says it nowhere else
void write_error(::google::rpc::Status& message, const core::Error& error, const std::string& id = {});
/// As it ends a call: to_status() with those details.
Status status_with_details(const core::Error& error);
/// Why a call failed: what its details tell; of a peer that isn't ours, or where the wire answered, what the code tells.
core::Error error_from(const ClientResult& result);

}  // namespace flexi::transports::grpc
