// SPDX-License-Identifier: Apache-2.0
#include "transports/queue/embedded_queue.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/redirect_error.hpp>

#include "transports/queue/consumer.hpp"
#include "transports/queue/publisher.hpp"

namespace flexi::transports::queue {

namespace asio = boost::asio;
using core::Reply;
using core::Result;
using runtime::sqlite::Connection;

QueueMetrics::QueueMetrics(runtime::Metrics& m)
    : published(m.counter("flexi_queue_published_total", "Messages committed to the embedded queue")),
      duplicates(m.counter("flexi_queue_duplicates_total", "Messages that the embedded queue had already")),
      delivered(m.counter("flexi_queue_delivered_total", "Messages of the embedded queue that their service has stored")),
      retried(m.counter("flexi_queue_retried_total", "Failed attempts that are followed by another")),
      dead_lettered(m.counter("flexi_queue_dead_lettered_total", "Messages that the embedded queue gave up on")),
      expired(m.counter("flexi_queue_expired_total", "Messages whose caller's deadline passed before their turn")),
      refused(m.counter("flexi_queue_full_total", "Messages refused because the embedded queue was full")),
      depth(m.gauge("flexi_queue_depth", "Messages in the embedded queue, without dead letters")),
      oldest_age(m.gauge("flexi_queue_oldest_age_seconds", "Age of the oldest message in the embedded queue")),
      dead_letters(m.gauge("flexi_queue_dead_letters", "Dead letters of the embedded queue")) {}

struct EmbeddedQueue::Impl {
  Impl(Environment environment, QueueOptions options)
      : database(environment.database),
        counted_by_stores(environment.counted_by_stores),
        state(environment.database, environment.shards, environment.log, environment.metrics, environment.now, options),
        publisher(state), scope(environment.shards.executor(0), "queue", environment.log), tick(environment.shards.executor(0)) {}

  std::shared_ptr<Consumer> current() const {
    std::lock_guard lock(mutex);
    return consumer;
  }
  asio::awaitable<void> measure();

  runtime::sqlite::Database& database;
  const std::vector<std::string> counted_by_stores;
  QueueState state;
  Publisher publisher;
  runtime::TaskScope scope;
  asio::steady_timer tick;
  bool stopping = false;  ///< on shard 0
  mutable std::mutex mutex;
  std::shared_ptr<Consumer> consumer;  ///< none: nothing consumes
};

/// Gauges need a look at the table, which nobody takes while nothing moves.
asio::awaitable<void> EmbeddedQueue::Impl::measure() {
  while (!stopping) {
    auto oldest = co_await database.read([](Connection& c) { return QueueTable::oldest(c); }, {});
    if (oldest) state.metrics.oldest_age.set(oldest.value() ? static_cast<double>(state.now_micros() - oldest.value()) / 1e6 : 0);
    const auto dead = state.dead.load();
    state.metrics.dead_letters.set(static_cast<double>(dead));
    state.metrics.depth.set(static_cast<double>(std::max<std::int64_t>(state.held.load() - dead, 0)));
    if (stopping) break;
    tick.expires_after(std::chrono::seconds(2));
    boost::system::error_code ignored;
    co_await tick.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
}

namespace {

class QueueClient final : public core::Client {
 public:
  explicit QueueClient(EmbeddedQueue& queue) : queue_(queue) {}
  core::awaitable<Result<Reply>> handle(core::Request request, core::CallContext context) override {
    if (stopped_) co_return core::unavailable("the queue's client is stopped");
    auto reply = co_await queue_.publish(std::move(request), std::move(context));
    // Callers see which queue it was: not RabbitMQ.
    if (reply) reply.value().way = "amqp;queue=embedded";
    co_return reply;
  }
  core::awaitable<void> stop(core::StopOptions) override {
    stopped_ = true;
    co_return;
  }

 private:
  EmbeddedQueue& queue_;
  std::atomic<bool> stopped_{false};
};

class QueueServer final : public core::Server {
 public:
  QueueServer(asio::any_io_executor executor, std::shared_ptr<Consumer> consumer, std::function<void()> gone)
      : executor_(std::move(executor)), consumer_(std::move(consumer)), gone_(std::move(gone)) {}
  std::string endpoint() const override { return "queue:embedded"; }
  core::awaitable<void> stop(core::StopOptions options) override {
    co_await asio::co_spawn(executor_, consumer_->stop(options), asio::use_awaitable);
    gone_();
    consumer_.reset();
  }

 private:
  asio::any_io_executor executor_;
  std::shared_ptr<Consumer> consumer_;
  std::function<void()> gone_;
};

}  // namespace

EmbeddedQueue::EmbeddedQueue(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
EmbeddedQueue::~EmbeddedQueue() = default;

Result<std::unique_ptr<EmbeddedQueue>> EmbeddedQueue::open(Environment environment, QueueOptions options) {
  FLEXI_TRY(environment.database.migrate("queue", QueueTable::migrations()));
  auto impl = std::make_unique<Impl>(environment, options);
  auto& state = impl->state;
  FLEXI_TRY(environment.database.write_now([&state](Connection& c) -> Result<void> {
    FLEXI_TRY(state.table.load(c));
    FLEXI_TRY(auto ledger, QueueTable::ledger(c));
    const auto total = ledger.total();
    state.held = total.in_flight + total.dead_lettered;
    state.held_bytes = total.bytes;
    state.dead = total.dead_lettered;
    return core::ok();
  }));
  asio::post(impl->scope.executor(), [impl = impl.get()] {
    impl->state.writes.start([impl] {
      if (auto consumer = impl->current()) consumer->wake();
    });
    impl->scope.spawn(impl->measure());
  });
  return std::unique_ptr<EmbeddedQueue>(new EmbeddedQueue(std::move(impl)));
}

Result<std::unique_ptr<core::Server>> EmbeddedQueue::serve(core::Handler& handler) {
  std::lock_guard lock(impl_->mutex);
  if (impl_->consumer) return core::conflict("the queue has a consumer already");
  impl_->consumer = std::make_shared<Consumer>(impl_->state, handler);
  impl_->consumer->start();
  auto gone = [impl = impl_.get()] {
    std::lock_guard inner(impl->mutex);
    impl->consumer.reset();
  };
  return std::unique_ptr<core::Server>(std::make_unique<QueueServer>(impl_->scope.executor(), impl_->consumer, std::move(gone)));
}

Result<std::unique_ptr<core::Client>> EmbeddedQueue::connect(std::string) { return std::unique_ptr<core::Client>(std::make_unique<QueueClient>(*this)); }

core::awaitable<Result<Reply>> EmbeddedQueue::publish(core::Request request, core::CallContext context) {
  auto consumer = impl_->current();
  if (consumer && consumer->stopping()) consumer.reset();
  if (request.action != core::actions::kAuth) co_return co_await impl_->publisher.publish(std::move(request), std::move(context), consumer != nullptr);
  if (request.ack == core::Ack::accepted) co_return core::invalid_argument("authentication can't be acknowledged with accepted: use stored");
  if (context.expired()) co_return runtime::cancelled_error(core::Sent::no);
  if (!consumer) co_return core::unavailable("nothing consumes the queue at the moment");
  co_return co_await consumer->call_transient(std::move(request), std::move(context));
}

core::awaitable<Result<core::DeadLetterPage>> EmbeddedQueue::list(unsigned limit, std::string cursor, core::CallContext context) {
  auto job = [limit, cursor = std::move(cursor)](Connection& c) { return QueueTable::list_dead(c, limit, cursor); };
  co_return co_await impl_->database.read(std::move(job), std::move(context));
}

core::awaitable<Result<core::DeadLetter>> EmbeddedQueue::get(core::DeadLetterKey key, core::CallContext context) {
  auto job = [key = std::move(key)](Connection& c) { return QueueTable::get_dead(c, key); };
  co_return co_await impl_->database.read(std::move(job), std::move(context));
}

core::awaitable<Result<void>> EmbeddedQueue::replay(core::DeadLetterKey key, core::CallContext context) {
  if (context.expired()) co_return runtime::cancelled_error(core::Sent::no);
  auto job = [key = std::move(key), state = &impl_->state](Connection& c, QueueTable& table) { return table.replay(c, key, state->now_micros()); };
  auto count = [state = &impl_->state](const std::int64_t& moved) { state->dead.fetch_sub(moved); };
  auto moved = co_await impl_->state.writes.call<std::int64_t>(std::move(job), true, std::move(count));
  if (!moved) co_return moved.error();
  co_return core::ok();
}

core::awaitable<Result<void>> EmbeddedQueue::discard(core::DeadLetterKey key, core::CallContext context) {
  if (context.expired()) co_return runtime::cancelled_error(core::Sent::no);
  auto job = [key = std::move(key), state = &impl_->state](Connection& c, QueueTable& table) { return table.discard(c, key, state->now_micros()); };
  auto count = [state = &impl_->state](const std::pair<std::int64_t, std::int64_t>& removed) {
    state->dead.fetch_sub(removed.second);
    state->held.fetch_sub(removed.second);
    state->held_bytes.fetch_sub(removed.first);
  };
  auto removed = co_await impl_->state.writes.call<std::pair<std::int64_t, std::int64_t>>(std::move(job), false, std::move(count));
  if (!removed) co_return removed.error();
  co_return core::ok();
}

core::awaitable<Result<core::DeadLettersSwept>> EmbeddedQueue::sweep(core::DeadLetterSweep what, core::CallContext context) {
  core::DeadLettersSwept all{.more = true};
  const bool replays = what.fate == core::DeadLetterSweep::Fate::replay;
  // A transaction for some: others write in between.
  while (all.more && !context.expired()) {
    auto job = [what, state = &impl_->state](Connection& c, QueueTable& table) { return table.sweep_some(c, what, state->now_micros()); };
    auto count = [state = &impl_->state, replays](const QueueTable::Swept& swept) {
      state->dead.fetch_sub(swept.letters);
      if (replays) return;
      state->held.fetch_sub(swept.letters);
      state->held_bytes.fetch_sub(swept.bytes);
    };
    auto swept = co_await impl_->state.writes.call<QueueTable::Swept>(std::move(job), replays, std::move(count));
    if (!swept) co_return swept.error();
    all.letters += static_cast<std::uint64_t>(swept.value().letters);
    all.more = swept.value().more;
  }
  co_return all;
}

core::awaitable<Result<std::optional<core::Receipt>>> EmbeddedQueue::find_receipt(core::MessageId id, core::CallContext context) {
  auto job = [id = std::move(id)](Connection& c) { return QueueTable::find(c, id.str()); };
  co_return co_await impl_->database.read(std::move(job), std::move(context));
}

core::awaitable<Result<EmbeddedQueue::Status>> EmbeddedQueue::status(core::CallContext context) {
  auto oldest = co_await impl_->database.read([](Connection& c) { return QueueTable::oldest(c); }, std::move(context));
  if (!oldest) co_return oldest.error();
  auto& state = impl_->state;
  Status status;
  status.dead_letters = state.dead.load();
  status.depth = std::max<std::int64_t>(state.held.load() - status.dead_letters, 0);
  status.bytes = state.held_bytes.load();
  if (oldest.value() != 0) status.oldest_age = std::chrono::duration_cast<std::chrono::seconds>(std::chrono::microseconds(std::max<std::int64_t>(state.now_micros() - oldest.value(), 0)));
  co_return status;
}

core::awaitable<Result<Ledger>> EmbeddedQueue::ledger(core::CallContext context) {
  co_return co_await impl_->database.read([](Connection& c) { return QueueTable::ledger(c); }, std::move(context));
}

core::awaitable<Result<std::vector<core::Account>>> EmbeddedQueue::accounts(core::CallContext context) {
  auto job = [elsewhere = &impl_->counted_by_stores](Connection& c) -> Result<std::vector<core::Account>> {
    // One view of the tables, or a message on its way from one to the other would be counted twice, or not at all.
    FLEXI_TRY(c.use("BEGIN").run());
    auto counted = QueueTable::count(c);
    auto book = QueueTable::book(c);
    FLEXI_TRY(c.use("COMMIT").run());
    if (!counted) return counted.error();
    if (!book) return book.error();
    core::Account account{.book = std::move(book).value(), .lines = {}};
    for (auto& line : counted.value().lines) {
      const bool by_store = std::find(elsewhere->begin(), elsewhere->end(), line.action) != elsewhere->end();
      account.lines.push_back({.action = line.action, .way = std::string(core::to_string(core::Via::amqp)), .accepted = line.accepted, .stored = by_store ? 0 : line.stored,
                               .dead_lettered = line.dead_lettered, .discarded = line.discarded, .expired = line.expired, .in_flight = line.in_flight,
                               .duplicates = line.duplicates, .redelivered = line.redelivered});
    }
    std::vector<core::Account> all;
    all.push_back(std::move(account));
    return all;
  };
  co_return co_await impl_->database.read(std::move(job), std::move(context));
}

core::awaitable<Result<std::vector<core::Doubt>>> EmbeddedQueue::doubts(unsigned limit, core::CallContext context) {
  auto job = [limit](Connection& c) { return QueueTable::doubts(c, limit); };
  co_return co_await impl_->database.read(std::move(job), std::move(context));
}

core::awaitable<Result<void>> EmbeddedQueue::resolve(core::Doubt doubt, bool stored, core::CallContext context) {
  if (context.expired()) co_return runtime::cancelled_error(core::Sent::no);
  auto job = [doubt = std::move(doubt), stored](Connection& c, QueueTable& table) -> Result<bool> {
    FLEXI_TRY(table.resolve(c, doubt, stored));
    return true;
  };
  auto resolved = co_await impl_->state.writes.call<bool>(std::move(job), false);
  if (!resolved) co_return resolved.error();
  co_return core::ok();
}

bool EmbeddedQueue::purge_some(Connection& connection) { return impl_->state.table.purge_some(connection, impl_->state.now_micros()); }

void EmbeddedQueue::wake() {
  asio::post(impl_->scope.executor(), [impl = impl_.get()] {
    if (auto consumer = impl->current()) consumer->wake();
  });
}

core::awaitable<void> EmbeddedQueue::stop() {
  auto work = [](Impl* impl) -> asio::awaitable<void> {
    impl->stopping = true;
    impl->tick.cancel();
    co_await impl->scope.join();
    co_await impl->state.writes.stop();
  };
  co_await asio::co_spawn(impl_->scope.executor(), work(impl_.get()), asio::use_awaitable);
}

}  // namespace flexi::transports::queue
