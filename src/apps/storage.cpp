// SPDX-License-Identifier: Apache-2.0
#include "apps/storage.hpp"

#include "stores/postgres/ledger.hpp"
#include "stores/postgres/sent_mails.hpp"
#include "stores/postgres/user_store.hpp"
#include "stores/sqlite/user_store.hpp"

namespace flexi::apps {

using core::Result;
using runtime::sqlite::Database;

namespace {

Result<std::unique_ptr<Database>> open_database(const DataDirectory& directory, Process& process) {
  runtime::sqlite::DatabaseOptions options;
  options.path = directory.database_file();
  process.readiness.set_ready("storage");
  options.on_health = [&readiness = process.readiness](const core::Error* failure) {
    if (failure) readiness.set_unready("storage", failure->message);
    else readiness.set_ready("storage");
  };
  return Database::open(options, process.log, process.metrics);
}

std::unique_ptr<runtime::postgres::Database> connect_postgres(const Settings& settings, Process& process) {
  auto on_health = [&readiness = process.readiness](const core::Error* failure) {
    if (failure) readiness.set_unready("postgresql", failure->message);
    else readiness.set_ready("postgresql");
  };
  process.readiness.set_unready("postgresql", "the database is being connected");
  return std::make_unique<runtime::postgres::Database>(settings.postgres, process.shards.executor(0), process.log, process.metrics, on_health);
}

}  // namespace

Result<Storage> Storage::open(const Settings& settings, const RoleTraits& role, const DataDirectory* directory, Process& process) {
  Storage storage;
  if (directory) {
    FLEXI_TRY(storage.open_embedded(settings, role, *directory, process));
  }
  FLEXI_TRY(storage.open_elsewhere(settings, role, process));
  return storage;
}

Result<void> Storage::open_embedded(const Settings& settings, const RoleTraits& role, const DataDirectory& directory, Process& process) {
  const auto there = settings.elsewhere();
  FLEXI_TRY(database, open_database(directory, process));
  FLEXI_TRY(book, runtime::sqlite::LedgerBook::open(*database));
  if (role.authentication && !there.users) {
    FLEXI_TRY(users, stores::sqlite::open_user_store(*database));
  }
  if (role.logger && !there.logs) {
    FLEXI_TRY(logs, stores::sqlite::open_log_store(*database, settings.logs, book.get()));
  }
  if (role.mail) {
    FLEXI_TRY(mailbox, mailers::mailbox::SqliteMailbox::open(*database, book.get()));
  }
  stores::sqlite::SqliteSentMails* sent = nullptr;
  if (role.mail && settings.mails_go_by_smtp() && !there.sent_mails) {
    FLEXI_TRY(auto opened, stores::sqlite::SqliteSentMails::open(*database, settings.sent_mails, book.get()));
    sent = opened.get();
    sent_mails = std::move(opened);
  }
  if (role.broker) {
    FLEXI_TRY(idempotency, stores::sqlite::SqliteIdempotencyStore::open(*database, settings.idempotency));
  }
  if (role.broker && settings.has_rabbitmq()) {
    FLEXI_TRY(published, stores::sqlite::SqlitePublishedStore::open(*database, settings.published, *book));
  }
  if (role.broker && !settings.has_rabbitmq()) {
    FLEXI_TRY(queue, transports::queue::EmbeddedQueue::open({.database = *database, .shards = process.shards, .log = process.log, .metrics = process.metrics,
                                                                     .counted_by_stores = {std::string(core::actions::kLog), std::string(core::actions::kMail)}},
                                                                    settings.queue));
  }
  if (role.role == Role::all_in_one && settings.authentication.token_key_file.empty()) {
    token_key_file = directory.token_key_file();
    FLEXI_TRY(services::authentication::ensure_token_key(token_key_file));
  }
  // The database has one idle work: each part's in turn, until none has anything left.
  std::vector<std::function<bool(runtime::sqlite::Connection&)>> upkeep;
  upkeep.push_back([book = book.get()](auto& connection) { return book->purge_some(connection, std::chrono::system_clock::now()); });
  if (logs) upkeep.push_back(stores::sqlite::LogUpkeep(settings.logs));
  if (mailbox) upkeep.push_back(mailers::mailbox::MailboxUpkeep(settings.mailbox));
  if (sent) upkeep.push_back([sent](auto& connection) { return sent->purge_some(connection); });
  if (idempotency) upkeep.push_back([keys = idempotency.get()](auto& connection) { return keys->purge_some(connection); });
  if (queue) upkeep.push_back([queue = queue.get()](auto& connection) { return queue->purge_some(connection); });
  database->set_idle_work([upkeep = std::move(upkeep)](runtime::sqlite::Connection& connection) {
    bool left = false;
    for (auto& part : upkeep) left |= part(connection);
    return left;
  });
  return core::ok();
}

Result<void> Storage::open_elsewhere(const Settings& settings, const RoleTraits& role, Process& process) {
  const auto there = settings.elsewhere();
  if ((role.authentication && there.users) || (role.mail && there.sent_mails)) postgres = connect_postgres(settings, process);
  if (role.authentication && there.users) users = stores::postgres::open_user_store(*postgres);
  if (role.mail && there.sent_mails) {
    postgres_ledger = stores::postgres::open_ledger(*postgres);
    sent_mails = stores::postgres::open_sent_mails(*postgres, settings.sent_mails.remember);
  }
  if (postgres) postgres->start();
  if (role.logger && there.logs) {
    FLEXI_TRY(open_mongo(settings, process));
  }
  return core::ok();
}

Result<void> Storage::open_mongo(const Settings& settings, Process& process) {
  auto options = settings.mongo;
  process.readiness.set_unready("mongodb", "MongoDB has not been reached yet");
  options.on_health = [&readiness = process.readiness](const core::Error* failure) {
    if (failure) readiness.set_unready("mongodb", failure->message);
    else readiness.set_ready("mongodb");
  };
  FLEXI_TRY(auto store, stores::mongo::MongoLogStore::open(std::move(options), process.log, process.metrics));
  mongo = store.get();
  logs = std::move(store);
  return core::ok();
}

std::vector<std::reference_wrapper<core::LedgerSource>> Storage::books() const {
  std::vector<std::reference_wrapper<core::LedgerSource>> all;
  if (book) all.emplace_back(*book);
  if (postgres_ledger) all.emplace_back(*postgres_ledger);
  if (mongo) all.emplace_back(*mongo);
  return all;
}

core::awaitable<void> Storage::stop() {
  if (postgres) co_await postgres->stop();
  if (std::exchange(mongo, nullptr)) logs.reset();  // joins its threads: what they have in hand is stored first
}

void Storage::close() {
  if (database) database->set_idle_work({});  // it refers to parts that go before the database does
}

}  // namespace flexi::apps
