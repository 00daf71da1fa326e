// SPDX-License-Identifier: Apache-2.0
#include <filesystem>

#include "transports.hpp"
#include "transports/http/http.hpp"
#include "transports/inproc/inproc.hpp"
#include "transports/queue/embedded_queue.hpp"

namespace flexi::conformance {

namespace {

namespace inproc = transports::inproc;
namespace http = transports::http;
namespace queue = transports::queue;

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
  static const std::vector<TransportUnderTest> kAll{
      {"inproc", [](runtime::Shards&) { return std::make_unique<InprocFixture>(); }},
      {"http", [](runtime::Shards& shards) { return std::make_unique<HttpFixture>(shards); }},
      {"queue", [](runtime::Shards& shards) { return std::make_unique<QueueFixture>(shards); }},
  };
  return kAll;
}

const std::vector<Waiver>& waivers() {
  static const std::vector<Waiver> kWaivers{
      {"inproc", "TheLimitHoldsToTheByte", "a call in one process copies no body, so there is none to limit"},
      {"inproc", "DetailStaysBehind", "the caller is the same process, whose edge logs the detail"},
      {"inproc", "GarbageHarmsOneConnectionOnly", "there are no connections"},
      {"inproc", "ASlowReaderIsNotBufferedFor", "there are no buffers"},
      {"queue", "TheLimitHoldsToTheByte", "what limits one body is the ingress; the queue limits their sum"},
      {"queue", "DetailStaysBehind", "the caller is the same process, whose edge logs the detail"},
      {"queue", "CancelReachesTheHandler", "a message that is queued is handled though its caller left"},
      {"queue", "AnAbsentPeerIsUnavailableInTime", "the queue is in this process"},
      {"queue", "AnEndpointThatMakesNoSenseIsRefused", "the queue is in this process, so there is no endpoint"},
      {"queue", "GarbageHarmsOneConnectionOnly", "there are no connections"},
      {"queue", "ASlowReaderIsNotBufferedFor", "answers are as many as waiters, which are limited"},
  };
  return kWaivers;
}

}  // namespace flexi::conformance
