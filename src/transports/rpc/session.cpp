// SPDX-License-Identifier: Apache-2.0
#include "transports/rpc/session.hpp"

#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>

#include "transports/rpc/access.hpp"

namespace flexi::transports::rpc {

namespace asio = boost::asio;

namespace {

constexpr std::size_t kEnvelopeBytes = 64 * 1024;  // of a message beside its payload: names, ids, hops, token
constexpr std::chrono::seconds kEventPause{15};    // an EventStream is asked again after such silence

LinkLimits limits_of(const RpcServerOptions& options) {
  return {.max_message_bytes = static_cast<std::size_t>(options.max_payload_bytes) + kEnvelopeBytes,
          .max_nesting = static_cast<int>(options.max_nesting),
          .max_unsent_bytes = static_cast<std::size_t>(options.max_unsent_bytes),
          .guard = {static_cast<std::size_t>(options.max_unreleased), static_cast<std::size_t>(options.max_capabilities)}};
}

core::Error busy(std::string message) {
  auto error = core::overloaded(std::move(message));
  error.retry_after = std::chrono::seconds(1);
  return error;
}

}  // namespace

/// A call that a handler runs.
struct Session::Call {
  core::Handler* handler = nullptr;
  core::Request request;
  core::CallContext context;
  ObjectType object = ObjectType::actions;
  std::string action, log_name, id;
  MakeAnswer make;
  kj::Maybe<schema::EventSink::Client> events;
  kj::PromiseFulfiller<void>* answered = nullptr;  ///< null: nobody waits any more
  asio::cancellation_signal* signal = nullptr;     ///< while the handler runs
  Cancelled cancelled = Cancelled::no;
  std::list<std::shared_ptr<Call>>::iterator where;
};

/// The promise that Cap'n Proto holds for a call: when it is dropped, the caller has gone.
class Session::Waiter {
 public:
  Waiter(kj::PromiseFulfiller<void>& fulfiller, std::shared_ptr<Session> session, std::shared_ptr<Call> call)
      : session_(std::move(session)), call_(std::move(call)) {
    call_->answered = &fulfiller;
  }
  ~Waiter() {
    call_->answered = nullptr;
    call_->events = nullptr;
    if (!call_->signal || call_->cancelled != Cancelled::no) return;
    call_->cancelled = Cancelled::gone;
    cancel_later(session_, call_);
  }
  Waiter(const Waiter&) = delete;
  Waiter& operator=(const Waiter&) = delete;

 private:
  const std::shared_ptr<Session> session_;
  const std::shared_ptr<Call> call_;
};

Session::Session(ServerShard& shard, asio::ip::tcp::socket socket, bool same_machine, std::string client)
    : shard_(shard), options_(shard.shared().options), client_(std::move(client)),
      rules_{shard.shared().admin_token, same_machine, options_.max_payload_bytes, options_.default_timeout, options_.max_timeout,
             shard.shared().process_key, client_, shard.shared().login_tokens, shard.shared().trusts_peers},
      wire_(shard.loop(), shard.scope(), std::move(socket), two::Side::SERVER, limits_of(options_)), opened_at_(Clock::now()), heard_at_(opened_at_),
      message_since_(opened_at_) {}

Session::~Session() = default;

asio::awaitable<void> Session::run() {
  const auto self = shared_from_this();
  co_await asio::this_coro::throw_if_cancelled(false);
  rpc_.emplace(capnp::makeRpcServer(wire_.link(), make_export_table(self)));
  rpc_->setFlowLimit(static_cast<std::size_t>(options_.flow_limit_bytes) / sizeof(capnp::word));
  co_await wire_.run();
  // Calls that run are dropped with it: their handlers are cancelled, and end in their own time.
  destroy_quietly(shard_.shared().log, [this] { rpc_.reset(); });
  shard_.loop()->run();
  co_await wire_.finish(Wire::Linger::yes);
}

std::optional<core::Error> Session::refusal() const {
  if (shard_.draining()) return core::unavailable("the server is stopping");
  if (static_cast<std::int64_t>(calls_.size() + tails_.size()) >= options_.max_connection_calls)
    return busy("too many calls run on this connection");
  if (shard_.shared().calls.load(std::memory_order_relaxed) >= options_.max_calls) return busy("too many calls run on this server");
  return std::nullopt;
}

kj::Promise<void> Session::answer(core::Result<Plan> plan, MakeAnswer make, kj::Maybe<schema::EventSink::Client> events) {
  if (plan)
    if (auto error = refusal()) plan = *error;
  if (!plan) {
    shard_.count(false);
    auto failure = make(capnp::MessageSize{plan.error().message.size() / sizeof(capnp::word) + 32, 0}).initError();
    write_failure(failure, plan.error());
    failure.setGoingAway(shard_.draining());
    return kj::READY_NOW;
  }
  auto& p = plan.value();
  auto call = std::make_shared<Call>();
  call->handler = p.handler;
  call->action = p.request.action;
  call->id = p.request.id.str();
  call->request = std::move(p.request);
  call->context = std::move(p.context);
  call->object = p.object;
  call->log_name = std::move(p.log_name);
  call->make = std::move(make);
  call->events = kj::mv(events);
  call->where = calls_.insert(calls_.end(), call);
  shard_.shared().calls.fetch_add(1, std::memory_order_relaxed);
  auto promise = kj::newAdaptedPromise<void, Waiter>(shared_from_this(), call);
  shard_.scope().spawn_cancellable([&](asio::cancellation_signal& signal) { return run_call(shared_from_this(), call, &signal); });
  return promise;
}

asio::awaitable<void> Session::run_call(std::shared_ptr<Session> self, std::shared_ptr<Call> call, asio::cancellation_signal* signal) {
  co_await asio::this_coro::throw_if_cancelled(false);
  call->signal = signal;
  std::optional<core::Result<core::Reply>> result;
  try {
    result.emplace(co_await call->handler->handle(std::move(call->request), call->context));
  } catch (const std::exception& e) {
    result.emplace(core::internal("internal error", e.what()));
  }
  if (call->cancelled != Cancelled::no) {
    co_await asio::this_coro::reset_cancellation_state(asio::enable_terminal_cancellation());
    if (!*result && call->cancelled != Cancelled::gone) {
      auto error = call->cancelled == Cancelled::stopping ? core::unavailable("the server is stopping")
                                                         : core::deadline_exceeded("the request was not answered in time");
      error.sent = core::Sent::maybe;
      error.way = std::move(result->error().way);
      result.emplace(std::move(error));
    }
  }
  // Answers that a client does not take are kept here, as few as calls may run, and not beside each other in a buffer.
  if (call->answered && !self->wire_.link().writable()) co_await self->wire_.wait_writable();
  call->signal = nullptr;
  self->calls_.erase(call->where);
  self->shard_.shared().calls.fetch_sub(1, std::memory_order_relaxed);
  self->finish(*call, std::move(*result));
}

void Session::finish(Call& call, core::Result<core::Reply> result) {
  if (!result && call.object == ObjectType::broker && result.error().kind == core::ErrorKind::unimplemented)
    result.error().kind = core::ErrorKind::invalid_argument;  // the contract's: an unknown action is the caller's mistake there
  shard_.count(result.has_value());
  if (!result) log_failure(call, result.error());
  if (!call.answered) return;
  auto failure = kj::runCatchingExceptions([&] {
    if (result && result.value().events && call.events == nullptr)
      result = core::invalid_argument("this action tails: it wants an object for its events");
    auto answer = call.make(size_of(result));
    write_answer(answer, call.object, call.action, call.log_name, call.id, result);
    if (!result && result.error().kind == core::ErrorKind::unavailable) answer.getError().setGoingAway(shard_.draining());
    if (result && result.value().events) start_tail(call, std::move(result.value().events), answer.getOk());
  });
  KJ_IF_MAYBE(e, failure) call.answered->reject(kj::mv(*e));
  else call.answered->fulfill();
}

void Session::log_failure(const Call& call, const core::Error& error) const {
  if (error.detail.empty() && error.kind != core::ErrorKind::internal) return;
  shard_.shared().log.warning("request failed", {{"action", call.action}, {"id", call.id}, {"kind", core::to_string(error.kind)}, {"message", error.message},
                                                 {"detail", error.detail}, {"trace", call.context.trace.to_traceparent()}});
}

void Session::cancel(Call& call, Cancelled why) {
  if (!call.signal) return;
  if (call.cancelled == Cancelled::no) call.cancelled = why;
  // At every tick again: a handler between two waits does not notice the first.
  call.signal->emit(asio::cancellation_type::terminal);
}

/// A handler must not run from within the destructor of a kj promise.
void Session::cancel_later(const std::shared_ptr<Session>& self, const std::shared_ptr<Call>& call) {
  asio::post(self->shard_.executor(), [self, call] { self->cancel(*call, Cancelled::gone); });
}

/// An event stream that goes on.
struct Session::Tail {
  std::unique_ptr<core::EventStream> events;
  core::CallContext context;
  kj::Maybe<schema::EventSink::Client> sink;  ///< null: nobody listens any more
  asio::cancellation_signal* signal = nullptr;
  std::list<std::shared_ptr<Tail>>::iterator where;
  bool over = false;
};

/// Held by the client for as long as it listens.
class Session::SubscriptionObject final : public schema::Subscription::Server {
 public:
  SubscriptionObject(std::shared_ptr<Session> session, std::shared_ptr<Tail> tail) : session_(std::move(session)), tail_(std::move(tail)) {}
  ~SubscriptionObject() {
    tail_->over = true;
    asio::post(session_->shard_.executor(), [session = session_, tail = tail_] {
      if (tail->signal) tail->signal->emit(asio::cancellation_type::terminal);
    });
  }

 private:
  const std::shared_ptr<Session> session_;
  const std::shared_ptr<Tail> tail_;
};

void Session::start_tail(Call& call, std::unique_ptr<core::EventStream> events, schema::Reply::Builder reply) {
  auto tail = std::make_shared<Tail>();
  tail->events = std::move(events);
  tail->context = call.context;
  tail->sink = kj::mv(call.events);
  tail->where = tails_.insert(tails_.end(), tail);
  reply.setSubscription(kj::heap<SubscriptionObject>(shared_from_this(), tail));
  shard_.scope().spawn_cancellable([&](asio::cancellation_signal& signal) { return run_tail(shared_from_this(), tail, &signal); });
}

asio::awaitable<void> Session::run_tail(std::shared_ptr<Session> self, std::shared_ptr<Tail> tail, asio::cancellation_signal* signal) {
  co_await asio::this_coro::throw_if_cancelled(false);
  tail->signal = signal;
  std::optional<core::Error> failure;
  while (!tail->over) {
    tail->context.deadline = Clock::now() + kEventPause;
    std::optional<core::Result<std::optional<std::string>>> event;
    try {
      event.emplace(co_await tail->events->next(tail->context));
    } catch (const std::exception& e) {
      event.emplace(core::internal("internal error", e.what()));
    }
    if (tail->over) break;
    if (!*event) {
      if (event->error().kind == core::ErrorKind::deadline_exceeded) continue;
      failure = event->error();
      break;
    }
    if (!event->value()) break;  // the source has ended
    auto request = KJ_ASSERT_NONNULL(tail->sink).eventRequest(capnp::MessageSize{event->value()->size() / sizeof(capnp::word) + 8, 0});
    request.setJson(capnp::Text::Reader(event->value()->data(), event->value()->size()));
    // Done when the client has room for more: its window is Cap'n Proto's, and it answers an event when it has been taken.
    const auto taken = co_await wait_for(request.send());
    if (!taken) break;
  }
  tail->signal = nullptr;
  tail->events.reset();
  KJ_IF_MAYBE(sink, tail->sink) {
    if (!self->wire_.ended() && (!tail->over || self->shard_.draining())) {
      auto request = sink->doneRequest();
      if (!failure && self->shard_.draining()) failure = core::unavailable("the server is stopping");
      if (failure) write_failure(request.initFailure(), *failure);
      // Whether it arrives is of no matter: the connection's end says it, too.
      kj::Promise<void> sent = request.send().ignoreResult();
    }
  }
  destroy_quietly(self->shard_.shared().log, [&] { tail->sink = nullptr; });
  self->tails_.erase(tail->where);
}

void Session::tick(Clock::time_point now) {
  wire_.tick(now, options_.write_timeout);
  if (wire_.link().messages() != seen_messages_) {
    seen_messages_ = wire_.link().messages();
    heard_at_ = message_since_ = now;
  }
  if (!wire_.link().in_message()) message_since_ = now;
  if (!quiet()) heard_at_ = now;
  const bool silent = seen_messages_ == 0 && now >= opened_at_ + options_.handshake_timeout;
  const bool stuck = now >= message_since_ + options_.message_timeout;
  const bool idle = now >= heard_at_ + options_.idle_timeout;
  const bool drained = shard_.draining() && quiet() && now >= shard_.linger_until();
  if (silent || stuck || idle || drained) wire_.end();
  const bool stop = now >= shard_.stop_at();
  // A cancelled call may end, and leave the list, inside the emit.
  for (auto it = calls_.begin(); it != calls_.end();) {
    const auto call = *it++;
    if (call->cancelled != Cancelled::no) cancel(*call, call->cancelled);
    else if (wire_.ended()) cancel(*call, Cancelled::gone);  // one that the RPC system forgot
    else if (stop) cancel(*call, Cancelled::stopping);
    else if (now >= call->context.deadline) cancel(*call, Cancelled::deadline);
  }
  if (shard_.draining() || wire_.ended())
    for (auto it = tails_.begin(); it != tails_.end();) {
      const auto tail = *it++;
      tail->over = true;
      if (tail->signal) tail->signal->emit(asio::cancellation_type::terminal);
    }
}

}  // namespace flexi::transports::rpc
