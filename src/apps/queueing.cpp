// SPDX-License-Identifier: Apache-2.0
#include "apps/queueing.hpp"

namespace flexi::apps {

using core::Result;

namespace {

using Sights = std::map<std::string, services::broker::QueueSight>;

/// What waits in RabbitMQ, by action.
core::awaitable<Result<Sights>> sights_of(transports::amqp::AmqpTransport* rabbitmq, core::CallContext context) {
  using Role = transports::amqp::QueueDepth::Role;
  auto depths = co_await rabbitmq->depths(std::move(context));
  if (!depths) co_return depths.error();
  Sights all;
  for (auto& depth : depths.value()) {
    auto& sight = all[depth.action];
    (depth.role == Role::dead ? sight.dead : sight.ready) += depth.messages;
    sight.consumers += depth.consumers;
  }
  co_return all;
}

services::broker::PublishedOptions published_options(const transports::amqp::AmqpOptions& amqp, std::vector<std::string> actions) {
  // A consumer works off its messages one after the other, so many at once. One that has frozen is found out by its heartbeat.
  const auto rounds = (amqp.prefetch + amqp.concurrency - 1) / amqp.concurrency;
  const auto hold = rounds * amqp.attempt_timeout + 2 * amqp.heartbeat + std::chrono::seconds(2);
  return {.actions = std::move(actions), .hold = hold, .prefetch = amqp.prefetch, .letters = static_cast<unsigned>(amqp.browse_messages)};
}

}  // namespace

Result<void> Queueing::open(const Settings& settings, const RoleTraits& role, Storage& storage, Process& process, std::string admin_token,
                            std::vector<std::string> asked) {
  storage_ = &storage;
  if (storage.queue) {
    letters_ = storage.queue.get();
    FLEXI_TRY(publisher_, storage.queue->connect(""));
    return core::ok();
  }
  if (!settings.has_rabbitmq() || !(role.broker || role.listener)) return core::ok();
  auto options = settings.amqp;
  for (auto& [name, action] : settings.actions) {
    options.actions.push_back(name);
    if (action.has_own_consumer()) options.consumed_elsewhere.push_back(name);
  }
  FLEXI_TRY(rabbitmq_, transports::amqp::make_transport(std::move(options), {process.metrics, process.readiness, process.log, process.shards, std::move(admin_token)}));
  letters_ = rabbitmq_.get();
  if (!role.broker) return core::ok();
  FLEXI_TRY(publisher_, rabbitmq_->connect());
  auto sights = [rabbitmq = rabbitmq_.get()](core::CallContext context) { return sights_of(rabbitmq, std::move(context)); };
  published_.emplace(published_options(settings.amqp, std::move(asked)),
                     services::broker::PublishedPorts{.publisher = *publisher_,
                                                      .store = *storage.published,
                                                      .letters = *rabbitmq_,
                                                      .sights = std::move(sights),
                                                      .executor = process.shards.executor(0),
                                                      .log = process.log,
                                                      .metrics = process.metrics});
  published_letters_.emplace(*rabbitmq_, *published_);
  auto spool = settings.spool;
  if (spool.directory.empty()) spool.directory = settings.data_dir + "/spool";
  spool_ = transports::spool::Spool::open({process.shards, process.log, process.metrics}, spool, *published_);
  letters_ = &joined_.emplace(std::vector<std::reference_wrapper<core::DeadLetters>>{*published_letters_, *spool_});
  return core::ok();
}

std::optional<services::broker::BrokerWay> Queueing::way() {
  if (spool_) return services::broker::BrokerWay{core::Via::amqp, *spool_, &spool_->straight(), &spool_->waiting()};
  if (publisher_) return services::broker::BrokerWay{core::Via::amqp, *publisher_};
  return std::nullopt;
}

std::vector<core::ReceiptSource*> Queueing::receipts() {
  std::vector<core::ReceiptSource*> all;
  if (spool_) all.push_back(spool_.get());
  if (storage_->queue) all.push_back(storage_->queue.get());
  return all;
}

Result<void> Queueing::consume(core::Handler& listener) {
  if (storage_->queue) {
    FLEXI_TRY(consumer_, storage_->queue->serve(listener));
  } else if (rabbitmq_) {
    FLEXI_TRY(consumer_, rabbitmq_->serve(listener));
  }
  return core::ok();
}

Result<void> Queueing::take_requests(core::Handler& broker) {
  if (rabbitmq_) {
    FLEXI_TRY(requests_, rabbitmq_->serve_requests(broker));
  }
  return core::ok();
}

core::awaitable<void> Queueing::stop_requests(core::StopOptions grace) {
  if (requests_) co_await requests_->stop(grace);
}

core::awaitable<void> Queueing::stop(const StopTime& time) {
  if (consumer_) co_await consumer_->stop(time.left());
  if (spool_) co_await spool_->stop(time.left());
  if (publisher_) co_await publisher_->stop(time.left());
  if (published_) co_await published_->stop();  // it notes what the spool still handed over
  if (rabbitmq_) co_await rabbitmq_->stop();
  if (storage_ && storage_->queue) co_await storage_->queue->stop();
}

}  // namespace flexi::apps
