// SPDX-License-Identifier: Apache-2.0
#include "apps/serve.hpp"

#include <sys/resource.h>

#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <thread>

#include "apps/cli/client_commands.hpp"
#include "apps/cli/secret.hpp"
#include "apps/custom_actions.hpp"
#include "apps/example_user.hpp"
#include "apps/messages.hpp"
#include "apps/queueing.hpp"
#include "apps/services.hpp"
#include "apps/stop_time.hpp"
#include "apps/system_view.hpp"
#include "apps/ways.hpp"
#include "runtime/net/address.hpp"
#include "runtime/net/listen.hpp"
#include "runtime/service_manager.hpp"
#include "services/broker/make_broker.hpp"
#include "services/broker/token_gate.hpp"
#include "services/listener/listener.hpp"

namespace flexi::apps {

namespace actions = core::actions;
namespace asio = boost::asio;
using core::Result;

namespace {

/// The service that owns an action of the contract.
std::optional<Service> owner_of(std::string_view action) {
  if (action == actions::kAuth) return Service::authentication;
  if (action == actions::kLog) return Service::logger;
  if (action == actions::kMail) return Service::mail;
  return std::nullopt;
}

core::awaitable<void> wait_for_signal(asio::signal_set& signals) { co_await signals.async_wait(asio::use_awaitable); }

/// Connections beyond the soft limit of open files would be refused; the hard limit is what the system allows us.
void raise_open_files_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 65536);
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

/// What comes over a socket that nobody serves would wait for ever.
Result<void> check_handed_sockets(const std::vector<Listening>& listeners) {
  FLEXI_TRY(auto sockets, runtime::net::handed_sockets());
  for (auto& socket : sockets) {
    const auto address = runtime::net::to_authority(socket.endpoint);
    const auto serves = [&](const Listening& listener) { return listener.server->endpoint().ends_with("//" + address); };
    if (std::none_of(listeners.begin(), listeners.end(), serves))
      return core::invalid_argument("a socket at " + address + " was handed over, and nothing here listens there: http.listen, grpc.listen or rpc.listen must name it");
  }
  return core::ok();
}

void tell_service_manager(Process& process, std::string_view state) {
  if (auto told = runtime::notify(state, runtime::notify_socket()); !told) process.log.warning("the service manager was not told", {{"error", told.error().message}});
}

/// Everything between "the storage is open" and "a signal came".
class Running {
 public:
  Running(const Settings& settings, const RoleTraits& role, Storage& storage, Process& process, std::string admin_token)
      : settings_(settings), role_(role), storage_(storage), process_(process), admin_token_(admin_token), transports_(settings, process, std::move(admin_token)), ways_(settings, transports_), system_(settings, role, process, storage) {}

  Result<void> start() {
    FLEXI_TRY(ways_.open_remote(role_));
    system_.shows(queueing_);
    FLEXI_TRY(queueing_.open(settings_, role_, storage_, process_, admin_token_, asked()));
    FLEXI_TRY(services_.open(settings_, role_, storage_, process_, ways_.any_to(Service::logger), queueing_.dead_letters()));
    FLEXI_TRY(ways_.open_local(role_, *services_.router));
    auto connect = [this](const std::string& endpoint) { return transports_.connect_foreign(endpoint); };
    FLEXI_TRY(custom_, CustomServices::open(settings_.actions, connect, settings_.broker.circuit));
    if (role_.broker) messages_.open(storage_, process_, ways_, queueing_);
    if (role_.broker) broker_ = services::broker::make_broker(broker_parts(), settings_.broker);
    FLEXI_TRY(consume());
    const Served served{.broker = guarded(broker_.get(), broker_gate_), .services = guarded(services_door(), services_gate_), .page = role_.page,
                        .log_grpc = log_grpc(), .login_tokens = accounts() != nullptr};
    FLEXI_TRY(transports_.serve(served, listeners_));
    FLEXI_TRY(check_handed_sockets(listeners_));
    for (auto& listener : listeners_) system_.listens(listener.via, listener.server->endpoint());
    system_.start();
    if (role_.broker) messages_.start(process_);
    FLEXI_TRY(ways_.loop_back(listeners_));
    return broker_ ? queueing_.take_requests(*served.broker) : core::ok();
  }

  /// HTTP's first.
  const std::vector<Listening>& listeners() const { return listeners_; }

  /// From the outside in: whoever could still send work stops first, all of them at once; then the others share what is
  /// left of stop_grace. Stops what was started, in case not everything was.
  /// @param signals another of them leaves no time for anything
  core::awaitable<void> stop(asio::signal_set& signals) {
    StopTime time(settings_.stop_grace);
    runtime::TaskScope impatience(process_.shards.executor(0), "signals", process_.log);
    runtime::TaskScope ingress(process_.shards.executor(0), "stop", process_.log);
    if (services_.logger) services_.logger->stop_tails();
    for (auto& listener : listeners_) ingress.spawn(stop_listener(listener, time.left()));
    ingress.spawn(queueing_.stop_requests(time.left()));
    ingress.spawn(system_.stop());
    ingress.spawn(messages_.stop());
    impatience.spawn(hurry(signals, time, ingress));
    co_await ingress.join();
    co_await queueing_.stop(time);
    if (custom_) co_await custom_->stop(time);
    co_await services_.stop(time.left());
    co_await ways_.stop_remote(time);
    co_await ways_.stop_local(time);
    impatience.cancel();
    co_await impatience.join();
  }

 private:
  /// Actions whose stores can be asked from here, in this process or another.
  std::vector<std::string> asked() const {
    std::vector<std::string> all;
    if (role_.logger || !ways_.to(Service::logger).empty()) all.emplace_back(actions::kLog);
    if (role_.mail || !ways_.to(Service::mail).empty()) all.emplace_back(actions::kMail);
    return all;
  }
  static core::awaitable<void> stop_listener(Listening& listener, core::StopOptions grace) {
    co_await listener.server->stop(grace);
    listener.stopped = true;
  }
  /// A second signal: running requests are cancelled, and whatever hangs all the same ends with the process, as it may
  /// end at any time without a loss.
  core::awaitable<void> hurry(asio::signal_set& signals, StopTime& time, runtime::TaskScope& ingress) {
    co_await signals.async_wait(asio::use_awaitable);
    process_.log.warning("stopping at once", {{"because", "there was a second signal"}});
    time.end();
    for (auto& listener : listeners_)
      if (!listener.stopped) ingress.spawn(stop_listener(listener, time.left()));
    asio::steady_timer patience(process_.shards.executor(0), std::chrono::seconds(2));
    co_await patience.async_wait(asio::use_awaitable);
    process_.log.error("ended without a clean stop");
    std::_Exit(cli::exit_refused);
  }
  /// Null: this process serves no service.
  core::Handler* services_door() {
    if (!role_.owns_data()) return nullptr;
    if (!broker_) return services_.router.get();
    return &door_.emplace(ways_.own_calls(), *services_.router, *broker_->services());
  }
  /// Who says whose a token is; null: nobody that this process reaches.
  core::Handler* accounts() { return role_.broker || role_.authentication ? ways_.any_to(Service::authentication) : nullptr; }
  core::Handler* guarded(core::Handler* door, std::optional<services::broker::TokenGate>& gate) {
    if (!door || !accounts()) return door;
    std::vector<std::string> names;
    for (auto& [name, action] : settings_.actions)
      if (action.is_protected) names.push_back(name);
    return &gate.emplace(*door, *accounts(), std::move(names));
  }
  /// By gRPC where the logger can be reached so; else as any log that must be stored.
  core::Via log_grpc() const {
    for (auto& way : ways_.to(Service::logger))
      if (way.via == core::Via::grpc) return core::Via::grpc;
    return core::Via::automatic;
  }
  /// Hands what is queued to the services. Where RabbitMQ has the queues, that is the listener's work alone.
  Result<void> consume() {
    if (!storage_.queue && !role_.listener) return core::ok();
    auto route = [this](std::string_view action) -> core::Handler* {
      const auto owner = owner_of(action);
      return owner ? ways_.any_to(*owner) : custom_->service_of(action);
    };
    for (auto service : {Service::authentication, Service::logger, Service::mail}) (void)ways_.any_to(service);  // made before threads ask
    listener_ = std::make_unique<services::listener::ListenerService>(route, process_.log);
    return queueing_.consume(*listener_);
  }

  services::broker::BrokerParts broker_parts() {
    services::broker::BrokerParts parts{.metrics = process_.metrics, .services = services_.router.get()};
    const std::pair<std::string_view, services::broker::PayloadCheck> all[] = {
        {actions::kLog, services::logger::check_log}, {actions::kAuth, nullptr}, {actions::kMail, services::mail::check_mail}};
    for (auto& [action, check] : all) {
      auto ways = ways_.to(*owner_of(action));
      if (auto queue = queueing_.way()) ways.push_back(*queue);
      parts.actions.push_back({std::string(action), std::move(ways), check});
    }
    for (auto& action : custom_->broker_actions(queueing_.way())) parts.actions.push_back(std::move(action));
    const std::pair<const char*, Service> reads[] = {{"logs.", Service::logger}, {"users.", Service::authentication}, {"me.", Service::authentication}, {"mails.", Service::mail}};
    for (auto& [prefix, service] : reads)
      if (auto* handler = ways_.any_to(service)) parts.administration.push_back({prefix, *handler});
    if (services_.dead_letters) parts.administration.push_back({"dlq.", *services_.dead_letters});
    parts.administration.push_back({"system.", system_.handler()});
    parts.administration.push_back({"receipts.", messages_.receipts()});
    parts.administration.push_back({"ledger.", messages_.ledger()});
    parts.idempotency = storage_.idempotency.get();
    parts.board = &system_.board();
    return parts;
  }

  const Settings& settings_;
  const RoleTraits& role_;
  Storage& storage_;
  Process& process_;
  std::string admin_token_;
  AllTransports transports_;
  Ways ways_;
  Services services_;
  std::unique_ptr<CustomServices> custom_;
  SystemView system_;
  Queueing queueing_;
  Messages messages_;
  std::unique_ptr<services::listener::ListenerService> listener_;
  std::unique_ptr<services::broker::ComposedBroker> broker_;
  std::optional<ServicesDoor> door_;
  std::optional<services::broker::TokenGate> broker_gate_, services_gate_;
  std::vector<Listening> listeners_;
};

Result<void> run(const Settings& settings) {
  const RoleTraits& role = traits_of(settings.role);
  std::string admin_token;
  if (!settings.admin_token_file.empty()) {
    FLEXI_TRY(admin_token, cli::read_secret_file(settings.admin_token_file));
  }
  const bool no_token = admin_token.empty();
  raise_open_files_limit();
  std::optional<DataDirectory> directory;
  if (settings.embeds()) {
    FLEXI_TRY(auto opened, DataDirectory::open(settings.data_dir));
    directory.emplace(std::move(opened));
  }
  const unsigned cores = std::clamp(std::thread::hardware_concurrency(), 1u, 64u);
  Process process(settings, settings.threads > 0 ? static_cast<unsigned>(settings.threads) : cores);
  asio::signal_set signals(process.shards.executor(0), SIGINT, SIGTERM);
  FLEXI_TRY(auto storage, Storage::open(settings, role, directory ? &*directory : nullptr, process));
  ExampleUser example_user(process);
  const auto when = storage.postgres ? ExampleUser::When::once_it_can : ExampleUser::When::now;
  if (storage.users && settings.wants_example_user()) process.shards.run(example_user.add(*storage.users, when));

  Running running(settings, role, storage, process, std::move(admin_token));
  auto started = running.start();
  if (started) {
    const auto endpoint = running.listeners().front().server->endpoint();
    std::string more;
    for (auto& listener : running.listeners())
      if (listener.via != core::Via::http) more.append(more.empty() ? "" : " ").append(listener.server->endpoint());
    process.log.info("ready", {{"url", endpoint}, {"also", more}, {"data_dir", directory ? settings.data_dir : ""}});
    if (no_token && !settings.listens_on_loopback())
      process.log.warning("reading and administration are refused to other machines", {{"because", "FLEXI_ADMIN_TOKEN_FILE is not set"}});
    std::cout << "FlexiConnect" << (role.command.empty() ? "" : "'s ") << role.command << " is ready at " << endpoint << std::endl;
    tell_service_manager(process, "READY=1\nSTATUS=Serving " + endpoint);
    process.shards.run(wait_for_signal(signals));
    tell_service_manager(process, "STOPPING=1\nSTATUS=Finishing what is under way");
    process.log.info("stopping");
  }
  process.readiness.drain();
  process.shards.run(running.stop(signals));
  process.shards.run(example_user.stop());
  process.shards.run(storage.stop());
  storage.close();
  if (started) process.log.info("stopped");
  return started;
}

}  // namespace

int serve(const Settings& settings) {
  auto served = run(settings);
  if (served) return cli::exit_ok;
  std::cerr << "flexiconnect: " << served.error().message << (served.error().detail.empty() ? "" : " (" + served.error().detail + ")") << "\n";
  return cli::exit_refused;
}

}  // namespace flexi::apps
