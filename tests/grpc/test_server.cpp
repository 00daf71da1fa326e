// SPDX-License-Identifier: Apache-2.0
// A server with our wire and services over a scripted handler, for clients of others. Says "ready <endpoint>", and takes
// "ready", "unready" and "drain" on its standard input, whose end stops it.
#include <CLI/CLI.hpp>
#include <iostream>

#include "runtime/shards.hpp"
#include "scripted_service.hpp"
#include "test_service.hpp"
#include "transports/grpc/server.hpp"
#include "transports/grpc/surface.hpp"

namespace grpc_wire = flexi::transports::grpc;

namespace {

boost::asio::awaitable<void> stop(flexi::core::Server* server) { co_await server->stop({std::chrono::milliseconds(2000)}); }

}  // namespace

int main(int argc, char** argv) {
  grpc_wire::GrpcServerOptions options;
  options.listen = "127.0.0.1:0";
  std::string role = "both", token;
  bool test_service = false, verbose = false;
  CLI::App app("gRPC test server");
  app.add_option("--listen", options.listen);
  app.add_option("--certificate", options.certificate_file);
  app.add_option("--key", options.key_file);
  app.add_option("--compress-from", options.compress_from_bytes);
  app.add_option("--max-message", options.max_message_bytes);
  app.add_option("--max-bulk", options.max_bulk_in_flight);
  app.add_option("--token", token);
  app.add_option("--role", role)->check(CLI::IsMember({"both", "broker", "services"}));
  app.add_flag("--test-service", test_service);
  app.add_flag("--verbose", verbose);
  CLI11_PARSE(app, argc, argv);
  if (const auto problems = options.validate(); !problems.empty()) {
    std::cerr << problems.front().path << ": " << problems.front().message << "\n";
    return 2;
  }

  flexi::runtime::LogSink log(verbose ? flexi::runtime::LogLevel::debug : flexi::runtime::LogLevel::error, flexi::runtime::LogFormat::json);
  flexi::runtime::Metrics metrics;
  flexi::runtime::Readiness readiness;
  flexi::runtime::Shards shards(2);
  flexi::grpc_tests::ScriptedService service;
  const grpc_wire::Process process{metrics, readiness, log, shards, token, nullptr, "own-key"};
  grpc_wire::MethodTable methods;
  add_methods(methods, options, {process, role == "services" ? nullptr : &service, role == "broker" ? nullptr : &service});
  if (test_service) flexi::grpc_tests::add_test_service(methods);
  auto server = grpc_wire::serve_methods(options, process, std::move(methods));
  if (!server) {
    std::cerr << server.error().message << " " << server.error().detail << "\n";
    return 2;
  }
  std::cout << "ready " << server.value()->endpoint() << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    if (line == "ready") readiness.set_ready("part");
    if (line == "unready") readiness.set_unready("part", "asked to");
    if (line == "drain") readiness.drain();
    std::cout << "done " << line << std::endl;
  }
  readiness.drain();
  shards.run(stop(server.value().get()));
  server.value().reset();
  shards.join();
}
