// SPDX-License-Identifier: Apache-2.0
// Our client, driven by tests against servers of others:
//   grpc_test_client call <endpoint> <action> <json>   one request; prints the outcome as a line of JSON
//   grpc_test_client interop <endpoint> <case>         one of the gRPC project's interoperability cases; exit code 0: passed
#include <CLI/CLI.hpp>
#include <iostream>

#include "interop_cases.hpp"
#include "runtime/json.hpp"
#include "runtime/shards.hpp"
#include "transports/grpc/channel.hpp"
#include "transports/json_codec.hpp"

namespace core = flexi::core;
namespace grpc_wire = flexi::transports::grpc;
using flexi::runtime::JsonWriter;

namespace {

struct CallArguments {
  std::string action, json, id, ack, hops, trace;
  std::int64_t timeout_ms = 10'000;
  unsigned events = 3;
  bool repeat = false;
};

void print(JsonWriter& json) { std::cout << json.end_object().take() << std::endl; }

boost::asio::awaitable<void> call(core::Client* client, const CallArguments* arguments) {
  core::Request request;
  request.action = arguments->action;
  auto payload = flexi::transports::payload_from_json(request.action, arguments->json);
  if (!payload) {
    std::cerr << payload.error().message << "\n";
    co_return;
  }
  request.payload = std::move(payload.value());
  request.id = core::MessageId::generate();
  if (!arguments->id.empty()) {
    request.id = core::MessageId::parse(arguments->id).value();
    request.id_from_caller = true;
  }
  request.ack = core::ack_from(arguments->ack);
  request.accepted_at = std::chrono::system_clock::now();
  auto context = core::CallContext::with_timeout(std::chrono::milliseconds(arguments->timeout_ms));
  context.trace = core::TraceContext::from_traceparent(arguments->trace);
  context.hops = arguments->hops;
  auto reply = co_await client->handle(std::move(request), std::move(context));
  JsonWriter json;
  json.begin_object().field("ok", reply.has_value());
  if (!reply) {
    auto& error = reply.error();
    json.field("kind", core::to_string(error.kind)).field("message", error.message).field("sent", error.sent == core::Sent::maybe ? "maybe" : "no");
    json.field("answered", error.answered).field("retry_after_ms", error.retry_after ? error.retry_after->count() : -1);
    print(json);
    co_return;
  }
  json.field("message", reply.value().message).field("next", reply.value().next).field("duplicate", reply.value().duplicate).field("way", reply.value().way);
  if (!reply.value().data.empty()) json.key("data").raw(reply.value().data);
  if (auto events = std::move(reply.value().events)) {
    json.key("events").begin_array();
    for (unsigned i = 0; i < arguments->events; ++i) {
      auto event = co_await events->next(core::CallContext::with_timeout(std::chrono::seconds(10)));
      if (!event || !event.value()) break;
      json.raw(*event.value());
    }
    json.end_array();
  }
  print(json);
}

boost::asio::awaitable<void> stop(core::Client* client) { co_await client->stop({std::chrono::milliseconds(1000)}); }
boost::asio::awaitable<void> stop_channel(grpc_wire::Channel* channel) { co_await channel->stop({std::chrono::milliseconds(1000)}); }

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("gRPC test client");
  app.require_subcommand(1);
  grpc_wire::GrpcClientOptions options;
  std::string endpoint, name, token;
  CallArguments arguments;
  app.add_option("--ca", options.ca_file);
  app.add_option("--compress-from", options.compress_from_bytes);
  app.add_option("--max-message", options.max_message_bytes);
  app.add_option("--token", token);
  auto* call_command = app.add_subcommand("call");
  call_command->add_option("endpoint", endpoint)->required();
  call_command->add_option("action", arguments.action)->required();
  call_command->add_option("json", arguments.json)->required();
  call_command->add_option("--id", arguments.id);
  call_command->add_option("--ack", arguments.ack);
  call_command->add_option("--hops", arguments.hops);
  call_command->add_option("--trace", arguments.trace);
  call_command->add_option("--timeout-ms", arguments.timeout_ms);
  call_command->add_option("--events", arguments.events);
  call_command->add_flag("--lines", arguments.repeat, "one call for each line of standard input, whose text is ignored");
  auto* interop_command = app.add_subcommand("interop");
  interop_command->add_option("endpoint", endpoint)->required();
  interop_command->add_option("case", name)->required();
  CLI11_PARSE(app, argc, argv);

  flexi::runtime::LogSink log(flexi::runtime::LogLevel::error, flexi::runtime::LogFormat::json);
  flexi::runtime::Metrics metrics;
  flexi::runtime::Readiness readiness;
  flexi::runtime::Shards shards(1);
  const grpc_wire::Process process{metrics, readiness, log, shards, token};
  int code = 0;
  if (*call_command) {
    auto client = grpc_wire::connect(options, process, endpoint);
    if (!client) {
      std::cerr << client.error().message << "\n";
      return 2;
    }
    if (arguments.repeat)
      for (std::string line; std::getline(std::cin, line);) shards.run(call(client.value().get(), &arguments));
    else shards.run(call(client.value().get(), &arguments));
    shards.run(stop(client.value().get()));
    client.value().reset();
    shards.join();
  } else {
    auto channel = grpc_wire::Channel::make(options, process, endpoint);
    if (!channel) {
      std::cerr << channel.error().message << "\n";
      return 2;
    }
    const auto problem = flexi::grpc_tests::run_interop_case(shards, *channel.value(), name);
    if (!problem.empty()) {
      std::cerr << name << ": " << problem << "\n";
      code = 1;
    }
    shards.run(stop_channel(channel.value().get()));
    channel.value().reset();
    shards.join();
  }
  return code;
}
