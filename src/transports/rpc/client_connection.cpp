// SPDX-License-Identifier: Apache-2.0
#include "transports/rpc/client_connection.hpp"

#include "runtime/net/balancer.hpp"
#include "transports/json_codec.hpp"

namespace flexi::transports::rpc {

namespace asio = boost::asio;
namespace actions = core::actions;

namespace {

// A peer from which nothing has come for as long as a call that now ends by its deadline is taken for dead.
constexpr std::chrono::seconds kStuck{2};
constexpr std::chrono::hours kNoWriteTimeout{24};  // each call has its deadline

LinkLimits limits_of(const RpcClientOptions& options) {
  return {.max_message_bytes = static_cast<std::size_t>(options.max_answer_bytes), .max_unsent_bytes = std::size_t(64) << 20};
}

bool tails(const core::Request& request) { return request.action.ends_with(".tail"); }

core::Error stopped() { return core::unavailable("the client has stopped"); }

}  // namespace

/// The peer's exported objects: each is asked for once, together with the first call on it.
struct ClientConnection::Objects {
  explicit Objects(schema::ExportTable::Client t) : table(kj::mv(t)) {}

  template <class Interface>
  typename Interface::Client& get(kj::Maybe<typename Interface::Client>& known, const char* name) {
    if (known == nullptr) {
      auto request = table.getRequest(capnp::MessageSize{8, 0});
      request.setName(name);
      known = request.send().getObject().template castAs<Interface>();
    }
    return KJ_ASSERT_NONNULL(known);
  }

  schema::ExportTable::Client table;
  kj::Maybe<schema::Logger::Client> logger;
  kj::Maybe<schema::Authentication::Client> authentication;
  kj::Maybe<schema::Mail::Client> mail;
  kj::Maybe<schema::Actions::Client> actions;
};

ClientConnection::ClientConnection(ClientShared& shared, Endpoint endpoint) : shared_(shared), endpoint_(std::move(endpoint)), used_at_(Clock::now()) {}

ClientConnection::~ClientConnection() = default;

core::awaitable<core::Result<void>> ClientConnection::ready() {
  if (state_ == State::up) co_return core::ok();
  if (state_ == State::ended) co_return core::unavailable("the connection to the service broke");
  if (state_ == State::fresh) {
    state_ = State::connecting;
    shared_.scope.spawn(run());
  }
  if (state_ != State::connecting) co_return state_ == State::up ? core::Result<void>(core::ok()) : core::unavailable("the service can't be reached");
  auto start = [this](std::shared_ptr<runtime::Completion<void>> waiting) { waiting_.push_back(std::move(waiting)); };
  co_return co_await runtime::wait_for_completion<void>(std::move(start), runtime::cancelled_error(core::Sent::no));
}

void ClientConnection::told(const core::Result<void>& result) {
  const auto waiting = std::exchange(waiting_, {});
  for (auto& one : waiting) one->complete(result);
}

asio::awaitable<void> ClientConnection::run() {
  const auto self = shared_from_this();
  co_await asio::this_coro::throw_if_cancelled(false);
  asio::ip::tcp::socket socket(shared_.scope.executor());
  const auto ec = co_await runtime::net::connect_within(socket, endpoint_, shared_.options.connect_timeout);
  if (ec || leaving_) {
    state_ = State::ended;
    told(leaving_ ? stopped() : core::unavailable("the service can't be reached", runtime::net::to_authority(endpoint_) + ": " + ec.message()));
    co_return;
  }
  co_await serve(std::move(socket));
}

asio::awaitable<void> ClientConnection::serve(asio::ip::tcp::socket socket) {
  wire_.emplace(shared_.loop, shared_.scope, std::move(socket), two::Side::CLIENT, limits_of(shared_.options));
  rpc_.emplace(capnp::makeRpcClient(wire_->link()));
  capnp::MallocMessageBuilder peer(4);
  auto id = peer.initRoot<two::VatId>();
  id.setSide(two::Side::SERVER);
  objects_ = std::make_unique<Objects>(rpc_->bootstrap(id).castAs<schema::ExportTable>());
  state_ = State::up;
  told(core::ok());
  co_await wire_->run();
  state_ = State::ended;
  for (auto& weak : tails_)
    if (auto tail = weak.lock()) tail->end(core::unavailable("the connection to the service broke"));
  wire_->link().mute();
  destroy_quietly(shared_.log, [this] { objects_.reset(); });
  destroy_quietly(shared_.log, [this] { rpc_.reset(); });
  shared_.loop->run();
  co_await wire_->finish(Wire::Linger::no);
  // Those whose calls have just failed still look at it.
  while (running_ != 0) co_await asio::post(shared_.scope.executor(), asio::use_awaitable);
  wire_.reset();
}

/// Puts the request on the wire.
capnp::RemotePromise<schema::Answer> ClientConnection::send(const core::Request& request, const core::CallContext& context,
                                                            const std::shared_ptr<EventQueue>& events) {
  const auto size = size_of(request, context);
  const auto& shown = shared_.shown;
  if (auto* entry = std::get_if<core::LogEntry>(&request.payload); entry && request.action == actions::kLog) {
    auto message = objects_->get<schema::Logger>(objects_->logger, "Logger").logInfoRequest(size);
    write_text_fields(message.initEntry(), *entry);
    write_metadata(message.initMeta(), request, context, shown);
    return message.send();
  }
  if (auto* credentials = std::get_if<core::Credentials>(&request.payload); credentials && request.action == actions::kAuth) {
    auto message = objects_->get<schema::Authentication>(objects_->authentication, "Authentication").authenticateRequest(size);
    write_text_fields(message.initCredentials(), *credentials);
    write_metadata(message.initMeta(), request, context, shown);
    return message.send();
  }
  if (auto* mail = std::get_if<core::Mail>(&request.payload); mail && request.action == actions::kMail) {
    auto message = objects_->get<schema::Mail>(objects_->mail, "Mail").sendRequest(size);
    write_text_fields(message.initMail(), *mail);
    write_metadata(message.initMeta(), request, context, shown);
    return message.send();
  }
  auto message = objects_->get<schema::Actions>(objects_->actions, "Actions").callRequest(size);
  message.setAction(capnp::Text::Reader(request.action.data(), request.action.size()));
  const auto json = payload_to_json(request.payload);
  message.setPayload(capnp::Text::Reader(json.data(), json.size()));
  write_metadata(message.initMeta(), request, context, shown);
  if (events) message.setEvents(EventQueue::make_sink(events));
  return message.send();
}

/// A connection that ended because the peer said so ended for the peer's reason.
core::Error ClientConnection::broken(const kj::Exception& exception) const {
  auto error = error_of(exception, core::Sent::maybe);
  if (exception.getType() == kj::Exception::Type::DISCONNECTED && wire_)
    if (auto& aborted = wire_->link().guard().aborted(); aborted && aborted->getType() == kj::Exception::Type::OVERLOADED)
      error = error_of(*aborted, core::Sent::maybe);
  if (!error.detail.empty()) error.detail = runtime::net::to_authority(endpoint_) + ": " + error.detail;
  return error;
}

core::awaitable<core::Result<core::Reply>> ClientConnection::call(const core::Request& request, const core::CallContext& context, bool& going_away) {
  if (state_ != State::up) co_return core::unavailable("the connection to the service broke");
  const auto self = shared_from_this();
  std::shared_ptr<EventQueue> events;
  if (tails(request)) {
    events = std::make_shared<EventQueue>(shared_.scope.executor(), static_cast<std::size_t>(shared_.options.event_buffer));
    std::erase_if(tails_, [](auto& tail) { return tail.expired(); });
    tails_.push_back(events);
  }
  std::optional<core::Result<core::Reply>> reply;
  // Dropped with this frame: that tells the peer that nobody waits, and keeps the callbacks from a frame that is gone.
  kj::Promise<void> pending = nullptr;
  const auto began = Clock::now();
  Deadlines::Watch watch(shared_.deadlines, context.deadline, core::Sent::maybe);
  auto start = [&](std::shared_ptr<runtime::Completion<void>> waiting) {
    watch.wait_for(waiting);
    auto failure = kj::runCatchingExceptions([&] {
      pending = send(request, context, events)
                    .then(
                        [&, waiting](capnp::Response<schema::Answer>&& answer) {
                          reply.emplace(read_answer(answer));
                          if (answer.isError()) going_away = answer.getError().getGoingAway();
                          else if (events && answer.getOk().hasSubscription()) events->subscribed(answer.getOk().getSubscription());
                          shared_.answers.came(waiting);
                        })
                    .eagerlyEvaluate([&, waiting](kj::Exception&& e) {
                      reply.emplace(broken(e));
                      shared_.answers.came(waiting);
                    });
    });
    KJ_IF_MAYBE(e, failure) {
      reply.emplace(broken(*e));
      waiting->complete(core::ok());
    }
  };
  ++running_;
  struct Running {
    ClientConnection& connection;
    ~Running() {
      --connection.running_;
      connection.used_at_ = Clock::now();
      connection.leave_if_unused();
    }
  } const running{*this};
  const auto woken = co_await runtime::wait_for_completion<void>(std::move(start), runtime::cancelled_error(core::Sent::maybe));
  if (watch.expired() && wire_ && wire_->last_read() < began && Clock::now() - began >= kStuck) {
    dead_ = true;
    end();
  }
  if (!woken) co_return woken.error();
  if (*reply && events) reply->value().events = EventQueue::make_stream(std::move(events));
  co_return std::move(*reply);
}

void ClientConnection::leave() {
  leaving_ = true;
  leave_if_unused();
}

void ClientConnection::leave_if_unused() {
  if (leaving_ && running_ == 0 && wire_) wire_->end();
}

void ClientConnection::end() {
  leaving_ = true;
  if (wire_) wire_->end();
}

void ClientConnection::tick(Clock::time_point now) {
  if (!wire_) return;
  wire_->tick(now, kNoWriteTimeout);
  bool reading = false;
  for (auto& weak : tails_)
    if (auto tail = weak.lock()) reading = reading || !tail->closed();
  if (state_ == State::up && running_ == 0 && !reading && now >= used_at_ + shared_.options.idle_timeout) leave();
}

}  // namespace flexi::transports::rpc
