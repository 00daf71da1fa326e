// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "apps/data_directory.hpp"
#include "apps/process.hpp"
#include "apps/role.hpp"
#include "mailers/mailbox/mailbox.hpp"
#include "runtime/sqlite/database.hpp"
#include "runtime/sqlite/ledger_book.hpp"
#include "stores/sqlite/idempotency_store.hpp"
#include "stores/sqlite/published_store.hpp"
#include "transports/queue/embedded_queue.hpp"

namespace flexi::apps {

/// Everything that this process stores itself, in one database. Parts of other roles are null.
struct Storage {
  std::unique_ptr<runtime::sqlite::Database> database;
  std::unique_ptr<runtime::sqlite::LedgerBook> book;  ///< before those who count in it
  std::unique_ptr<core::UserStore> users;
  std::unique_ptr<core::LogStore> logs;
  std::unique_ptr<mailers::mailbox::SqliteMailbox> mailbox;
  std::unique_ptr<stores::sqlite::SqliteIdempotencyStore> idempotency;
  std::unique_ptr<core::PublishedStore> published;          ///< where the broker has a RabbitMQ
  std::unique_ptr<transports::queue::EmbeddedQueue> queue;  ///< where the broker has no RabbitMQ

  /// Makes or upgrades the tables. Blocks; for the start-up.
  static core::Result<Storage> open(const Settings& settings, const RoleTraits& role, const DataDirectory& directory, Process& process);
  /// Behind the stop of every part that uses it.
  void close();
};

}  // namespace flexi::apps
