// SPDX-License-Identifier: Apache-2.0
// The same contracts by grpc++, for tests of both roles:
//   grpcpp_peer server                 logs.LogService and flexiconnect.v1's Logger and Actions, and the gRPC project's
//                                      TestService, on a free port; says "ready <endpoint>"
//   grpcpp_peer client <target> <n>    calls each method of ours, n logs by unary calls and n by a stream; exit code 0: all right
#include <google/protobuf/util/time_util.h>
#include <grpcpp/grpcpp.h>

#include <iostream>
#include <set>
#include <thread>

#include "flexiconnect/v1/flexiconnect.grpc.pb.h"
#include "google/rpc/error_details.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "grpc/testing/test.grpc.pb.h"
#include "logs.grpc.pb.h"

namespace v1 = flexiconnect::v1;

namespace {

// --- server ---

class LogService final : public logs::LogService::Service {
  grpc::Status WriteLog(grpc::ServerContext*, const logs::LogRequest*, logs::LogResponse* response) override {
    response->set_result("logged!");
    return grpc::Status::OK;
  }
};

class Logger final : public v1::Logger::Service {
  grpc::Status WriteLog(grpc::ServerContext* context, const v1::LogEntry* entry, v1::Reply* reply) override {
    const auto id = context->client_metadata().find("x-flexi-id");
    reply->set_message("logged " + entry->name() + " of " + std::to_string(entry->data().size()) + " bytes");
    if (id != context->client_metadata().end()) reply->mutable_message()->append(" as ").append(id->second.data(), id->second.size());
    return grpc::Status::OK;
  }
  grpc::Status WriteLogs(grpc::ServerContext*, grpc::ServerReaderWriter<v1::Acknowledgement, v1::NumberedLog>* stream) override {
    v1::NumberedLog message;
    while (stream->Read(&message)) {
      v1::Acknowledgement acknowledgement;
      acknowledgement.set_sequence(message.sequence());
      acknowledgement.mutable_reply()->set_id(message.id());
      if (!stream->Write(acknowledgement)) break;
    }
    return grpc::Status::OK;
  }
};

class Actions final : public v1::Actions::Service {
  grpc::Status Call(grpc::ServerContext* context, const v1::CallRequest* request, v1::Reply* reply) override {
    if (request->action() == "wait") {
      while (!context->IsCancelled()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      ++cancelled_;
      return grpc::Status::CANCELLED;
    }
    if (request->action() == "cancelled") {
      reply->set_data(std::to_string(cancelled_));
      return grpc::Status::OK;
    }
    if (request->action() == "rich") {
      google::rpc::Status status;
      status.set_code(grpc::StatusCode::UNAVAILABLE);
      status.set_message("come again");
      google::rpc::RetryInfo retry;
      *retry.mutable_retry_delay() = google::protobuf::util::TimeUtil::MillisecondsToDuration(2500);
      status.add_details()->PackFrom(retry);
      return {grpc::StatusCode::UNAVAILABLE, "come again", status.SerializeAsString()};
    }
    if (request->action() == "large") {
      reply->set_data('"' + std::string(3'000'000, 'y') + '"');
      return grpc::Status::OK;
    }
    return {grpc::StatusCode::UNIMPLEMENTED, "no such action"};
  }
  grpc::Status Follow(grpc::ServerContext*, const v1::CallRequest*, grpc::ServerWriter<v1::FollowReply>* writer) override {
    v1::FollowReply message;
    message.mutable_reply()->set_message("ok");
    for (int n = 0; writer->Write(message) && n < 1000; ++n) message.set_event(std::to_string(n));
    return grpc::Status::OK;
  }
  std::atomic<int> cancelled_ = 0;
};

/// Source: https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md
class TestService final : public grpc::testing::TestService::Service {
  using Request = grpc::testing::StreamingOutputCallRequest;
  using Response = grpc::testing::StreamingOutputCallResponse;

  static void echo(grpc::ServerContext& context) {
    const auto& asked = context.client_metadata();
    for (auto& [key, value] : asked) {
      if (key == "x-grpc-test-echo-initial") context.AddInitialMetadata("x-grpc-test-echo-initial", {value.data(), value.size()});
      if (key == "x-grpc-test-echo-trailing-bin") context.AddTrailingMetadata("x-grpc-test-echo-trailing-bin", {value.data(), value.size()});
    }
  }
  static grpc::Status status_of(const grpc::testing::EchoStatus& status) { return {static_cast<grpc::StatusCode>(status.code()), status.message()}; }
  template <class Writer>
  static void answer(const Request& request, Writer& writer) {
    for (auto& wanted : request.response_parameters()) {
      Response response;
      response.mutable_payload()->set_body(std::string(static_cast<std::size_t>(wanted.size()), '\0'));
      writer.Write(response);
    }
  }

  grpc::Status EmptyCall(grpc::ServerContext*, const grpc::testing::Empty*, grpc::testing::Empty*) override { return grpc::Status::OK; }
  grpc::Status UnaryCall(grpc::ServerContext* context, const grpc::testing::SimpleRequest* request,
                         grpc::testing::SimpleResponse* response) override {
    echo(*context);
    if (request->has_response_status()) return status_of(request->response_status());
    response->mutable_payload()->set_body(std::string(static_cast<std::size_t>(request->response_size()), '\0'));
    return grpc::Status::OK;
  }
  grpc::Status StreamingOutputCall(grpc::ServerContext*, const Request* request, grpc::ServerWriter<Response>* writer) override {
    answer(*request, *writer);
    return grpc::Status::OK;
  }
  grpc::Status StreamingInputCall(grpc::ServerContext*, grpc::ServerReader<grpc::testing::StreamingInputCallRequest>* reader,
                                  grpc::testing::StreamingInputCallResponse* response) override {
    grpc::testing::StreamingInputCallRequest request;
    std::size_t sum = 0;
    while (reader->Read(&request)) sum += request.payload().body().size();
    response->set_aggregated_payload_size(static_cast<int>(sum));
    return grpc::Status::OK;
  }
  grpc::Status FullDuplexCall(grpc::ServerContext* context, grpc::ServerReaderWriter<Response, Request>* stream) override {
    echo(*context);
    Request request;
    while (stream->Read(&request)) {
      if (request.has_response_status()) return status_of(request.response_status());
      answer(request, *stream);
    }
    return grpc::Status::OK;
  }
};

int serve() {
  LogService log_service;
  Logger logger;
  Actions actions;
  TestService test_service;
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&log_service);
  builder.RegisterService(&logger);
  builder.RegisterService(&actions);
  builder.RegisterService(&test_service);
  auto server = builder.BuildAndStart();
  if (!server) return 2;
  std::cout << "ready grpc://127.0.0.1:" << port << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
  }
  server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(2));
  return 0;
}

// --- client ---

void check(bool right, const std::string& what) {
  if (right) return;
  std::cerr << what << "\n";
  std::exit(1);
}
void check(const grpc::Status& status, grpc::StatusCode code, const std::string& what) {
  check(status.error_code() == code, what + ": status " + std::to_string(status.error_code()) + " " + status.error_message());
}

struct Context : grpc::ClientContext {
  explicit Context(std::chrono::milliseconds timeout = std::chrono::seconds(20)) { set_deadline(std::chrono::system_clock::now() + timeout); }
};

void unary_calls(const std::shared_ptr<grpc::Channel>& channel, int count) {
  auto log_service = logs::LogService::NewStub(channel);
  auto logger = v1::Logger::NewStub(channel);
  for (int i = 0; i < count; ++i) {
    logs::LogRequest request;
    request.mutable_logentry()->set_name("n");
    request.mutable_logentry()->set_data(std::to_string(i));
    logs::LogResponse response;
    Context context;
    check(log_service->WriteLog(&context, request, &response), grpc::OK, "LogService.WriteLog");
    check(response.result() == "logged!", "LogService.WriteLog answers " + response.result());
    v1::LogEntry entry = [&] {
      v1::LogEntry e;
      e.set_name("n");
      e.set_data(std::string(static_cast<std::size_t>(i) * 100, 'x'));
      return e;
    }();
    v1::Reply reply;
    Context again;
    again.set_compression_algorithm(i % 2 ? GRPC_COMPRESS_GZIP : GRPC_COMPRESS_NONE);
    check(logger->WriteLog(&again, entry, &reply), grpc::OK, "Logger.WriteLog");
    check(reply.message() == "logged" && !reply.id().empty(), "Logger.WriteLog answers " + reply.ShortDebugString());
  }
}

void metadata(const std::shared_ptr<grpc::Channel>& channel) {
  auto log_service = logs::LogService::NewStub(channel);
  logs::LogRequest request;
  request.mutable_logentry()->set_name("n");
  logs::LogResponse response;
  Context context;
  context.AddMetadata("idempotency-key", "grpcpp-1");
  context.AddMetadata("x-some-bin", std::string("\0\xff", 2));
  check(log_service->WriteLog(&context, request, &response), grpc::OK, "metadata");
  const auto& trailers = context.GetServerTrailingMetadata();
  const auto id = trailers.find("x-flexi-id");
  check(id != trailers.end() && id->second == "grpcpp-1", "the message's id is not in the trailers");
  auto actions = v1::Actions::NewStub(channel);
  v1::CallRequest asked;
  asked.set_action("echo");
  v1::Reply reply;
  Context traced;
  traced.AddMetadata("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
  traced.AddMetadata("x-flexi-ack", "stored");
  check(actions->Call(&traced, asked, &reply), grpc::OK, "Actions.Call");
  check(reply.data().find("4bf92f3577b34da6a3ce929d0e0e4736") != std::string::npos && reply.data().find("\"ack\":\"stored\"") != std::string::npos,
        "the metadata did not arrive: " + reply.data());
}

void large_messages(const std::shared_ptr<grpc::Channel>& channel) {
  auto logger = v1::Logger::NewStub(channel);
  v1::LogEntry entry;
  entry.set_name("n");
  entry.set_data(std::string(3'000'000, 'x'));
  v1::Reply reply;
  Context context;
  check(logger->WriteLog(&context, entry, &reply), grpc::OK, "a message of 3 MB");
  entry.set_data(std::string(5'000'000, 'x'));
  Context too_large;
  check(logger->WriteLog(&too_large, entry, &reply), grpc::RESOURCE_EXHAUSTED, "a message over the limit");
}

void reflection(const std::shared_ptr<grpc::Channel>& channel) {
  namespace refl = grpc::reflection::v1;
  auto stub = refl::ServerReflection::NewStub(channel);
  Context context;
  auto stream = stub->ServerReflectionInfo(&context);
  const auto ask = [&](const refl::ServerReflectionRequest& request) {
    refl::ServerReflectionResponse response;
    check(stream->Write(request) && stream->Read(&response), "reflection does not answer");
    return response;
  };
  refl::ServerReflectionRequest request;
  request.set_list_services("*");
  std::set<std::string> services;
  const auto listed = ask(request);
  for (auto& service : listed.list_services_response().service()) services.insert(service.name());
  check(services.contains("logs.LogService") && services.contains("flexiconnect.v1.Broker"), "reflection does not list our services");
  request.set_file_containing_symbol("logs.LogService");
  check(ask(request).file_descriptor_response().file_descriptor_proto_size() > 0, "reflection does not give logs.proto");
  stream->WritesDone();
  check(stream->Finish(), grpc::OK, "ServerReflectionInfo");
}

void errors(const std::shared_ptr<grpc::Channel>& channel) {
  auto actions = v1::Actions::NewStub(channel);
  v1::CallRequest request;
  v1::Reply reply;
  request.set_action("overloaded");
  Context context;
  const auto status = actions->Call(&context, request, &reply);
  check(status, grpc::RESOURCE_EXHAUSTED, "an overloaded service");
  google::rpc::Status details;
  check(details.ParseFromString(status.error_details()) && details.details_size() == 2, "the details are not there");
  google::rpc::ErrorInfo info;
  google::rpc::RetryInfo retry;
  check(details.details(0).UnpackTo(&info) && info.reason() == "OVERLOADED" && info.domain() == "flexiconnect", "ErrorInfo is wrong");
  check(details.details(1).UnpackTo(&retry) && retry.retry_delay().seconds() == 3, "RetryInfo is wrong");
  request.set_action("wait");
  Context hurried(std::chrono::milliseconds(200));
  check(actions->Call(&hurried, request, &reply), grpc::DEADLINE_EXCEEDED, "a deadline");
  Context cancelled;
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    cancelled.TryCancel();
  });
  check(actions->Call(&cancelled, request, &reply), grpc::CANCELLED, "a cancelled call");
  later.join();
}

void streams(const std::shared_ptr<grpc::Channel>& channel, int count) {
  auto broker = v1::Broker::NewStub(channel);
  Context context;
  auto stream = broker->HandleStream(&context);
  std::thread writer([&] {
    for (int i = 0; i < count; ++i) {
      v1::NumberedRequest request;
      request.set_sequence(static_cast<std::uint64_t>(i));
      request.mutable_request()->mutable_log()->set_name("n");
      request.mutable_request()->mutable_log()->set_data(std::to_string(i));
      if (!stream->Write(request)) break;
    }
    stream->WritesDone();
  });
  std::set<std::uint64_t> acknowledged;
  v1::Acknowledgement message;
  while (stream->Read(&message))
    if (message.has_reply()) acknowledged.insert(message.sequence());
  writer.join();
  check(stream->Finish(), grpc::OK, "Broker.HandleStream");
  check(acknowledged.size() == static_cast<std::size_t>(count), std::to_string(acknowledged.size()) + " acknowledgements");

  auto actions = v1::Actions::NewStub(channel);
  v1::CallRequest request;
  request.set_action("logs.tail");
  Context tail;
  auto events = actions->Follow(&tail, request);
  v1::FollowReply event;
  int seen = 0;
  while (events->Read(&event)) ++seen;
  check(events->Finish(), grpc::OK, "Actions.Follow");
  check(seen == 4, std::to_string(seen) + " messages of Actions.Follow");
}

void health(const std::shared_ptr<grpc::Channel>& channel) {
  auto stub = grpc::health::v1::Health::NewStub(channel);
  grpc::health::v1::HealthCheckRequest request;
  grpc::health::v1::HealthCheckResponse response;
  Context context;
  check(stub->Check(&context, request, &response), grpc::OK, "Health.Check");
  check(response.status() == grpc::health::v1::HealthCheckResponse::SERVING, "the server does not serve");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::string(argv[1]) == "server") return serve();
  if (argc != 4) return 2;
  const auto channel = grpc::CreateChannel(argv[2], grpc::InsecureChannelCredentials());
  const int count = std::stoi(argv[3]);
  unary_calls(channel, count);
  metadata(channel);
  large_messages(channel);
  reflection(channel);
  errors(channel);
  streams(channel, count);
  health(channel);
  std::cout << "all right\n";
}
