// SPDX-License-Identifier: Apache-2.0
#include "apps/storage.hpp"

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

}  // namespace

Result<Storage> Storage::open(const Settings& settings, const RoleTraits& role, const DataDirectory& directory, Process& process) {
  Storage storage;
  FLEXI_TRY(storage.database, open_database(directory, process));
  auto& database = *storage.database;
  FLEXI_TRY(storage.book, runtime::sqlite::LedgerBook::open(database));
  if (role.authentication) {
    FLEXI_TRY(storage.users, stores::sqlite::open_user_store(database));
  }
  if (role.logger) {
    FLEXI_TRY(storage.logs, stores::sqlite::open_log_store(database, settings.logs, storage.book.get()));
  }
  if (role.mail) {
    FLEXI_TRY(storage.mailbox, mailers::mailbox::SqliteMailbox::open(database, storage.book.get()));
  }
  if (role.broker) {
    FLEXI_TRY(storage.idempotency, stores::sqlite::SqliteIdempotencyStore::open(database, settings.idempotency));
  }
  if (role.broker && settings.has_rabbitmq()) {
    FLEXI_TRY(storage.published, stores::sqlite::SqlitePublishedStore::open(database, settings.published, *storage.book));
  }
  if (role.broker && !settings.has_rabbitmq()) {
    FLEXI_TRY(storage.queue, transports::queue::EmbeddedQueue::open({.database = database, .shards = process.shards, .log = process.log, .metrics = process.metrics,
                                                                     .counted_by_stores = {std::string(core::actions::kLog), std::string(core::actions::kMail)}},
                                                                    settings.queue));
  }
  // The database has one idle work: each part's in turn, until none has anything left.
  std::vector<std::function<bool(runtime::sqlite::Connection&)>> upkeep;
  upkeep.push_back([book = storage.book.get()](auto& connection) { return book->purge_some(connection, std::chrono::system_clock::now()); });
  if (role.logger) upkeep.push_back(stores::sqlite::LogUpkeep(settings.logs));
  if (role.mail) upkeep.push_back(mailers::mailbox::MailboxUpkeep(settings.mailbox));
  if (storage.idempotency) upkeep.push_back([keys = storage.idempotency.get()](auto& connection) { return keys->purge_some(connection); });
  if (storage.queue) upkeep.push_back([queue = storage.queue.get()](auto& connection) { return queue->purge_some(connection); });
  database.set_idle_work([upkeep = std::move(upkeep)](runtime::sqlite::Connection& connection) {
    bool left = false;
    for (auto& part : upkeep) left |= part(connection);
    return left;
  });
  return storage;
}

void Storage::close() {
  if (database) database->set_idle_work({});  // it refers to parts that go before the database does
}

}  // namespace flexi::apps
