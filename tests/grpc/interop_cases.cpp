// SPDX-License-Identifier: Apache-2.0
#include "interop_cases.hpp"

#include <map>
#include <set>
#include <stdexcept>

#include "flexiconnect/v1/flexiconnect.pb.h"
#include "grpc/testing/messages.pb.h"
#include "logs.pb.h"

namespace flexi::grpc_tests {

namespace testing = ::grpc::testing;
using core::CallContext;
using transports::grpc::Channel;
using transports::grpc::ClientResult;
using transports::grpc::ClientStream;
using transports::grpc::Code;
using transports::grpc::Metadata;
using namespace std::chrono_literals;

namespace {

constexpr std::string_view kUnary = "/grpc.testing.TestService/UnaryCall", kDuplex = "/grpc.testing.TestService/FullDuplexCall";
constexpr std::string_view kInitial = "x-grpc-test-echo-initial", kTrailing = "x-grpc-test-echo-trailing-bin";
constexpr int kPingPong[4][2] = {{31415, 27182}, {9, 8}, {2653, 1828}, {58979, 45904}};

/// A case ends where something is not as it must be.
void check(bool right, const std::string& what) {
  if (!right) throw std::runtime_error(what);
}

void check(const ClientResult& result, Code code) {
  check(result.status.code == code, "status " + std::to_string(static_cast<int>(result.status.code)) + " \"" + result.status.message + "\" instead of " +
                                        std::to_string(static_cast<int>(code)));
}

CallContext limit() { return CallContext::with_timeout(20s); }
std::string zeros(int size) { return std::string(static_cast<std::size_t>(size), '\0'); }

std::string simple_request(int response_size, int size) {
  testing::SimpleRequest request;
  request.set_response_size(response_size);
  request.mutable_payload()->set_body(zeros(size));
  return request.SerializeAsString();
}

std::string duplex_request(std::initializer_list<int> response_sizes, int size) {
  testing::StreamingOutputCallRequest request;
  for (auto wanted : response_sizes) request.add_response_parameters()->set_size(wanted);
  request.mutable_payload()->set_body(zeros(size));
  return request.SerializeAsString();
}

void check_payload(const std::string& bytes, int size) {
  testing::StreamingOutputCallResponse response;
  check(response.ParseFromString(bytes), "the response is not understood");
  check(response.payload().body() == zeros(size), "a payload of " + std::to_string(response.payload().body().size()) + " bytes instead of " + std::to_string(size));
}

boost::asio::awaitable<std::unique_ptr<ClientStream>> open(Channel& channel, std::string_view path, Metadata metadata, CallContext context) {
  auto stream = co_await channel.open(path, std::move(metadata), std::move(context));
  check(stream.has_value(), "the stream was not opened");
  co_return std::move(stream.value());
}

boost::asio::awaitable<void> send(ClientStream& stream, std::string message) {
  const auto written = co_await stream.write(std::move(message));
  check(written.has_value(), "the stream takes no message");
}

boost::asio::awaitable<void> receive(ClientStream& stream, int size) {
  const auto message = co_await stream.read();
  check(message && message.value(), "a response is missing");
  check_payload(*message.value(), size);
}

boost::asio::awaitable<ClientResult> finish(ClientStream& stream) {
  const auto message = co_await stream.read();
  check(!message || !message.value(), "there is a response too many");
  co_return co_await stream.finish();
}

boost::asio::awaitable<void> empty_unary(Channel& channel) {
  const auto result = co_await channel.unary("/grpc.testing.TestService/EmptyCall", "", {}, limit());
  check(result, Code::ok);
  check(result.message.empty(), "the answer is not empty");
}

boost::asio::awaitable<void> large_unary(Channel& channel) {
  const auto result = co_await channel.unary(kUnary, simple_request(314159, 271828), {}, limit());
  check(result, Code::ok);
  check_payload(result.message, 314159);
}

boost::asio::awaitable<void> client_streaming(Channel& channel) {
  auto stream = co_await open(channel, "/grpc.testing.TestService/StreamingInputCall", {}, limit());
  for (int size : {27182, 8, 1828, 45904}) {
    testing::StreamingInputCallRequest request;
    request.mutable_payload()->set_body(zeros(size));
    co_await send(*stream, request.SerializeAsString());
  }
  stream->close_send();
  const auto message = co_await stream->read();
  check(message && message.value(), "the response is missing");
  testing::StreamingInputCallResponse response;
  check(response.ParseFromString(*message.value()) && response.aggregated_payload_size() == 74922, "the sum is wrong");
  check(co_await finish(*stream), Code::ok);
}

boost::asio::awaitable<void> server_streaming(Channel& channel) {
  auto stream = co_await open(channel, "/grpc.testing.TestService/StreamingOutputCall", {}, limit());
  co_await send(*stream, duplex_request({31415, 9, 2653, 58979}, 0));
  stream->close_send();
  for (int size : {31415, 9, 2653, 58979}) co_await receive(*stream, size);
  check(co_await finish(*stream), Code::ok);
}

boost::asio::awaitable<void> ping_pong(Channel& channel) {
  auto stream = co_await open(channel, kDuplex, {}, limit());
  for (auto& [back, out] : kPingPong) {
    co_await send(*stream, duplex_request({back}, out));
    co_await receive(*stream, back);
  }
  stream->close_send();
  check(co_await finish(*stream), Code::ok);
}

boost::asio::awaitable<void> empty_stream(Channel& channel) {
  auto stream = co_await open(channel, kDuplex, {}, limit());
  stream->close_send();
  check(co_await finish(*stream), Code::ok);
}

void check_echo(const ClientResult& result, const Metadata& sent) {
  check(result, Code::ok);
  check(result.initial.find(kInitial) == sent.find(kInitial), "the initial metadata was not echoed");
  check(result.trailing.find(kTrailing) == sent.find(kTrailing), "the trailing metadata was not echoed");
}

boost::asio::awaitable<void> custom_metadata(Channel& channel) {
  Metadata metadata;
  metadata.add(kInitial, "test_initial_metadata_value");
  metadata.add(kTrailing, "\xab\xab\xab");
  const auto result = co_await channel.unary(kUnary, simple_request(314159, 271828), metadata, limit());
  check_echo(result, metadata);
  auto stream = co_await open(channel, kDuplex, metadata, limit());
  co_await send(*stream, duplex_request({314159}, 271828));
  co_await receive(*stream, 314159);
  stream->close_send();
  check_echo(co_await finish(*stream), metadata);
}

boost::asio::awaitable<void> expect_status(Channel& channel, std::string message) {
  testing::SimpleRequest request;
  request.mutable_response_status()->set_code(2);
  request.mutable_response_status()->set_message(message);
  const auto result = co_await channel.unary(kUnary, request.SerializeAsString(), {}, limit());
  check(result, Code::unknown);
  check(result.status.message == message, "the message is \"" + result.status.message + "\"");
  testing::StreamingOutputCallRequest duplex;
  *duplex.mutable_response_status() = request.response_status();
  auto stream = co_await open(channel, kDuplex, {}, limit());
  co_await send(*stream, duplex.SerializeAsString());
  stream->close_send();
  const auto ended = co_await finish(*stream);
  check(ended, Code::unknown);
  check(ended.status.message == message, "the stream's message is \"" + ended.status.message + "\"");
}

boost::asio::awaitable<void> status_code_and_message(Channel& channel) { return expect_status(channel, "test status message"); }
boost::asio::awaitable<void> special_status_message(Channel& channel) {
  return expect_status(channel, "\t\ntest with whitespace\r\nand Unicode BMP \xe2\x98\xba and non-BMP \xf0\x9f\x98\x88\t\n");
}

boost::asio::awaitable<void> unimplemented_method(Channel& channel) {
  check(co_await channel.unary("/grpc.testing.TestService/UnimplementedCall", "", {}, limit()), Code::unimplemented);
}

boost::asio::awaitable<void> unimplemented_service(Channel& channel) {
  check(co_await channel.unary("/grpc.testing.UnimplementedService/UnimplementedCall", "", {}, limit()), Code::unimplemented);
}

boost::asio::awaitable<void> cancel_after_begin(Channel& channel) {
  auto stream = co_await open(channel, "/grpc.testing.TestService/StreamingInputCall", {}, limit());
  stream->cancel();
  check(co_await finish(*stream), Code::cancelled);
}

boost::asio::awaitable<void> cancel_after_first_response(Channel& channel) {
  auto stream = co_await open(channel, kDuplex, {}, limit());
  co_await send(*stream, duplex_request({31415}, 27182));
  co_await receive(*stream, 31415);
  stream->cancel();
  check(co_await finish(*stream), Code::cancelled);
}

boost::asio::awaitable<void> timeout_on_sleeping_server(Channel& channel) {
  auto opened = co_await channel.open(kDuplex, {}, CallContext::with_timeout(1ms));
  // A millisecond may be over before the connection is there.
  if (!opened) {
    check(opened.error().kind == core::ErrorKind::deadline_exceeded, "it is not the deadline that ended it");
    co_return;
  }
  auto& stream = *opened.value();
  (void)co_await stream.write(duplex_request({}, 27182));
  check(co_await finish(stream), Code::deadline_exceeded);
}

// --- the contract's own ---

boost::asio::awaitable<void> contract_log(Channel& channel) {
  ::logs::LogRequest request;
  request.mutable_logentry()->set_name("event");
  request.mutable_logentry()->set_data("Some kind of data");
  const auto result = co_await channel.unary("/logs.LogService/WriteLog", request.SerializeAsString(), {}, limit());
  check(result, Code::ok);
  ::logs::LogResponse response;
  check(response.ParseFromString(result.message), "the response is not understood");
  check(response.result() == "logged!", "the response is " + response.result());
}

boost::asio::awaitable<void> contract_bulk(Channel& channel) {
  constexpr std::uint64_t kCount = 200;
  auto stream = co_await open(channel, "/flexiconnect.v1.Logger/WriteLogs", {}, limit());
  for (std::uint64_t n = 0; n < kCount; ++n) {
    ::flexiconnect::v1::NumberedLog message;
    message.set_sequence(n);
    message.mutable_entry()->set_name("n");
    message.mutable_entry()->set_data(std::to_string(n));
    message.set_id("bulk-" + std::to_string(n));
    co_await send(*stream, message.SerializeAsString());
  }
  stream->close_send();
  std::set<std::uint64_t> acknowledged;
  for (;;) {
    const auto message = co_await stream->read();
    if (!message || !message.value()) break;
    ::flexiconnect::v1::Acknowledgement acknowledgement;
    check(acknowledgement.ParseFromString(*message.value()) && acknowledgement.has_reply(), "an acknowledgement is wrong");
    const auto& id = acknowledgement.reply().id();
    check(id == "bulk-" + std::to_string(acknowledgement.sequence()), "an acknowledgement's id is " + id);
    acknowledged.insert(acknowledgement.sequence());
  }
  check(co_await stream->finish(), Code::ok);
  check(acknowledged.size() == kCount, std::to_string(acknowledged.size()) + " acknowledgements");
}

using Case = boost::asio::awaitable<void> (*)(Channel& channel);
const std::map<std::string, Case>& cases() {
  static const std::map<std::string, Case> kCases{
      {"empty_unary", empty_unary},
      {"large_unary", large_unary},
      {"client_streaming", client_streaming},
      {"server_streaming", server_streaming},
      {"ping_pong", ping_pong},
      {"empty_stream", empty_stream},
      {"custom_metadata", custom_metadata},
      {"status_code_and_message", status_code_and_message},
      {"special_status_message", special_status_message},
      {"unimplemented_method", unimplemented_method},
      {"unimplemented_service", unimplemented_service},
      {"cancel_after_begin", cancel_after_begin},
      {"cancel_after_first_response", cancel_after_first_response},
      {"timeout_on_sleeping_server", timeout_on_sleeping_server},
      {"contract_log", contract_log},
      {"contract_bulk", contract_bulk},
  };
  return kCases;
}

}  // namespace

std::string run_interop_case(runtime::Shards& shards, Channel& channel, const std::string& name) {
  const auto found = cases().find(name);
  if (found == cases().end()) return "there is no such case";
  try {
    shards.run(found->second(channel));
  } catch (const std::exception& e) {
    return e.what();
  }
  return {};
}

}  // namespace flexi::grpc_tests
