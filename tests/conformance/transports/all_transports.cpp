// SPDX-License-Identifier: Apache-2.0
#include <filesystem>

#include "amqp_fixture.hpp"
#include "transports.hpp"
#include "transports/grpc/grpc.hpp"
#include "transports/http/http.hpp"
#include "transports/inproc/inproc.hpp"
#include "transports/queue/embedded_queue.hpp"
#include "transports/rpc/rpc.hpp"

namespace flexi::conformance {

namespace {

namespace inproc = transports::inproc;
namespace grpc = transports::grpc;
namespace http = transports::http;
namespace queue = transports::queue;
namespace rpc = transports::rpc;

class InprocFixture final : public TransportFixture {
 public:
  core::Transport& transport() override { return *transport_; }
  std::string absent_endpoint() override { return "inproc:nobody"; }
  core::Result<std::unique_ptr<core::Server>> serve_at(const std::string&, core::Handler& handler) override { return transport_->serve(handler); }

 private:
  inproc::Network network_;
  std::unique_ptr<core::Transport> transport_ = inproc::make_transport(network_, {});
};

class HttpFixture final : public TransportFixture {
 public:
  explicit HttpFixture(runtime::Shards& shards) : process_{metrics_, readiness_, runtime::LogSink::none(), shards, "token"} {
    options_.listen = "127.0.0.1:0";
    options_.max_body_bytes = 2 << 20;
    transport_ = http::make_transport(options_, client_options(), process_);
  }
  core::Transport& transport() override { return *transport_; }
  std::string absent_endpoint() override {
    // A port that was free a moment ago, and refuses now.
    auto server = http::serve(options_, {process_, nullptr, nullptr, {}});
    auto endpoint = server.value()->endpoint();
    process_.shards.run(stop(server.value().get()));
    return endpoint;
  }
  core::Result<std::unique_ptr<core::Server>> serve_at(const std::string& endpoint, core::Handler& handler) override {
    auto options = options_;
    options.listen = endpoint.substr(7);
    return http::serve(options, {process_, nullptr, &handler, {}});
  }
  std::size_t longest_data() override { return static_cast<std::size_t>(options_.max_body_bytes) - std::string_view(R"({"name":"n","data":""})").size(); }
  std::string flood() override { return "GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"; }

 private:
  static http::HttpClientOptions client_options() {
    http::HttpClientOptions options;
    options.set_aside = std::chrono::milliseconds(10);
    return options;
  }
  static boost::asio::awaitable<void> stop(core::Server* server) { co_await server->stop({}); }

  runtime::Metrics metrics_;
  runtime::Readiness readiness_;
  http::HttpServerOptions options_;
  http::Process process_;
  std::unique_ptr<core::Transport> transport_;
};

class RpcFixture final : public TransportFixture {
 public:
  explicit RpcFixture(runtime::Shards& shards) : process_{metrics_, readiness_, runtime::LogSink::none(), shards, "token"} {
    options_.listen = "127.0.0.1:0";
    options_.max_payload_bytes = 2 << 20;
    transport_ = rpc::make_transport(options_, client_options(), process_);
  }
  core::Transport& transport() override { return *transport_; }
  std::string absent_endpoint() override {
    // A port that was free a moment ago, and refuses now.
    auto server = rpc::serve(options_, {process_, nullptr, nullptr, {}});
    auto endpoint = server.value()->endpoint();
    process_.shards.run(stop(server.value().get()));
    return endpoint;
  }
  core::Result<std::unique_ptr<core::Server>> serve_at(const std::string& endpoint, core::Handler& handler) override {
    auto options = options_;
    options.listen = endpoint.substr(6);
    return rpc::serve(options, {process_, nullptr, &handler, {}});
  }
  std::size_t longest_data() override { return static_cast<std::size_t>(options_.max_payload_bytes) - 1; }
  std::string logged() override { return "Processed payload via RPC:n"; }
  std::string flood() override {
    // Bootstrap with question 0, and its Finish. Source: capnp/rpc.capnp, as `capnp encode` has them
    static constexpr unsigned char kBytes[] = {0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0,
                                               0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0,
                                               4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    return {reinterpret_cast<const char*>(kBytes), sizeof kBytes};
  }

 private:
  static rpc::RpcClientOptions client_options() {
    rpc::RpcClientOptions options;
    options.max_request_bytes = 4 << 20;
    options.set_aside = std::chrono::milliseconds(10);
    return options;
  }
  static boost::asio::awaitable<void> stop(core::Server* server) { co_await server->stop({}); }

  runtime::Metrics metrics_;
  runtime::Readiness readiness_;
  rpc::RpcServerOptions options_;
  rpc::Process process_;
  std::unique_ptr<core::Transport> transport_;
};

class GrpcFixture final : public TransportFixture {
 public:
  explicit GrpcFixture(runtime::Shards& shards) : process_{metrics_, readiness_, runtime::LogSink::none(), shards, "token"} {
    options_.listen = "127.0.0.1:0";
    options_.max_message_bytes = 2 << 20;
    options_.max_concurrent_streams = 100'000;  // what a flood meets first is the socket
    transport_ = grpc::make_transport(options_, client_options(), process_);
  }
  core::Transport& transport() override { return *transport_; }
  std::string absent_endpoint() override {
    // A port that was free a moment ago, and refuses now.
    auto server = grpc::serve(options_, {process_, nullptr, nullptr});
    auto endpoint = server.value()->endpoint();
    process_.shards.run(stop(server.value().get()));
    return endpoint;
  }
  core::Result<std::unique_ptr<core::Server>> serve_at(const std::string& endpoint, core::Handler& handler) override {
    auto options = options_;
    options.listen = endpoint.substr(7);
    return grpc::serve(options, {process_, nullptr, &handler});
  }
  /// LogEntry: name is a tag, a length and one byte; data a tag, three bytes of length, and itself.
  std::size_t longest_data() override { return static_cast<std::size_t>(options_.max_message_bytes) - 3 - 4; }
  std::string flood() override {
    std::string out;
    if (flooded_ == 0) out = std::string("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") + std::string("\0\0\0\4\0\0\0\0\0", 9);
    // HEADERS that end a stream: :method POST, :scheme http, :path / and an :authority, by HPACK's static table, and the content type of
    // gRPC. No method has that path, so the answer is headers alone, which no flow control holds back.
    const auto id = 2 * flooded_++ + 1;
    const std::string fields = "\x83\x86\x84\x01\x01x\x0f\x10\x10" "application/grpc";
    out += std::string("\0\0", 2) + static_cast<char>(fields.size()) + "\1\5";
    for (int shift : {24, 16, 8, 0}) out += static_cast<char>(id >> shift & 255);
    return out += fields;
  }

 private:
  static grpc::GrpcClientOptions client_options() {
    grpc::GrpcClientOptions options;
    options.set_aside = std::chrono::milliseconds(10);
    return options;
  }
  static boost::asio::awaitable<void> stop(core::Server* server) { co_await server->stop({}); }

  runtime::Metrics metrics_;
  runtime::Readiness readiness_;
  grpc::GrpcServerOptions options_;
  grpc::Process process_;
  std::unique_ptr<core::Transport> transport_;
  std::uint32_t flooded_ = 0;
};

class QueueFixture final : public TransportFixture {
 public:
  explicit QueueFixture(runtime::Shards& shards) : shards_(shards) {
    std::string name = std::filesystem::temp_directory_path() / "flexi-conformance-XXXXXX";
    folder_ = ::mkdtemp(name.data());
    runtime::sqlite::DatabaseOptions options;
    options.path = folder_ + "/queue.db";
    database_ = std::move(runtime::sqlite::Database::open(options, runtime::LogSink::none(), metrics_)).value();
    queue_ = std::move(queue::EmbeddedQueue::open({.database = *database_, .shards = shards, .log = runtime::LogSink::none(), .metrics = metrics_}, {})).value();
  }
  ~QueueFixture() override {
    shards_.run(queue_->stop());
    queue_.reset();
    database_.reset();
    std::filesystem::remove_all(folder_);
  }
  core::Transport& transport() override { return *queue_; }
  std::string absent_endpoint() override { return ""; }
  core::Result<std::unique_ptr<core::Server>> serve_at(const std::string&, core::Handler& handler) override { return queue_->serve(handler); }

 private:
  runtime::Shards& shards_;
  std::string folder_;
  runtime::Metrics metrics_;
  std::unique_ptr<runtime::sqlite::Database> database_;
  std::unique_ptr<queue::EmbeddedQueue> queue_;
};

}  // namespace

const std::vector<TransportUnderTest>& all_transports_under_test() {
  using Socket = Capabilities::Socket;
  // A call in one process copies no body, and the edge of that process logs the detail.
  static constexpr Capabilities kInProcess{.socket = Socket::none, .limits_bodies = false, .hides_detail = false};
  static constexpr Capabilities kEmbeddedQueue{.socket = Socket::none, .limits_bodies = false, .hides_detail = false, .cancels_handler = false, .reaches_others = false};
  static constexpr Capabilities kRabbitMq{.socket = Socket::of_a_broker, .cancels_handler = false};  // what is queued is handled
  static const std::vector<TransportUnderTest> kAll{
      {"inproc", [](runtime::Shards&) { return std::make_unique<InprocFixture>(); }, kInProcess},
      {"http", [](runtime::Shards& shards) { return std::make_unique<HttpFixture>(shards); }},
      {"rpc", [](runtime::Shards& shards) { return std::make_unique<RpcFixture>(shards); }},
      {"grpc", [](runtime::Shards& shards) { return std::make_unique<GrpcFixture>(shards); }},
      {"amqp", make_amqp_fixture, kRabbitMq, missing_rabbitmq},
      {"queue", [](runtime::Shards& shards) { return std::make_unique<QueueFixture>(shards); }, kEmbeddedQueue},
  };
  return kAll;
}

}  // namespace flexi::conformance
