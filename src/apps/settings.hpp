// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "apps/role.hpp"
#include "mailers/mailbox/mailbox.hpp"
#include "mailers/smtp/smtp_mailer.hpp"
#include "runtime/config.hpp"
#include "runtime/log_sink.hpp"
#include "runtime/postgres/options.hpp"
#include "services/authentication/authentication_service.hpp"
#include "services/broker/custom_action_options.hpp"
#include "services/broker/make_broker.hpp"
#include "services/frontend/frontend.hpp"
#include "services/logger/logger_service.hpp"
#include "services/mail/mail_service.hpp"
#include "stores/mongo/options.hpp"
#include "stores/sqlite/idempotency_store.hpp"
#include "stores/sqlite/log_store.hpp"
#include "stores/sqlite/published_store.hpp"
#include "stores/sqlite/sent_mails.hpp"
#include "transports/amqp/options.hpp"
#include "transports/grpc/options.hpp"
#include "transports/http/options.hpp"
#include "transports/queue/queue_options.hpp"
#include "transports/rpc/options.hpp"
#include "transports/spool/spool_options.hpp"

namespace flexi::apps {

/// Where the services are that don't run in this process: "http://host:port" and the like, one of each transport.
struct PeerOptions {
  /// The contract's host names and ports.
  static PeerOptions in_containers();

  std::vector<std::string> authentication{"http://127.0.0.1:8082", "grpc://127.0.0.1:50082", "rpc://127.0.0.1:5082"};
  std::vector<std::string> logger{"http://127.0.0.1:8083", "grpc://127.0.0.1:50083", "rpc://127.0.0.1:5083"};
  std::vector<std::string> mail{"http://127.0.0.1:8084", "grpc://127.0.0.1:50084", "rpc://127.0.0.1:5084"};
  std::vector<std::string> order{"http", "grpc", "rpc"};  ///< the listener's choice, and that of reads

  void describe(runtime::OptionVisitor& v);
  runtime::Problems validate() const;
};

/// What this process keeps in a database of another server, whose setting names it, and not in its data folder.
struct Elsewhere {
  bool users = false, logs = false, sent_mails = false;
};

/// Every setting of the program: each component's own Options, under one name.
struct Settings {
  Role role = Role::all_in_one;                  ///< the command's, not a setting of the user's
  std::string profile = "host";                  ///< host or container: changes defaults only
  std::string data_dir = "./flexiconnect-data";  ///< where everything embedded is stored
  std::string storage = "auto";                  ///< auto: what no database is named for is embedded where everything is one process; embedded: here too
  std::string admin_token_file{};                ///< administrator's token; needed off loopback
  bool admin_token_always = false;               ///< wants the token on loopback, too: behind a proxy that can't be told from a client
  std::string example_user = "auto";             ///< auto: where every listener is on loopback
  std::int64_t threads = 0;                      ///< 0: one per core
  std::string log_level = "info";
  std::string log_format = "auto";
  std::chrono::milliseconds stop_grace{8'000};  ///< how long running requests may take when the process stops; Docker kills after 10 s

  PeerOptions peers{};
  transports::http::HttpServerOptions http{};
  transports::http::HttpClientOptions http_client{};
  transports::grpc::GrpcServerOptions grpc{};
  transports::grpc::GrpcClientOptions grpc_client{};
  transports::rpc::RpcServerOptions rpc{};
  transports::rpc::RpcClientOptions rpc_client{};
  transports::amqp::AmqpOptions amqp{};
  transports::spool::SpoolOptions spool{};
  services::broker::BrokerOptions broker{};
  services::broker::CustomActions actions{};  ///< the user's own, by name
  services::authentication::AuthenticationOptions authentication{};
  runtime::postgres::PostgresOptions postgres{};
  services::logger::LoggerOptions logger{};
  stores::sqlite::LogStoreOptions logs{};
  stores::mongo::MongoOptions mongo{};
  stores::sqlite::IdempotencyStoreOptions idempotency{};
  stores::sqlite::PublishedStoreOptions published{};
  services::mail::MailOptions mail{};
  mailers::mailbox::MailboxOptions mailbox{};
  mailers::smtp::SmtpOptions smtp{};
  stores::sqlite::SentMailsOptions sent_mails{};
  transports::queue::QueueOptions queue{};
  services::frontend::FrontEndOptions front_end{};

  /// The defaults of a role: its listening addresses, its data folder, and where it finds the others.
  static Settings of(Role role, Profile profile = Profile::host);
  void describe(runtime::OptionVisitor& v);
  runtime::Problems validate() const;
  /// What only this machine can tell: whether the files that the settings name can be read and hold what they must.
  runtime::Problems check_files() const;

  // For validated settings.
  runtime::LogLevel level() const;
  runtime::LogFormat format() const;
  bool listens_on_loopback() const;
  Elsewhere elsewhere() const;
  /// What a service of its own needs and has no setting for, in words; empty: nothing.
  std::string missing_destination() const;
  /// Something of this process's lies in its data folder.
  bool embeds() const;
  bool has_postgres() const { return !postgres.dsn.empty(); }
  /// Messages go through RabbitMQ, not through the embedded queue.
  bool has_rabbitmq() const { return !amqp.url.empty(); }
  /// Mails are sent, not caught.
  bool mails_go_by_smtp() const { return mail.delivery == "smtp" || (mail.delivery == "auto" && smtp.configured()); }
  /// The transports of the network that this process listens on.
  std::vector<core::Via> listening() const;
  /// Where a client on this machine reaches the server, whatever else is valid; the default address where only the server knows its port.
  std::string local_url() const;
  bool wants_example_user() const { return example_user == "yes" || (example_user == "auto" && listens_on_loopback()); }
};

struct LoadedSettings {
  Settings settings;
  runtime::Problems problems;  ///< empty: the settings are valid
};

/// Defaults (the role's, as the profile has them), then the file, the environment, the flags.
/// @param config_file empty: FLEXI_CONFIG, else ./flexiconnect.toml where it exists
LoadedSettings load_settings(Role role, const std::string& config_file, std::vector<std::pair<std::string, std::string>> flags);

}  // namespace flexi::apps
