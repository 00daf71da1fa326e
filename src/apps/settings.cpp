// SPDX-License-Identifier: Apache-2.0
#include "apps/settings.hpp"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <set>

#include "apps/all_transports.hpp"
#include "runtime/net/address.hpp"

namespace flexi::apps {

namespace {

constexpr std::pair<std::string_view, runtime::LogLevel> kLevels[] = {
    {"debug", runtime::LogLevel::debug}, {"info", runtime::LogLevel::info}, {"warning", runtime::LogLevel::warning}, {"error", runtime::LogLevel::error}};
constexpr std::pair<std::string_view, runtime::LogFormat> kFormats[] = {
    {"auto", runtime::LogFormat::automatic}, {"json", runtime::LogFormat::json}, {"human", runtime::LogFormat::human}};

template <class Table>
auto find(const Table& table, std::string_view name) {
  return std::find_if(std::begin(table), std::end(table), [&](auto& entry) { return entry.first == name; });
}

void check_endpoints(runtime::Problems& problems, const char* key, const std::vector<std::string>& endpoints) {
  std::set<core::Via> seen;
  for (auto& endpoint : endpoints) {
    const auto via = AllTransports::via_of(endpoint);
    if (!via) problems.push_back({key, "\"" + endpoint + "\" is no endpoint such as http://127.0.0.1:8083"});
    else if (!seen.insert(*via).second) problems.push_back({key, "has two endpoints for " + std::string(core::to_string(*via)) + ": give one name that has several addresses"});
  }
}

/// Two listeners of one process can't have one address, nor one of them all addresses of the other's port.
void check_addresses(runtime::Problems& problems, const Settings& settings) {
  struct Listener {
    const char* key;
    const std::string& listen;
    std::uint16_t default_port;
  };
  const Listener listeners[] = {{"http.listen", settings.http.listen, 80}, {"grpc.listen", settings.grpc.listen, 50001}, {"rpc.listen", settings.rpc.listen, 5001}};
  std::vector<std::pair<const char*, boost::asio::ip::tcp::endpoint>> taken;
  for (auto& [key, listen, default_port] : listeners) {
    if (listen.empty()) continue;
    auto parsed = runtime::net::parse_listen(listen, default_port);
    if (!parsed || parsed.value().port() == 0) continue;  // the one is told elsewhere, the other gets a free port
    const auto& own = parsed.value();
    for (auto& [other, endpoint] : taken)
      if (endpoint.port() == own.port() && (endpoint.address() == own.address() || endpoint.address().is_unspecified() || own.address().is_unspecified()))
        problems.push_back({key, listen + " is taken by " + other + ": give each listener its own port"});
    taken.emplace_back(key, own);
  }
}

/// @param marker what the file must hold; empty: a first line
void check_file(runtime::Problems& problems, const char* key, const std::string& file, std::string_view marker) {
  if (file.empty()) return;
  std::ifstream in(file);
  std::string text;
  if (in) text.assign(std::istreambuf_iterator<char>(in), {});
  if (!in) problems.push_back({key, "can't read " + file});
  else if (marker.empty() ? text.empty() || text.front() == '\n' : text.find(marker) == text.npos)
    problems.push_back({key, file + (marker.empty() ? " is empty" : " is no PEM file of what it must hold: there is no " + std::string(marker))});
}

/// Source: the contract's host names and credentials of a container network
void find_servers_in_containers(Settings& settings, const RoleTraits& traits) {
  if (traits.broker || traits.listener) settings.amqp.url = "amqp://guest:guest@rabbitmq";
  if (traits.logger) settings.mongo.uri = "mongodb://admin:password@mongo:27017";
  if (traits.mail) settings.smtp.host = "mailhog";
}

}  // namespace

void PeerOptions::describe(runtime::OptionVisitor& v) {
  v.field("authentication", authentication, "Where the authentication service is, where it is not in this process; one endpoint for each transport");
  v.field("logger", logger, "Likewise the logger service");
  v.field("mail", mail, "Likewise the mail service");
  v.field("order", order, "Transports that the listener, and reads, try in turn");
}

runtime::Problems PeerOptions::validate() const {
  runtime::Problems problems;
  check_endpoints(problems, "authentication", authentication);
  check_endpoints(problems, "logger", logger);
  check_endpoints(problems, "mail", mail);
  for (auto& name : order)
    if (auto via = core::via_from(name); via != core::Via::http && via != core::Via::grpc && via != core::Via::rpc)
      problems.push_back({"order", "\"" + name + "\" is none of http, grpc, rpc"});
  return problems;
}

PeerOptions PeerOptions::in_containers() {
  const auto at = [](const std::string& host) { return std::vector<std::string>{"http://" + host + ":80", "grpc://" + host + ":50001", "rpc://" + host + ":5001"}; };
  return {.authentication = at("authentication-service"), .logger = at("logger-service"), .mail = at("mail-service")};
}

Settings Settings::of(Role role, Profile profile) {
  Settings settings;
  const auto& traits = traits_of(role);
  settings.role = role;
  settings.http.listen = traits.http_listen(profile);
  settings.grpc.listen = traits.grpc_listen(profile);
  settings.rpc.listen = traits.rpc_listen(profile);
  if (role == Role::front_end) settings.front_end.broker_url = "http://localhost:8080";  // its own address is no broker's
  if (profile == Profile::container) {
    settings.profile = "container";
    settings.peers = PeerOptions::in_containers();
  }
  if (role == Role::all_in_one) return settings;
  settings.data_dir += "-" + std::string(traits.command);
  if (profile == Profile::container) find_servers_in_containers(settings, traits);
  return settings;
}


void Settings::describe(runtime::OptionVisitor& v) {
  v.field("profile", profile, "host or container: other defaults of addresses (print-config shows them), nothing else. In a container a service listens on "
          "0.0.0.0:80 (gRPC 50001, RPC 5001) and finds the others as authentication-service, logger-service, mail-service, rabbitmq, postgres, mongo, mailhog");
  v.field("data_dir", data_dir, "Folder of everything that is stored in this process; one server a folder");
  v.field("storage", storage, "embedded: what no database is named for is kept in the data folder; auto: so it is where everything is one process");
  v.field("admin_token_file", admin_token_file, "File with the administrator's token: off loopback, reading and administration want it");
  v.field("admin_token_always", admin_token_always, "Want the token on loopback, too: behind a proxy on this machine, whose requests come from here");
  v.field("example_user", example_user, "Create admin@example.com in an empty user store: yes, no, or auto (where this process listens on loopback only)");
  v.field("threads", threads, "Threads that serve connections; 0 is one per core");
  v.field("log_level", log_level, "Least level that is logged: debug, info, warning or error");
  v.field("log_format", log_format, "json (one object a line), human, or auto (human on a terminal)");
  v.field("stop_grace", stop_grace, "How long running requests may take when the process is stopped, in all; Docker kills it after 10 s");
  v.group("peers", "Services that run in other processes", peers);
  v.group("http", "The HTTP server", http);
  v.group("http_client", "Calls to other services by HTTP", http_client);
  v.group("grpc", "The gRPC server; none while listen is empty", grpc);
  v.group("grpc_client", "Calls to other services by gRPC", grpc_client);
  v.group("rpc", "The RPC server (Cap'n Proto); none while listen is empty", rpc);
  v.group("rpc_client", "Calls to other services by RPC", rpc_client);
  v.group("amqp", "RabbitMQ; while url is empty, the embedded queue stands in its place", amqp);
  v.group("spool", "Where accepted messages wait while RabbitMQ is down; data_dir/spool while directory is empty", spool);
  v.group("broker", "Routes, fallback and limits", broker);
  v.sections("actions", "Action of your own", "url", actions);
  v.group("authentication", "Logins and passwords", authentication);
  v.group("postgres", "PostgreSQL, which keeps the users, and the ledger of mails that SMTP took; while dsn is empty, the data folder does", postgres);
  v.group("logger", "The logger service", logger);
  v.group("logs", "The embedded log store", logs);
  v.group("mongo", "MongoDB in place of the embedded log store; none while uri is empty", mongo);
  v.group("idempotency", "Idempotency keys", idempotency);
  v.group("published", "Messages on their way through RabbitMQ", published);
  v.group("mail", "Rendering of mails", mail);
  v.group("mailbox", "The embedded mailbox", mailbox);
  v.group("smtp", "The SMTP server that mails go to, or are released to (mail.delivery); none while host is empty", smtp);
  v.group("sent_mails", "The ledger of the mails that SMTP took", sent_mails);
  v.group("queue", "The embedded queue", queue);
  v.group("front_end", "The page", front_end);
}

runtime::Problems Settings::validate() const {
  runtime::Problems problems;
  if (profile != "host" && profile != "container") problems.push_back({"profile", "must be host or container"});
  if (data_dir.empty()) problems.push_back({"data_dir", "must not be empty"});
  if (storage != "auto" && storage != "embedded") problems.push_back({"storage", "must be auto or embedded"});
  else if (const auto wanted = missing_destination(); storage == "auto" && !wanted.empty())
    problems.push_back({"storage", "the " + std::string(traits_of(role).command) + " service alone has no " + wanted + "; or \"embedded\" keeps its data in data_dir"});
  if (example_user != "auto" && example_user != "yes" && example_user != "no") problems.push_back({"example_user", "must be auto, yes or no"});
  if (admin_token_always && admin_token_file.empty()) problems.push_back({"admin_token_always", "wants a token: set admin_token_file"});
  if (threads < 0 || threads > 64) problems.push_back({"threads", "must be 0 to 64"});
  if (find(kLevels, log_level) == std::end(kLevels)) problems.push_back({"log_level", "must be debug, info, warning or error"});
  if (find(kFormats, log_format) == std::end(kFormats)) problems.push_back({"log_format", "must be auto, json or human"});
  if (stop_grace.count() < 0 || stop_grace > std::chrono::hours(1)) problems.push_back({"stop_grace", "must be 0s to 1h"});
  check_addresses(problems, *this);
  append_problems(problems, "peers", peers.validate());
  append_problems(problems, "http", http.validate());
  append_problems(problems, "http_client", http_client.validate());
  if (!grpc.listen.empty()) append_problems(problems, "grpc", grpc.validate());
  append_problems(problems, "grpc_client", grpc_client.validate());
  if (!rpc.listen.empty()) append_problems(problems, "rpc", rpc.validate());
  append_problems(problems, "rpc_client", rpc_client.validate());
  if (has_rabbitmq()) append_problems(problems, "amqp", amqp.validate());
  else if (role == Role::listener) problems.push_back({"amqp.url", "is missing: the listener consumes RabbitMQ's queues, amqp://user:password@host:5672"});
  append_problems(problems, "spool", spool.validate());
  append_problems(problems, "broker", broker.validate());
  // What the broker accepts and its own ways on refuse would become a dead letter.
  if (broker.max_payload_bytes > rpc_client.max_request_bytes)
    problems.push_back({"broker.max_payload_bytes", "must be at most rpc_client.max_request_bytes: RPC could not carry what was accepted"});
  if (has_rabbitmq() && broker.max_payload_bytes > amqp.max_body_bytes)
    problems.push_back({"broker.max_payload_bytes", "must be at most amqp.max_body_bytes: RabbitMQ's messages could not carry what was accepted"});
  append_problems(problems, "actions", services::broker::validate(actions));
  if (!has_rabbitmq() && (traits_of(role).broker || traits_of(role).listener))
    for (auto& [name, action] : actions)
      if (action.has_own_consumer()) problems.push_back({"actions." + name + ".url", "a consumer of your own wants RabbitMQ: set amqp.url"});
  append_problems(problems, "authentication", authentication.validate());
  append_problems(problems, "postgres", postgres.validate());
  if (traits_of(role).authentication && elsewhere().users) append_problems(problems, "authentication", authentication.validate_for_contract_table());
  append_problems(problems, "logger", logger.validate());
  append_problems(problems, "logs", logs.validate());
  append_problems(problems, "mongo", mongo.validate());
  append_problems(problems, "idempotency", idempotency.validate());
  append_problems(problems, "published", published.validate());
  append_problems(problems, "mail", mail.validate());
  append_problems(problems, "mailbox", mailbox.validate());
  append_problems(problems, "smtp", smtp.validate());
  append_problems(problems, "sent_mails", sent_mails.validate());
  if (mail.delivery == "smtp" && !smtp.configured()) problems.push_back({"mail.delivery", "smtp wants a server: set smtp.host (MAIL_HOST)"});
  append_problems(problems, "queue", queue.validate());
  append_problems(problems, "front_end", front_end.validate());
  return problems;
}

runtime::Problems Settings::check_files() const {
  constexpr std::string_view kCertificate = "-----BEGIN CERTIFICATE-----", kKey = "PRIVATE KEY-----";
  runtime::Problems problems;
  check_file(problems, "admin_token_file", admin_token_file, "");
  if (!grpc.listen.empty()) {
    check_file(problems, "grpc.certificate_file", grpc.certificate_file, kCertificate);
    check_file(problems, "grpc.key_file", grpc.key_file, kKey);
  }
  check_file(problems, "grpc_client.ca_file", grpc_client.ca_file, kCertificate);
  check_file(problems, "grpc_client.certificate_file", grpc_client.certificate_file, kCertificate);
  check_file(problems, "grpc_client.key_file", grpc_client.key_file, kKey);
  if (has_rabbitmq()) {
    check_file(problems, "amqp.tls_ca_file", amqp.tls_ca_file, kCertificate);
    check_file(problems, "amqp.tls_certificate_file", amqp.tls_certificate_file, kCertificate);
    check_file(problems, "amqp.tls_key_file", amqp.tls_key_file, kKey);
  }
  if (smtp.configured()) check_file(problems, "smtp.ca_file", smtp.ca_file, kCertificate);
  if (traits_of(role).authentication) {
    check_file(problems, "authentication.common_passwords_file", authentication.common_passwords_file, "");
    if (const auto& key = authentication.token_key_file; !key.empty())
      if (auto tokens = services::authentication::Tokens::open(key, authentication.token_options()); !tokens)
        problems.push_back({"authentication.token_key_file", tokens.error().message});
  }
  return problems;
}

runtime::LogLevel Settings::level() const { return find(kLevels, log_level)->second; }
runtime::LogFormat Settings::format() const { return find(kFormats, log_format)->second; }

bool Settings::listens_on_loopback() const {
  for (auto* listen : {&http.listen, &grpc.listen, &rpc.listen}) {
    const auto host = listen->substr(0, listen->rfind(':'));
    if (!listen->empty() && host != "localhost" && host != "[::1]" && !host.starts_with("127.")) return false;
  }
  return true;
}

Elsewhere Settings::elsewhere() const {
  return {.users = has_postgres(), .logs = mongo.configured(), .sent_mails = has_postgres() && mails_go_by_smtp()};
}

std::string Settings::missing_destination() const {
  const auto there = elsewhere();
  switch (role) {
    case Role::authentication: return there.users ? "" : "database: name a PostgreSQL with postgres.dsn (DSN)";
    case Role::logger: return there.logs ? "" : "database: name a MongoDB with mongo.uri (MONGO_URI)";
    case Role::mail: return mails_go_by_smtp() ? "" : "SMTP server: name one with smtp.host (MAIL_HOST)";
    default: return "";
  }
}

bool Settings::embeds() const {
  const auto& traits = traits_of(role);
  const auto there = elsewhere();
  return traits.broker || (traits.authentication && !there.users) || (traits.logger && !there.logs) || (traits.mail && !there.sent_mails);
}

std::vector<core::Via> Settings::listening() const {
  std::vector<core::Via> vias{core::Via::http};
  if (!grpc.listen.empty()) vias.push_back(core::Via::grpc);
  if (!rpc.listen.empty()) vias.push_back(core::Via::rpc);
  return vias;
}

std::string Settings::local_url() const {
  std::string listen = http.listen;
  const auto colon = listen.rfind(':');
  if (colon == listen.npos || colon + 1 == listen.size() || listen.substr(colon) == ":0") listen = traits_of(role).http;
  // "Every address" is for listening; it is reached on loopback.
  if (listen.starts_with("0.0.0.0:")) listen.replace(0, 7, "127.0.0.1");
  if (listen.starts_with("[::]:")) listen.replace(0, 4, "[::1]");
  return "http://" + listen;
}

LoadedSettings load_settings(Role role, const std::string& config_file, std::vector<std::pair<std::string, std::string>> flags) {
  LoadedSettings loaded{.settings = Settings::of(role)};
  runtime::ConfigSources sources;
  sources.environment = runtime::process_environment();
  sources.flags = std::move(flags);
  std::string file = config_file;
  if (auto it = sources.environment.find("FLEXI_CONFIG"); file.empty() && it != sources.environment.end()) file = it->second;
  // Settings of the command line's client side, not of the server.
  for (auto* name : {"FLEXI_CONFIG", "FLEXI_URL"}) sources.environment.erase(name);
  const bool asked_for = !file.empty();
  if (!asked_for) file = "flexiconnect.toml";
  if (std::ifstream in(file); in) {
    sources.file_name = file;
    sources.toml.emplace(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  } else if (asked_for) {
    loaded.problems.push_back({file, "can't be read"});
  }
  const auto read = [&] { return runtime::read_config([&](runtime::OptionVisitor& v) { loaded.settings.describe(v); }, sources); };
  auto problems = read();
  if (loaded.settings.profile == "container") {
    // Known only now: which defaults the rest stands on.
    loaded.settings = Settings::of(role, Profile::container);
    problems = read();
  }
  loaded.problems.insert(loaded.problems.end(), problems.begin(), problems.end());
  // Values that could not be read keep their defaults, so the rest can be judged in the same run.
  auto invalid = loaded.settings.validate();
  loaded.problems.insert(loaded.problems.end(), invalid.begin(), invalid.end());
  return loaded;
}

}  // namespace flexi::apps
