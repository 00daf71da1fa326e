// SPDX-License-Identifier: Apache-2.0
#include "amqp_fixture.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "tests/support/rabbitmq.hpp"
#include "transports/amqp/amqp.hpp"

namespace flexi::conformance {

namespace {

namespace amqp = transports::amqp;

/// A server is served when it consumes: until then a message waits in its queue, and a caller with it.
class Transport final : public core::Transport {
 public:
  Transport(amqp::AmqpOptions options, amqp::Process process) : inner_(std::move(amqp::make_transport(std::move(options), process)).value()) {}
  core::Via via() const override { return inner_->via(); }
  core::Result<std::unique_ptr<core::Client>> connect(std::string endpoint) override { return inner_->connect(std::move(endpoint)); }
  core::Result<std::unique_ptr<core::Server>> serve(core::Handler& handler) override {
    auto server = inner_->serve(handler);
    for (int i = 0; server && !inner_->consuming() && i < 30'000; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return server;
  }
  core::awaitable<void> stop() { co_await inner_->stop(); }

 private:
  std::unique_ptr<amqp::AmqpTransport> inner_;
};

class AmqpFixture final : public TransportFixture {
 public:
  explicit AmqpFixture(runtime::Shards& shards) : shards_(shards), transport_(options(), {metrics_, readiness_, runtime::LogSink::none(), shards}) {}
  ~AmqpFixture() override { shards_.run(transport_.stop()); }
  core::Transport& transport() override { return transport_; }
  std::string absent_endpoint() override {
    // A port that was free a moment ago, and refuses now.
    boost::asio::io_context io;
    boost::asio::ip::tcp::acceptor acceptor(io, {boost::asio::ip::make_address("127.0.0.1"), 0});
    return "amqp://127.0.0.1:" + std::to_string(acceptor.local_endpoint().port());
  }
  core::Result<std::unique_ptr<core::Server>> serve_at(const std::string&, core::Handler& handler) override { return transport_.serve(handler); }
  std::size_t longest_data() override { return kMaxBody - std::string_view(R"({"name":"n","data":""})").size(); }

 private:
  static constexpr std::size_t kMaxBody = 2 << 20;
  amqp::AmqpOptions options() const {
    amqp::AmqpOptions options;
    options.url = vhost_.url();
    options.max_body_bytes = kMaxBody;
    options.retry_steps = 0;  // who waits for `stored` is told instead
    options.actions = {"throw", "wait", "no such/action?", "x"};
    for (auto kind : core::kAllErrorKinds) options.actions.emplace_back(core::to_string(kind));
    return options;
  }

  flexi::testing::RabbitMq rabbitmq_;
  flexi::testing::RabbitVhost vhost_{rabbitmq_};
  runtime::Shards& shards_;
  runtime::Metrics metrics_;
  runtime::Readiness readiness_;
  Transport transport_;
};

}  // namespace

std::unique_ptr<TransportFixture> make_amqp_fixture(runtime::Shards& shards) {
  if (missing_rabbitmq()) return nullptr;
  return std::make_unique<AmqpFixture>(shards);
}

std::optional<std::string> missing_rabbitmq() { return flexi::testing::RabbitMq::missing(); }

}  // namespace flexi::conformance
