// SPDX-License-Identifier: Apache-2.0
#include "test_service.hpp"

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "grpc/testing/messages.pb.h"

namespace flexi::grpc_tests {

namespace testing = ::grpc::testing;
using transports::grpc::Code;
using transports::grpc::MethodTable;
using transports::grpc::ServerCall;
using transports::grpc::Status;
using transports::grpc::UnaryAnswer;

namespace {

constexpr std::string_view kInitial = "x-grpc-test-echo-initial", kTrailing = "x-grpc-test-echo-trailing-bin";
const Status kNotUnderstood{Code::invalid_argument, "not understood"};

void echo_metadata(ServerCall& call) {
  if (auto value = call.metadata().find(kInitial); value.data()) call.initial_metadata().add(kInitial, value);
  if (auto value = call.metadata().find(kTrailing); value.data()) call.trailing_metadata().add(kTrailing, value);
}

void fill(testing::Payload& payload, std::int32_t size) { payload.set_body(std::string(static_cast<std::size_t>(std::max(size, 0)), '\0')); }

core::awaitable<UnaryAnswer> empty_call(std::string) { co_return UnaryAnswer{}; }

core::awaitable<UnaryAnswer> unary_call(ServerCall& call, std::string bytes) {
  UnaryAnswer answer;
  testing::SimpleRequest request;
  if (!request.ParseFromString(bytes)) {
    answer.status = kNotUnderstood;
    co_return answer;
  }
  echo_metadata(call);
  if (request.response_status().code() != 0) {
    answer.status = {static_cast<Code>(request.response_status().code()), request.response_status().message()};
    co_return answer;
  }
  testing::SimpleResponse response;
  fill(*response.mutable_payload(), request.response_size());
  answer.message = response.SerializeAsString();
  co_return answer;
}

core::awaitable<core::Result<void>> write_responses(ServerCall& call, testing::StreamingOutputCallRequest request) {
  boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor);
  for (auto& wanted : request.response_parameters()) {
    if (wanted.interval_us() > 0) {
      timer.expires_after(std::chrono::microseconds(wanted.interval_us()));
      co_await timer.async_wait(boost::asio::use_awaitable);
    }
    testing::StreamingOutputCallResponse response;
    fill(*response.mutable_payload(), wanted.size());
    auto written = co_await call.write(response.SerializeAsString());
    if (!written) co_return written.error();
  }
  co_return core::ok();
}

/// Each request is answered as it comes; StreamingOutputCall has one.
core::awaitable<Status> full_duplex_call(ServerCall& call) {
  echo_metadata(call);
  for (;;) {
    auto bytes = co_await call.read();
    if (!bytes) co_return transports::grpc::to_status(bytes.error());
    if (!bytes.value()) co_return Status();
    testing::StreamingOutputCallRequest request;
    if (!request.ParseFromString(*bytes.value())) co_return kNotUnderstood;
    if (request.response_status().code() != 0) co_return Status{static_cast<Code>(request.response_status().code()), request.response_status().message()};
    auto written = co_await write_responses(call, std::move(request));
    if (!written) co_return transports::grpc::to_status(written.error());
  }
}

core::awaitable<Status> half_duplex_call(ServerCall& call) {
  std::vector<testing::StreamingOutputCallRequest> requests;
  for (;;) {
    auto bytes = co_await call.read();
    if (!bytes) co_return transports::grpc::to_status(bytes.error());
    if (!bytes.value()) break;
    if (!requests.emplace_back().ParseFromString(*bytes.value())) co_return kNotUnderstood;
  }
  for (auto& request : requests) {
    auto written = co_await write_responses(call, std::move(request));
    if (!written) co_return transports::grpc::to_status(written.error());
  }
  co_return Status();
}

core::awaitable<Status> streaming_input_call(ServerCall& call) {
  std::size_t sum = 0;
  for (;;) {
    auto bytes = co_await call.read();
    if (!bytes) co_return transports::grpc::to_status(bytes.error());
    if (!bytes.value()) break;
    testing::StreamingInputCallRequest request;
    if (!request.ParseFromString(*bytes.value())) co_return kNotUnderstood;
    sum += request.payload().body().size();
  }
  testing::StreamingInputCallResponse response;
  response.set_aggregated_payload_size(static_cast<std::int32_t>(sum));
  auto written = co_await call.write(response.SerializeAsString());
  if (!written) co_return transports::grpc::to_status(written.error());
  co_return Status();
}

}  // namespace

void add_test_service(MethodTable& table) {
  const std::string service = "/grpc.testing.TestService/";
  table.add_unary(service + "EmptyCall", [](ServerCall&, std::string bytes) { return empty_call(std::move(bytes)); });
  table.add_unary(service + "UnaryCall", [](ServerCall& call, std::string bytes) { return unary_call(call, std::move(bytes)); });
  table.add_stream(service + "StreamingOutputCall", [](ServerCall& call) { return full_duplex_call(call); });
  table.add_stream(service + "StreamingInputCall", [](ServerCall& call) { return streaming_input_call(call); });
  table.add_stream(service + "FullDuplexCall", [](ServerCall& call) { return full_duplex_call(call); });
  table.add_stream(service + "HalfDuplexCall", [](ServerCall& call) { return half_duplex_call(call); });
}

}  // namespace flexi::grpc_tests
