// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <map>

#include "runtime/policies/scripted_handler.hpp"
#include "services/broker/make_broker.hpp"
#include "services/broker/payload_digest.hpp"

// For tests only: a deployment in memory.
namespace flexi::services::broker {

using core::Ack;
using core::ErrorKind;
using core::Sent;
using core::Via;
using runtime::policies::call;
using runtime::policies::request_of;
using runtime::policies::run_test;
using runtime::policies::ScriptedHandler;

class MemoryIdempotencyStore final : public core::IdempotencyStore {
 public:
  core::awaitable<core::Result<core::Seen>> remember(std::string action, core::MessageId id, core::PayloadDigest digest, core::CallContext) override {
    if (down) co_return core::unavailable("the key store is down");
    auto [entry, first] = digests.try_emplace({action, id.str()}, digest);
    if (first) co_return core::Seen::first;
    if (entry->second == digest) co_return core::Seen::again;
    co_return core::conflict("this id was used before with another payload");
  }
  std::map<std::pair<std::string, std::string>, core::PayloadDigest> digests;
  bool down = false;
};

/// A service that keeps what it is given by id, as the ports ask of stores.
class MemoryService final : public core::Handler {
 public:
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext) override {
    ++calls;
    auto [entry, first] = stored.try_emplace(request.id.str(), request.payload);
    if (!core::same_payload(entry->second, request.payload)) co_return core::conflict("this id is taken");
    if (lose_answers > 0) {
      --lose_answers;
      auto error = core::unavailable("the connection broke");
      error.sent = Sent::maybe;
      co_return error;
    }
    core::Reply reply;
    reply.message = "logged";
    reply.duplicate = !first;
    co_return reply;
  }
  std::map<std::string, core::Payload> stored;
  int calls = 0;
  int lose_answers = 0;  ///< so many calls are carried out, but their answers don't arrive
};

inline core::Payload payload_of(std::string_view action) {
  if (action == "auth") return core::Credentials{"a@b.c", "secret"};
  if (action == "log") return core::LogEntry{"n", "d"};
  if (action == "mail") return core::Mail{"", "to@b.c", "s", "m"};
  return core::Json{R"({"a":1})"};
}

inline core::Request contract_request(std::string action, Via via = Via::automatic, std::optional<Ack> ack = {}) {
  auto request = request_of(action, payload_of(action));
  request.via = via;
  request.ack = ack;
  return request;
}

/// All actions by inproc, http and amqp; the pauses between tries take no time.
class BrokerFixture : public testing::Test {
 protected:
  BrokerFixture() {
    amqp.way = "amqp;queue=embedded";
    for (auto* handler : {&inproc, &http, &amqp}) handler->message = "the service's own";
    admin.message = "ok";
  }
  BrokerParts parts() {
    std::vector<BrokerWay> ways{{Via::inproc, inproc}, {Via::http, http}, {Via::amqp, amqp}};
    BrokerParts parts{.metrics = metrics};
    for (auto name : {"log", "auth", "mail", "invoice"}) parts.actions.push_back({name, ways});
    parts.administration = {{"logs.", admin}, {"dlq.list", admin}};
    parts.idempotency = &keys;
    parts.services = &services;
    parts.hooks.pause = [](std::chrono::milliseconds) -> core::awaitable<void> { co_return; };
    return parts;
  }
  std::unique_ptr<ComposedBroker> make() { return make_broker(parts(), options); }
  std::size_t calls() const { return inproc.calls() + http.calls() + amqp.calls(); }
  void down(ScriptedHandler& handler, Sent sent = Sent::no) { handler.fail_for_ever(core::unavailable("down"), sent); }

  runtime::Metrics metrics;
  ScriptedHandler inproc, http, amqp, admin, services;
  MemoryIdempotencyStore keys;
  BrokerOptions options;
};

}  // namespace flexi::services::broker
