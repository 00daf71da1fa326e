// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/handler.hpp"
#include "flexiconnect.capnp.h"
#include "transports/rpc/registry.hpp"

// core's values as they stand in schemas/flexiconnect.capnp. Reading may throw kj::Exception where a message's pointers
// make no sense: kj makes that the call's exception. Any thread.

namespace flexi::transports::rpc {

namespace schema = ::flexiconnect;

inline std::string_view view(capnp::Text::Reader text) { return {text.begin(), text.size()}; }

/// What a server knows of who calls, and allows.
struct CallRules {
  std::string_view admin_token{};
  bool same_machine = false;
  std::int64_t max_payload_bytes = 1 << 20;
  std::chrono::milliseconds default_timeout{10'000}, max_timeout{60'000};
  std::string_view process_key{};  ///< what a client in this very process shows
  std::string_view client{};       ///< the address of who calls
  bool login_tokens = false;       ///< whom a login's token belongs to is asked behind the server
  bool trusts_peers = true;        ///< whoever calls the services is a broker: false where the broker is here, and strangers with it
};

/// A call that has been understood.
struct Plan {
  core::Handler* handler = nullptr;
  core::Request request{};
  core::CallContext context{};
  ObjectType object = ObjectType::actions;
  std::string log_name{};  ///< of a Logger's entry: its answer names it
};

/// @return invalid_argument and whatever else keeps the call from its handler
core::Result<Plan> plan_log(const Exported& object, schema::LogEntry::Reader entry, schema::Metadata::Reader meta, const CallRules& rules);
core::Result<Plan> plan_authentication(const Exported& object, schema::Credentials::Reader credentials, schema::Metadata::Reader meta, const CallRules& rules);
core::Result<Plan> plan_mail(const Exported& object, schema::MailMessage::Reader mail, schema::Metadata::Reader meta, const CallRules& rules);
core::Result<Plan> plan_broker(const Exported& object, schema::Request::Reader request, schema::Metadata::Reader meta, const CallRules& rules);
core::Result<Plan> plan_action(const Exported& object, std::string_view action, std::string_view payload, schema::Metadata::Reader meta, const CallRules& rules);

/// Words that the answer takes, about.
capnp::MessageSize size_of(const core::Result<core::Reply>& result);
/// @param id of the request, which stands in the answer
void write_answer(schema::Answer::Builder answer, ObjectType object, std::string_view action, std::string_view log_name, const std::string& id,
                  const core::Result<core::Reply>& result);
/// @param id of the request; empty: it was not understood
void write_failure(schema::Failure::Builder failure, const core::Error& error, const std::string& id = {});

/// Words that a request takes, about.
capnp::MessageSize size_of(const core::Request& request, const core::CallContext& context);
void write_text_fields(schema::LogEntry::Builder out, const core::LogEntry& entry);
void write_text_fields(schema::Credentials::Builder out, const core::Credentials& credentials);
void write_text_fields(schema::MailMessage::Builder out, const core::Mail& mail);
/// What a client shows its server. Views into the client.
struct Shown {
  std::string_view token{};        ///< sent with what an administrator asks
  std::string_view process_key{};  ///< of a client of its own process; empty: of another
};
void write_metadata(schema::Metadata::Builder out, const core::Request& request, const core::CallContext& context, const Shown& shown);
core::Result<core::Reply> read_answer(schema::Answer::Reader answer);
core::Error read_failure(schema::Failure::Reader failure);

/// Texts are UTF-8 without NUL, on every transport: what is refused here would be refused behind a queue, too late.
core::Result<void> check_texts(const core::Payload& payload);
/// Bytes of all texts of a payload.
std::size_t payload_bytes(const core::Payload& payload);

}  // namespace flexi::transports::rpc
