// SPDX-License-Identifier: Apache-2.0
#include "transports/spool/spool.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>

#include "core/timestamp.hpp"
#include "runtime/blocking_pool.hpp"
#include "runtime/task_scope.hpp"
#include "transports/json_codec.hpp"
#include "transports/spool/drain.hpp"

namespace flexi::transports::spool {

namespace asio = boost::asio;
using core::Error;
using core::ErrorKind;
using core::Reply;
using core::Request;
using core::Result;
using runtime::Completion;
using runtime::sqlite::Atomicity;
using runtime::sqlite::Connection;

namespace {

constexpr auto kTick = std::chrono::seconds(2);

Error later(std::string message, std::string detail = {}) {
  auto error = core::unavailable(std::move(message), std::move(detail));
  error.retry_after = std::chrono::seconds(1);
  return error;
}

Error no_spool() { return later("the queue can't be reached, and there is no spool"); }

/// Only what was to be durably queued, and nothing with a password in it.
bool may_be_spooled(const Request& request) {
  return request.ack == core::Ack::accepted && request.action != core::actions::kAuth && !std::holds_alternative<core::Credentials>(request.payload);
}

/// The queue is away, or took longer than it had; not what the queue itself answers.
bool is_away(const Error& error) { return (error.kind == ErrorKind::unavailable || error.kind == ErrorKind::deadline_exceeded) && !error.answered; }

enum class Use { both, publisher, spool };

}  // namespace

class Spool::Impl {
 public:
  Impl(Environment environment, SpoolOptions options, core::Handler& publisher)
      : options_(std::move(options)), log_(environment.log), now_(environment.now), publisher_(publisher),
        store_(options_, log_, environment.metrics), writes_(environment.shards.executor(0), "spool", log_),
        drain_(environment.shards.executor(0), store_, options_, publisher, log_, environment.metrics, environment.now),
        tick_(environment.shards.executor(0)), spooled_(environment.metrics.counter("flexi_spool_accepted_total", "Messages accepted into the spool")),
        refused_(environment.metrics.counter("flexi_spool_refused_total", "Messages that the spool could not take: full, missing, or the disk refused")),
        depth_(environment.metrics.gauge("flexi_spool_depth", "Messages in the spool, without dead letters")),
        bytes_(environment.metrics.gauge("flexi_spool_bytes", "Payload bytes in the spool, with dead letters")),
        dead_(environment.metrics.gauge("flexi_spool_dead_letters", "Dead letters of the spool")),
        oldest_(environment.metrics.gauge("flexi_spool_oldest_age_seconds", "For how long the oldest message has been in the spool")) {}

  void begin();
  core::awaitable<Result<Reply>> handle(Request request, core::CallContext context, Use use);
  core::awaitable<void> stop(core::StopOptions options);
  SpoolStatus status() const;

  template <class Job>
  auto read(Job job, core::CallContext context) -> asio::awaitable<std::invoke_result_t<Job&, Connection&>> {
    auto* database = store_.database();
    if (!database) co_return no_spool();
    co_return co_await database->read(std::move(job), std::move(context));
  }
  template <class Job>
  auto write(Job job, core::CallContext context) -> asio::awaitable<std::invoke_result_t<Job&, Connection&>> {
    auto* database = store_.database();
    if (!database) co_return no_spool();
    co_return co_await database->write(Atomicity::many_statements, std::move(job), std::move(context));
  }

  std::int64_t now_micros() const { return core::to_unix_micros(now_()); }
  Store& store() { return store_; }
  Drain& drain() { return drain_; }

 private:
  core::awaitable<Result<Reply>> append(Request request, core::CallContext context);
  core::awaitable<void> write(Lane* lane, Spooled message, std::shared_ptr<Completion<Reply>> completion);
  core::awaitable<void> look_after();
  void measure(std::int64_t oldest);

  const SpoolOptions options_;
  runtime::LogSink& log_;
  const std::function<core::Timestamp()> now_;
  core::Handler& publisher_;
  Store store_;
  runtime::TaskScope writes_;  ///< and look_after()
  Drain drain_;
  asio::steady_timer tick_;
  std::atomic<bool> stopping_{false};
  std::atomic<std::int64_t> oldest_at_{0};
  runtime::Metrics::Counter spooled_, refused_;
  runtime::Metrics::Gauge depth_, bytes_, dead_, oldest_;
  std::optional<runtime::BlockingPool> chores_;  ///< last: its thread uses the others
};

void Spool::Impl::begin() {
  if (options_.directory.empty()) return;
  if (auto opened = store_.open(); !opened) {
    log_.error("there is no spool: what comes while RabbitMQ is down is refused", {{"directory", options_.directory}, {"detail", opened.error().detail}});
  } else {
    store_.adopt();
  }
  chores_.emplace(runtime::BlockingPoolOptions{.name = "spool", .threads = 1, .queue_limit = 4});
  asio::post(writes_.executor(), [this] { writes_.spawn(look_after()); });
}

/// Wakes the drains, takes the figures, and once in a while looks for spools that nobody has.
core::awaitable<void> Spool::Impl::look_after() {
  auto adopt_at = std::chrono::steady_clock::now() + options_.adopt_interval;
  bool said = !store_.database();
  while (!stopping_) {
    for (auto* lane : store_.lanes())
      if (lane->held > 0) drain_.wake(*lane);
    if (auto* database = store_.database()) {
      auto oldest = co_await database->read([](Connection& c) { return table::oldest(c); }, {});
      measure(oldest ? oldest.value() : 0);
    }
    if (stopping_) break;
    tick_.expires_after(std::min<std::chrono::nanoseconds>(kTick, options_.adopt_interval));
    boost::system::error_code ignored;
    co_await tick_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    if (stopping_ || std::chrono::steady_clock::now() < adopt_at) continue;
    auto chore = [this]() -> Result<bool> {
      FLEXI_TRY(store_.open());
      return store_.adopt();
    };
    auto done = co_await chores_->run(std::move(chore), {});
    if (done && said) log_.info("there is a spool now", {{"directory", options_.directory}});
    if (done) said = false;
    adopt_at = std::chrono::steady_clock::now() + options_.adopt_interval;
  }
}

void Spool::Impl::measure(std::int64_t oldest) {
  oldest_at_ = oldest;
  const auto s = status();
  depth_.set(static_cast<double>(s.messages));
  bytes_.set(static_cast<double>(s.bytes));
  dead_.set(static_cast<double>(s.dead_letters));
  oldest_.set(static_cast<double>(s.oldest_age.count()) / 1e6);
}

SpoolStatus Spool::Impl::status() const {
  SpoolStatus s;
  s.usable = store_.database() != nullptr;
  s.messages = store_.messages(), s.bytes = store_.bytes(), s.dead_letters = store_.dead();
  if (const auto at = oldest_at_.load(); at && s.messages > 0) s.oldest_age = std::chrono::microseconds(std::max<std::int64_t>(now_micros() - at, 0));
  return s;
}

core::awaitable<Result<Reply>> Spool::Impl::handle(Request request, core::CallContext context, Use use) {
  const bool spoolable = may_be_spooled(request), spools = use != Use::publisher;
  if (use == Use::spool && spoolable) co_return co_await append(std::move(request), std::move(context));
  if (request.action != core::actions::kAuth && store_.waits(request.action)) {
    if (spools && spoolable) co_return co_await append(std::move(request), std::move(context));
    co_return later("messages that came before wait for the queue");
  }
  if (!spoolable) co_return co_await publisher_.handle(std::move(request), std::move(context));
  // A queue that has frozen is as good as gone, long before its connection notices.
  auto limited = context.limited_to(options_.patience);
  if (!spools) co_return co_await publisher_.handle(std::move(request), std::move(limited));
  auto result = co_await publisher_.handle(request, std::move(limited));
  if (result || !is_away(result.error()) || context.expired()) co_return result;
  if ((co_await asio::this_coro::cancellation_state).cancelled() != asio::cancellation_type::none) co_return result;
  co_return co_await append(std::move(request), std::move(context));
}

core::awaitable<Result<Reply>> Spool::Impl::append(Request request, core::CallContext context) {
  if (context.expired()) co_return runtime::cancelled_error(core::Sent::no);
  if (!store_.database() || stopping_) {
    refused_.add();
    co_return no_spool();
  }
  if (auto text = check_utf8(request.payload); !text) co_return text.error();
  Spooled m;
  m.spooled_at = now_micros();
  m.id = request.id.empty() ? core::MessageId::generate().str() : request.id.str();
  m.action = std::move(request.action);
  m.payload = payload_to_json(request.payload);
  m.accepted_at = request.accepted_at == core::Timestamp{} ? m.spooled_at : core::to_unix_micros(request.accepted_at);
  m.traceparent = context.trace.to_traceparent();
  m.caller = std::move(context.caller);
  m.hops = std::move(context.hops);
  m.id_from_caller = request.id_from_caller;
  auto& lane = store_.lane(m.action);
  if (!store_.reserve(lane, m.bytes())) {
    refused_.add();
    co_return later("the queue can't be reached, and the spool is full");
  }
  // The write goes on where its caller leaves: what it commits must be counted.
  auto start = [this, &lane, &m](std::shared_ptr<Completion<Reply>> completion) {
    asio::post(writes_.executor(), [this, &lane, m = std::move(m), completion = std::move(completion)]() mutable {
      writes_.spawn(write(&lane, std::move(m), std::move(completion)));
    });
  };
  co_return co_await runtime::wait_for_completion<Reply>(std::move(start), runtime::cancelled_error(core::Sent::maybe));
}

core::awaitable<void> Spool::Impl::write(Lane* lane, Spooled message, std::shared_ptr<Completion<Reply>> completion) {
  const auto bytes = message.bytes();
  auto written = co_await store_.database()->write(
      Atomicity::single_statement, [m = std::move(message)](Connection& c) mutable { return table::append(c, m); }, {});
  if (!written) {
    // Where it may be on the disk all the same it is sent twice at worst; the figures are right again after the next start.
    store_.forget(*lane, 1, bytes);
    refused_.add();
    auto error = later("the queue can't be reached, and the spool can't take more", written.error().detail);
    error.sent = written.error().sent;
    completion->complete(std::move(error));
    co_return;
  }
  if (written.value() != Appended::spooled) store_.forget(*lane, 1, bytes);
  if (written.value() == Appended::conflict) {
    completion->complete(core::conflict("this id was used for another payload"));
    co_return;
  }
  if (written.value() == Appended::spooled) {
    spooled_.add();
    drain_.wake(*lane);
  }
  Reply reply;
  reply.message = "queued";
  reply.way = "amqp;queue=spool";
  reply.duplicate = written.value() == Appended::duplicate;
  completion->complete(std::move(reply));
}

core::awaitable<void> Spool::Impl::stop(core::StopOptions options) {
  auto work = [](Impl* impl, core::StopOptions how) -> core::awaitable<void> {
    impl->stopping_ = true;
    impl->tick_.cancel();
    co_await impl->drain_.stop(how);
    co_await impl->writes_.join();
  };
  co_await asio::co_spawn(writes_.executor(), work(this, options), asio::use_awaitable);
}

/// One of the two without the other.
class Spool::Part final : public core::Handler {
 public:
  Part(Impl& impl, Use use) : impl_(impl), use_(use) {}
  core::awaitable<Result<Reply>> handle(Request request, core::CallContext context) override {
    return impl_.handle(std::move(request), std::move(context), use_);
  }

 private:
  Impl& impl_;
  const Use use_;
};

Spool::Spool(std::unique_ptr<Impl> impl)
    : impl_(std::move(impl)), straight_(std::make_unique<Part>(*impl_, Use::publisher)), waiting_(std::make_unique<Part>(*impl_, Use::spool)) {}
Spool::~Spool() = default;

std::unique_ptr<Spool> Spool::open(Environment environment, SpoolOptions options, core::Handler& publisher) {
  auto impl = std::make_unique<Impl>(std::move(environment), std::move(options), publisher);
  impl->begin();
  return std::unique_ptr<Spool>(new Spool(std::move(impl)));
}

core::awaitable<Result<Reply>> Spool::handle(Request request, core::CallContext context) {
  return impl_->handle(std::move(request), std::move(context), Use::both);
}
core::Handler& Spool::straight() { return *straight_; }
core::Handler& Spool::waiting() { return *waiting_; }
core::awaitable<void> Spool::stop(core::StopOptions options) { return impl_->stop(options); }
SpoolStatus Spool::status() const { return impl_->status(); }

core::awaitable<Result<std::optional<core::Receipt>>> Spool::find_receipt(core::MessageId id, core::CallContext context) {
  return impl_->read([id = std::move(id)](Connection& c) { return table::find(c, id.str()); }, std::move(context));
}

core::awaitable<Result<std::vector<core::Account>>> Spool::accounts(core::CallContext context) {
  auto lines = co_await impl_->read([](Connection& c) { return table::count(c); }, std::move(context));
  if (!lines) co_return lines.error();
  std::vector<core::Account> all;
  all.push_back({.book = "spool", .lines = std::move(lines).value()});
  co_return all;
}

core::awaitable<Result<core::DeadLetterPage>> Spool::list(unsigned limit, std::string cursor, core::CallContext context) {
  return impl_->read([limit, cursor = std::move(cursor)](Connection& c) { return table::list_dead(c, limit, cursor); }, std::move(context));
}

core::awaitable<Result<core::DeadLetter>> Spool::get(core::DeadLetterKey key, core::CallContext context) {
  return impl_->read([key = std::move(key)](Connection& c) { return table::get_dead(c, key); }, std::move(context));
}

core::awaitable<Result<void>> Spool::replay(core::DeadLetterKey key, core::CallContext context) {
  auto job = [key = std::move(key), now = impl_->now_micros()](Connection& c) { return table::replay(c, key, now); };
  auto moved = co_await impl_->write(std::move(job), std::move(context));
  if (!moved) co_return moved.error();
  Held letters;
  for (auto& [action, held] : moved.value()) letters.messages += held.messages, letters.bytes += held.bytes;
  impl_->store().came(moved.value());
  impl_->store().discarded(letters);
  impl_->drain().wake_later(moved.value());
  co_return core::ok();
}

core::awaitable<Result<void>> Spool::discard(core::DeadLetterKey key, core::CallContext context) {
  auto removed = co_await impl_->write([key = std::move(key)](Connection& c) { return table::discard(c, key); }, std::move(context));
  if (!removed) co_return removed.error();
  impl_->store().discarded(removed.value());
  co_return core::ok();
}

core::awaitable<Result<core::DeadLettersSwept>> Spool::sweep(core::DeadLetterSweep what, core::CallContext context) {
  core::DeadLettersSwept all{.more = true};
  while (all.more && !context.expired()) {
    auto swept = co_await impl_->write([what, now = impl_->now_micros()](Connection& c) { return table::sweep_some(c, what, now); }, context);
    if (!swept) co_return swept.error();
    Held letters;
    for (auto& [action, held] : swept.value()) letters.messages += held.messages, letters.bytes += held.bytes;
    all.letters += static_cast<std::uint64_t>(letters.messages);
    all.more = letters.messages > 0;
    if (what.fate == core::DeadLetterSweep::Fate::replay) impl_->store().came(swept.value());
    impl_->store().discarded(letters);
    if (what.fate == core::DeadLetterSweep::Fate::replay) impl_->drain().wake_later(swept.value());
  }
  co_return all;
}

}  // namespace flexi::transports::spool
