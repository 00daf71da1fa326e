// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "apps/data_directory.hpp"
#include "apps/process.hpp"
#include "apps/role.hpp"
#include "mailers/mailbox/mailbox.hpp"
#include "runtime/postgres/database.hpp"
#include "runtime/sqlite/database.hpp"
#include "runtime/sqlite/ledger_book.hpp"
#include "stores/mongo/log_store.hpp"
#include "stores/sqlite/idempotency_store.hpp"
#include "stores/sqlite/published_store.hpp"
#include "stores/sqlite/sent_mails.hpp"
#include "transports/queue/embedded_queue.hpp"

namespace flexi::apps {

/// Everything that this process stores: what no other database is named for in one of its own. Parts of other roles are null.
struct Storage {
  std::unique_ptr<runtime::sqlite::Database> database;      ///< null: nothing is embedded
  std::unique_ptr<runtime::sqlite::LedgerBook> book;        ///< before those who count in it
  std::unique_ptr<runtime::postgres::Database> postgres;    ///< before those who keep something in it; null: there is none
  std::unique_ptr<core::LedgerSource> postgres_ledger;      ///< what is counted there
  std::unique_ptr<core::UserStore> users;
  std::unique_ptr<core::LogStore> logs;
  stores::mongo::MongoLogStore* mongo = nullptr;            ///< the same, where it is in MongoDB
  std::unique_ptr<mailers::mailbox::SqliteMailbox> mailbox;
  std::unique_ptr<core::SentMails> sent_mails;               ///< where mails go by SMTP
  std::unique_ptr<stores::sqlite::SqliteIdempotencyStore> idempotency;
  std::unique_ptr<core::PublishedStore> published;          ///< where the broker has a RabbitMQ
  std::unique_ptr<transports::queue::EmbeddedQueue> queue;  ///< where the broker has no RabbitMQ
  std::string token_key_file{};  ///< made where everything is one process and the settings name none; empty: there is none

  /// Makes or upgrades the embedded tables. Blocks; for the start-up. What is elsewhere may be away: it says so on /readyz.
  /// @param directory null: nothing is embedded
  static core::Result<Storage> open(const Settings& settings, const RoleTraits& role, const DataDirectory* directory, Process& process);
  /// Who counts what the services here store.
  std::vector<std::reference_wrapper<core::LedgerSource>> books() const;
  /// What is elsewhere; behind the stop of every part that uses it.
  core::awaitable<void> stop();
  /// What is embedded; behind stop().
  void close();

 private:
  core::Result<void> open_embedded(const Settings& settings, const RoleTraits& role, const DataDirectory& directory, Process& process);
  core::Result<void> open_mongo(const Settings& settings, Process& process);
  core::Result<void> open_elsewhere(const Settings& settings, const RoleTraits& role, Process& process);
};

}  // namespace flexi::apps
