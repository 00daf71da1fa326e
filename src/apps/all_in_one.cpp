// SPDX-License-Identifier: Apache-2.0
#include "apps/all_in_one.hpp"

#include <sys/resource.h>

#include <boost/asio/signal_set.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <csignal>
#include <iostream>
#include <thread>

#include "apps/cli/client_commands.hpp"
#include "apps/cli/secret.hpp"
#include "apps/data_directory.hpp"
#include "apps/late_handler.hpp"
#include "core/transport.hpp"
#include "mailers/mailbox/mailbox.hpp"
#include "mailers/smtp/smtp_mailer.hpp"
#include "runtime/policies/action_router.hpp"
#include "runtime/readiness.hpp"
#include "runtime/shards.hpp"
#include "runtime/sqlite/database.hpp"
#include "services/authentication/user_administration.hpp"
#include "services/frontend/frontend.hpp"
#include "services/listener/dead_letter_service.hpp"
#include "services/listener/listener.hpp"
#include "stores/sqlite/idempotency_store.hpp"
#include "stores/sqlite/user_store.hpp"
#include "transports/http/http.hpp"
#include "transports/inproc/inproc.hpp"
#include "transports/queue/embedded_queue.hpp"

namespace flexi::apps {

namespace actions = core::actions;
namespace asio = boost::asio;
namespace policies = runtime::policies;
using core::Result;
using runtime::sqlite::Database;

namespace {

/// What every part stands on.
struct Process {
  explicit Process(const Settings& settings, unsigned threads) : log(settings.level(), settings.format()), shards(threads) {}
  runtime::LogSink log;
  runtime::Metrics metrics;
  runtime::Readiness readiness;
  runtime::Shards shards;
};

/// Everything that is stored, in one database.
struct Storage {
  std::unique_ptr<Database> database;
  std::unique_ptr<core::UserStore> users;
  std::unique_ptr<core::LogStore> logs;
  std::unique_ptr<mailers::mailbox::SqliteMailbox> mailbox;
  std::unique_ptr<stores::sqlite::SqliteIdempotencyStore> idempotency;
  std::unique_ptr<transports::queue::EmbeddedQueue> queue;

  static Result<Storage> open(const Settings& settings, const DataDirectory& directory, Process& process) {
    Storage storage;
    runtime::sqlite::DatabaseOptions options;
    options.path = directory.database_file();
    process.readiness.set_ready("storage");
    options.on_health = [&readiness = process.readiness](const core::Error* failure) {
      if (failure) readiness.set_unready("storage", failure->message);
      else readiness.set_ready("storage");
    };
    FLEXI_TRY(storage.database, Database::open(options, process.log, process.metrics));
    auto& database = *storage.database;
    FLEXI_TRY(storage.users, stores::sqlite::open_user_store(database));
    FLEXI_TRY(storage.logs, stores::sqlite::open_log_store(database, settings.logs));
    FLEXI_TRY(storage.mailbox, mailers::mailbox::SqliteMailbox::open(database));
    FLEXI_TRY(storage.idempotency, stores::sqlite::SqliteIdempotencyStore::open(database, settings.idempotency));
    FLEXI_TRY(storage.queue, transports::queue::EmbeddedQueue::open({.database = database, .shards = process.shards, .log = process.log, .metrics = process.metrics},
                                                                    settings.queue));
    // The database has one idle work: each part's in turn, until none has anything left.
    database.set_idle_work([logs = stores::sqlite::LogUpkeep(settings.logs), mails = mailers::mailbox::MailboxUpkeep(settings.mailbox),
                            idempotency = storage.idempotency.get(), queue = storage.queue.get()](runtime::sqlite::Connection& connection) {
      const bool logs_left = logs(connection), mails_left = mails(connection);
      const bool keys_left = idempotency->purge_some(connection), messages_left = queue->purge_some(connection);
      return logs_left || mails_left || keys_left || messages_left;
    });
    return storage;
  }
};

/// The services over their ports, and the router that finds each by its action.
struct Services {
  services::logger::LoggerService logger;
  services::authentication::PasswordHasher hasher;
  services::authentication::AuthenticationService authentication;
  std::unique_ptr<core::Mailer> smtp;
  std::unique_ptr<services::mail::MailService> mail;
  services::listener::DeadLetterService dead_letters;
  std::unique_ptr<policies::ActionRouter> router;

  Services(const Settings& settings, Storage& storage, Process& process)
      : logger(*storage.logs, settings.logger),
        hasher(settings.authentication.passwords, process.metrics),
        authentication(*storage.users, hasher, &logger, process.log, settings.authentication),
        dead_letters(*storage.queue) {}

  Result<void> open(const Settings& settings, Storage& storage, Process& process) {
    if (settings.smtp.configured()) smtp = mailers::smtp::make_smtp_mailer(settings.smtp);
    services::mail::MailPorts ports{.mailer = storage.mailbox.get(), .mailbox = storage.mailbox.get(), .smtp = smtp.get(), .logger = &logger};
    FLEXI_TRY(mail, services::mail::MailService::make(settings.mail, ports, process.log));
    router = std::make_unique<policies::ActionRouter>(std::vector<policies::ActionRoute>{{std::string(actions::kLog), logger},
                                                                                         {std::string(actions::kAuth), authentication},
                                                                                         {std::string(actions::kMail), *mail},
                                                                                         {"logs.", logger},
                                                                                         {"users.", authentication},
                                                                                         {"mails.", *mail},
                                                                                         {"dlq.", dead_letters}});
    return core::ok();
  }
};

/// The ways from the broker to the services, and the queue's consumer.
struct Ways {
  transports::inproc::Network network;
  std::unique_ptr<core::Transport> inproc;
  std::unique_ptr<core::Server> inproc_server;
  std::unique_ptr<core::Client> inproc_client, queue_client, http_client;
  LateHandler http;
  std::unique_ptr<services::listener::ListenerService> listener;
  std::unique_ptr<core::Server> consumer;

  Result<void> open(Storage& storage, Services& services, Process& process) {
    inproc = transports::inproc::make_transport(network, {.name = "services"});
    FLEXI_TRY(inproc_server, inproc->serve(*services.router));
    FLEXI_TRY(inproc_client, inproc->connect("inproc:services"));
    FLEXI_TRY(queue_client, storage.queue->connect(""));
    // Every action goes the same way on: the services' router knows whose it is.
    auto route = [client = inproc_client.get()](std::string_view) -> core::Handler* { return client; };
    listener = std::make_unique<services::listener::ListenerService>(route, process.log);
    FLEXI_TRY(consumer, storage.queue->serve(*listener));
    return core::ok();
  }
};

services::broker::BrokerParts broker_parts(Ways& ways, Storage& storage, Process& process) {
  services::broker::BrokerParts parts{.metrics = process.metrics};
  const std::pair<std::string_view, services::broker::PayloadCheck> all[] = {
      {actions::kLog, services::logger::check_log}, {actions::kAuth, nullptr}, {actions::kMail, services::mail::check_mail}};
  for (auto& [action, check] : all)
    parts.actions.push_back({std::string(action),
                             {{core::Via::inproc, *ways.inproc_client}, {core::Via::http, ways.http}, {core::Via::amqp, *ways.queue_client}},
                             check});
  for (auto* prefix : {"logs.", "users.", "mails.", "dlq."}) parts.administration.push_back({prefix, *ways.inproc_client});
  parts.idempotency = storage.idempotency.get();
  return parts;
}

std::vector<transports::http::StaticResource> resources(const Settings& settings) {
  std::vector<transports::http::StaticResource> all;
  for (auto& file : services::frontend::static_files(settings.front_end)) {
    auto headers = file.headers;
    headers.emplace_back("Cache-Control", file.cache_control);
    all.push_back({file.path, file.content_type, file.body, std::move(headers), file.etag, file.gzip});
  }
  return all;
}

core::awaitable<void> wait_for_signal(asio::signal_set& signals) { co_await signals.async_wait(asio::use_awaitable); }

core::awaitable<void> add_example_user(core::UserStore& users, runtime::LogSink& log) {
  auto added = co_await services::authentication::ensure_example_user(users, core::CallContext::with_timeout(std::chrono::seconds(10)));
  if (!added) log.error("the example user can't be created", {{"error", added.error().message}, {"detail", added.error().detail}});
  else if (added.value()) log.info("example user created", {{"email", "admin@example.com"}});
}

/// From the outside in: whoever could still send work stops first. Stops what was started, in case not everything was.
core::awaitable<void> stop_all(core::Server* server, Services& services, Ways& ways, Storage& storage, core::StopOptions grace) {
  services.logger.stop_tails();
  if (server) co_await server->stop(grace);
  if (ways.consumer) co_await ways.consumer->stop(grace);
  for (auto* client : {ways.http_client.get(), ways.queue_client.get()})
    if (client) co_await client->stop(grace);
  co_await storage.queue->stop();
  if (ways.inproc_client) co_await ways.inproc_client->stop(grace);
  if (ways.inproc_server) co_await ways.inproc_server->stop(grace);
}

/// Connections beyond the soft limit of open files would be refused; the hard limit is what the system allows us.
void raise_open_files_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 65536);
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

/// Everything between "the storage is open" and "a signal came".
struct Running {
  Running(const Settings& settings, Storage& storage, Process& process) : services(settings, storage, process) {}
  Services services;
  Ways ways;
  std::unique_ptr<core::Handler> broker;
  std::unique_ptr<core::Server> server;

  Result<void> start(const Settings& settings, Storage& storage, Process& process, std::string admin_token) {
    FLEXI_TRY(services.open(settings, storage, process));
    FLEXI_TRY(ways.open(storage, services, process));
    broker = services::broker::make_broker(broker_parts(ways, storage, process), settings.broker);
    transports::http::Process http{process.metrics, process.readiness, process.log, process.shards, std::move(admin_token)};
    FLEXI_TRY(server, transports::http::serve(settings.http, {http, broker.get(), services.router.get(), resources(settings)}));
    FLEXI_TRY(ways.http_client, transports::http::connect(settings.http_client, http, server->endpoint()));
    ways.http.set(*ways.http_client);
    return core::ok();
  }
};

Result<void> serve(const Settings& settings) {
  std::string admin_token;
  if (!settings.admin_token_file.empty()) {
    FLEXI_TRY(admin_token, cli::read_secret_file(settings.admin_token_file));
  }
  const bool no_token = admin_token.empty();
  raise_open_files_limit();
  FLEXI_TRY(auto directory, DataDirectory::open(settings.data_dir));
  const unsigned cores = std::clamp(std::thread::hardware_concurrency(), 1u, 64u);
  Process process(settings, settings.threads > 0 ? static_cast<unsigned>(settings.threads) : cores);
  asio::signal_set signals(process.shards.executor(0), SIGINT, SIGTERM);
  FLEXI_TRY(auto storage, Storage::open(settings, directory, process));
  if (settings.wants_example_user()) process.shards.run(add_example_user(*storage.users, process.log));

  Running running(settings, storage, process);
  auto started = running.start(settings, storage, process, std::move(admin_token));
  if (started) {
    const auto endpoint = running.server->endpoint();
    process.log.info("ready", {{"url", endpoint}, {"data_dir", settings.data_dir}});
    if (no_token && !settings.listens_on_loopback())
      process.log.warning("reading and administration are refused to other machines", {{"because", "FLEXI_ADMIN_TOKEN_FILE is not set"}});
    std::cout << "FlexiConnect is ready at " << endpoint << std::endl;
    process.shards.run(wait_for_signal(signals));
    process.log.info("stopping");
  }
  process.readiness.drain();
  process.shards.run(stop_all(running.server.get(), running.services, running.ways, storage, core::StopOptions{settings.stop_grace}));
  storage.database->set_idle_work({});  // it refers to parts that go before the database does
  if (started) process.log.info("stopped");
  return started;
}

}  // namespace

int serve_all_in_one(const Settings& settings) {
  auto served = serve(settings);
  if (served) return cli::exit_ok;
  std::cerr << "flexiconnect: " << served.error().message << (served.error().detail.empty() ? "" : " (" + served.error().detail + ")") << "\n";
  return cli::exit_refused;
}

}  // namespace flexi::apps
