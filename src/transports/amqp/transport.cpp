// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/redirect_error.hpp>

#include "transports/amqp/amqp.hpp"
#include "transports/amqp/client.hpp"
#include "transports/amqp/consumer.hpp"
#include "transports/amqp/desk.hpp"

namespace flexi::transports::amqp {

namespace asio = boost::asio;
using core::Result;

namespace {

constexpr auto kLookEvery = std::chrono::seconds(15);
constexpr auto kLookTime = std::chrono::seconds(5);

core::Error no_url() { return core::invalid_argument("no RabbitMQ is configured: amqp.url is empty"); }

}  // namespace

struct AmqpTransport::Impl {
  Impl(AmqpOptions given, Process given_process)
      : options(std::move(given)), process(std::move(given_process)), teller(process.metrics, process.events), health(process.readiness, process.log),
        scope(process.shards.executor(0), "RabbitMQ depths", process.log), timer(process.shards.executor(0)) {
    if (auto parsed = parse_url(options.url)) own = std::make_unique<Shared>(make_shared(parsed.value()));
  }

  Shared make_shared(const Endpoint& endpoint) { return Shared{options, endpoint, Topology(options), process.log, teller, health}; }
  bool is_consumed_elsewhere(const WorkQueue& work) const {
    auto& others = options.consumed_elsewhere;
    return std::find(others.begin(), others.end(), work.action) != others.end();
  }
  std::string next_name(const char* role) { return role + std::string(" ") + std::to_string(++made); }

  Result<std::unique_ptr<core::Server>> serve(core::Handler& handler, bool requests) {
    if (!own) return no_url();
    auto shared = std::make_unique<Shared>(make_shared(own->endpoint));
    std::vector<const WorkQueue*> works;
    for (auto& work : shared->topology.works())
      if (work.action.empty() == requests && !is_consumed_elsewhere(work)) works.push_back(&work);
    ReadJob read = [&o = shared->options](const WorkQueue& work, Message& message) { return read_job(work.action, message, o); };
    if (requests)
      read = [&o = shared->options, token = process.admin_token](const WorkQueue&, Message& message) { return read_handle_request(message, o, token); };
    auto consumer = std::make_unique<Consumer>(process.shards, std::move(shared), handler, std::move(works), next_name(requests ? "requests" : "listener"), std::move(read));
    consumer->start();
    {
      std::lock_guard lock(mutex);
      consumers.push_back(consumer.get());
    }
    watch_depths();
    return std::unique_ptr<core::Server>(std::make_unique<Served>(*this, std::move(consumer)));
  }

  std::unique_ptr<core::Client> connect(const Endpoint& endpoint) {
    const auto number = ++made;
    auto executor = process.shards.executor(number % process.shards.size());
    return std::make_unique<AmqpClient>(executor, std::make_unique<Shared>(make_shared(endpoint)), "publisher " + std::to_string(number));
  }

  /// A consumer that is known to the transport while it lives.
  struct Served final : core::Server {
    Served(Impl& i, std::unique_ptr<Consumer> c) : impl(i), consumer(std::move(c)) {}
    ~Served() override { forget(); }
    std::string endpoint() const override { return consumer->endpoint(); }
    core::awaitable<void> stop(core::StopOptions stop_options) override {
      forget();
      co_await consumer->stop(stop_options);
    }
    void forget() {
      std::lock_guard lock(impl.mutex);
      std::erase(impl.consumers, consumer.get());
    }
    Impl& impl;
    std::unique_ptr<Consumer> consumer;
  };

  void watch_depths() {
    asio::post(scope.executor(), [this] {
      if (!std::exchange(watching, true) && !stopping) scope.spawn(look_at_depths());
    });
  }

  /// Gauges for /metrics, which must not wait for RabbitMQ.
  core::awaitable<void> look_at_depths() {
    co_await asio::this_coro::throw_if_cancelled(false);
    while (!stopping) {
      auto seen = co_await Desk(scope.executor(), *own).depths(core::CallContext::with_timeout(kLookTime));
      if (seen)
        for (auto& depth : seen.value()) {
          process.metrics.gauge("flexi_amqp_queue_messages", "Messages that wait in RabbitMQ", {{"queue", depth.queue}}).set(depth.messages);
          process.metrics.gauge("flexi_amqp_queue_consumers", "Consumers of a queue in RabbitMQ", {{"queue", depth.queue}}).set(depth.consumers);
        }
      if (stopping) break;
      timer.expires_after(kLookEvery);
      boost::system::error_code ignored;
      co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
  }

  const AmqpOptions options;
  const Process process;
  Teller teller;
  Health health;
  std::unique_ptr<Shared> own;  ///< of options.url
  std::atomic<unsigned> made{0};
  std::mutex mutex;
  std::vector<Consumer*> consumers;
  std::string server_version;
  runtime::TaskScope scope;
  asio::steady_timer timer;
  bool watching = false, stopping = false;
};

AmqpTransport::AmqpTransport(AmqpOptions options, Process process) : impl_(std::make_unique<Impl>(std::move(options), std::move(process))) {}
AmqpTransport::~AmqpTransport() = default;

Result<std::unique_ptr<core::Server>> AmqpTransport::serve(core::Handler& handler) { return impl_->serve(handler, false); }
Result<std::unique_ptr<core::Server>> AmqpTransport::serve_requests(core::Handler& broker) { return impl_->serve(broker, true); }

Result<std::unique_ptr<core::Client>> AmqpTransport::connect(std::string endpoint) {
  FLEXI_TRY(auto there, parse_url(endpoint));
  if (!there.has_login && impl_->own) there.user = impl_->own->endpoint.user, there.password = impl_->own->endpoint.password;
  return impl_->connect(there);
}

Result<std::unique_ptr<core::Client>> AmqpTransport::connect() {
  if (!impl_->own) return no_url();
  return impl_->connect(impl_->own->endpoint);
}

namespace {

/// Runs a visit on the desk's own thread. A cancellation does not cross; the visit's deadline holds.
template <class T>
core::awaitable<Result<T>> there(asio::any_io_executor executor, core::awaitable<Result<T>> visit) {
  std::optional<Result<T>> result;
  auto work = [](core::awaitable<Result<T>> v, std::optional<Result<T>>* out) -> core::awaitable<void> { out->emplace(co_await std::move(v)); };
  co_await asio::co_spawn(executor, work(std::move(visit), &result), asio::bind_cancellation_slot(asio::cancellation_slot(), asio::use_awaitable));
  co_return std::move(*result);
}

}  // namespace

core::awaitable<Result<core::DeadLetterPage>> AmqpTransport::list(unsigned limit, std::string cursor, core::CallContext context) {
  if (!impl_->own) co_return no_url();
  Desk desk(impl_->scope.executor(), *impl_->own);
  co_return co_await there(impl_->scope.executor(), desk.list(limit, std::move(cursor), std::move(context)));
}

core::awaitable<Result<core::DeadLetter>> AmqpTransport::get(core::DeadLetterKey key, core::CallContext context) {
  if (!impl_->own) co_return no_url();
  Desk desk(impl_->scope.executor(), *impl_->own);
  co_return co_await there(impl_->scope.executor(), desk.get(std::move(key), std::move(context)));
}

core::awaitable<Result<void>> AmqpTransport::replay(core::DeadLetterKey key, core::CallContext context) {
  if (!impl_->own) co_return no_url();
  Desk desk(impl_->scope.executor(), *impl_->own);
  co_return co_await there(impl_->scope.executor(), desk.end(std::move(key), Desk::Fate::replay, std::move(context)));
}

core::awaitable<Result<void>> AmqpTransport::discard(core::DeadLetterKey key, core::CallContext context) {
  if (!impl_->own) co_return no_url();
  Desk desk(impl_->scope.executor(), *impl_->own);
  co_return co_await there(impl_->scope.executor(), desk.end(std::move(key), Desk::Fate::discard, std::move(context)));
}

core::awaitable<Result<core::DeadLettersSwept>> AmqpTransport::sweep(core::DeadLetterSweep what, core::CallContext context) {
  if (!impl_->own) co_return no_url();
  Desk desk(impl_->scope.executor(), *impl_->own);
  co_return co_await there(impl_->scope.executor(), desk.sweep(std::move(what), std::move(context)));
}

core::awaitable<Result<std::vector<QueueDepth>>> AmqpTransport::depths(core::CallContext context) {
  if (!impl_->own) co_return no_url();
  Desk desk(impl_->scope.executor(), *impl_->own);
  auto depths = co_await there(impl_->scope.executor(), desk.depths(std::move(context)));
  std::lock_guard lock(impl_->mutex);
  if (!desk.server_version().empty()) impl_->server_version = desk.server_version();
  co_return depths;
}

std::string AmqpTransport::server_version() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->server_version;
}

core::awaitable<Result<void>> AmqpTransport::remove_topology(core::CallContext) {
  if (!impl_->own) co_return no_url();
  auto work = [](Impl* impl) -> core::awaitable<Result<void>> {
    Connection connection(impl->scope.executor(), impl->own->endpoint, impl->options, impl->process.log, "flexiconnect remove");
    auto done = co_await connection.open();
    if (done) done = co_await impl->own->topology.remove(connection, 1);
    co_await connection.finish();
    co_return done;
  };
  co_return co_await there(impl_->scope.executor(), work(impl_.get()));
}

bool AmqpTransport::consuming() const {
  std::lock_guard lock(impl_->mutex);
  for (auto* consumer : impl_->consumers)
    if (consumer->consuming()) return true;
  return false;
}

core::awaitable<void> AmqpTransport::stop() {
  auto work = [](Impl* impl) -> core::awaitable<void> {
    co_await asio::this_coro::throw_if_cancelled(false);
    impl->stopping = true;
    impl->timer.cancel();
    co_await impl->scope.join();
  };
  co_await asio::co_spawn(impl_->scope.executor(), work(impl_.get()), asio::use_awaitable);
}

Result<std::unique_ptr<AmqpTransport>> make_transport(AmqpOptions options, Process process) {
  std::string all;
  for (auto& problem : options.validate()) all += (all.empty() ? "" : "; ") + problem.path + " " + problem.message;
  for (auto& action : options.actions)
    if (action.empty() || action.size() > 64 || action.find_first_of("*#") != action.npos || core::is_administrative(action) ||
        action == core::actions::kLog || action == core::actions::kMail || action == core::actions::kAuth)
      all += (all.empty() ? "" : "; ") + ("action \"" + action + "\" can't have a queue");
  if (!all.empty()) return core::invalid_argument("amqp: " + all);
  return std::make_unique<AmqpTransport>(std::move(options), std::move(process));
}

}  // namespace flexi::transports::amqp
