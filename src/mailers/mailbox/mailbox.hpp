// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "core/mailer.hpp"
#include "runtime/options.hpp"
#include "runtime/sqlite/database.hpp"
#include "runtime/sqlite/ledger_book.hpp"

namespace flexi::mailers::mailbox {

struct MailboxOptions {
  std::chrono::milliseconds retention_age{0};  ///< older mails go; 0 keeps them
  std::int64_t retention_max_bytes = 0;        ///< beyond it the oldest mails go; 0 keeps them
  /// How long the id of a mail that is gone is remembered, so that its redelivery does not bring it back.
  std::chrono::milliseconds remember_removed{std::chrono::hours(24 * 90)};

  void describe(runtime::OptionVisitor& visitor);
  runtime::Problems validate() const;
};

/// What a mailbox leaves for the database's idle time: removes mails past their retention and ids past theirs. Each call
/// does a few milliseconds of work and returns whether more is left.
/// Lifetime/threads: a value; called on the writer's thread, inside its transaction
class MailboxUpkeep {
 public:
  explicit MailboxUpkeep(MailboxOptions options) : options_(options) {}
  bool purge_some(runtime::sqlite::Connection& connection) const;
  bool operator()(runtime::sqlite::Connection& connection) const { return purge_some(connection); }

 private:
  core::Result<int> purge(runtime::sqlite::Connection& connection) const;
  MailboxOptions options_;
};

/// Keeps every mail to be looked at instead of sending it. A delivery is idempotent by id, also after the mail was
/// removed; the same id with another payload is `conflict`, one that only renders otherwise (a changed template) is not.
/// Lifetime/threads: any thread; `database` and `book` outlive it
class SqliteMailbox final : public core::Mailer, public core::Mailbox {
 public:
  /// Brings the tables up to date.
  /// @param book counts what is delivered here; none: nothing is counted
  /// @return unavailable where the file can't be written; conflict where a newer program wrote it
  static core::Result<std::unique_ptr<SqliteMailbox>> open(runtime::sqlite::Database& database, runtime::sqlite::LedgerBook* book = nullptr);

  core::awaitable<core::Result<core::Delivered>> deliver(core::RenderedMail mail, core::CallContext context) override;
  core::awaitable<core::Result<core::MailPage>> list(unsigned limit, std::string cursor, core::CallContext context) override;
  core::awaitable<core::Result<core::RenderedMail>> get(core::MessageId id, core::CallContext context) override;
  core::awaitable<core::Result<void>> remove(core::MessageId id, core::CallContext context) override;
  core::awaitable<core::Result<core::KnownIds>> known(std::vector<core::MessageId> ids, core::CallContext context) override;

 private:
  SqliteMailbox(runtime::sqlite::Database& database, runtime::sqlite::LedgerBook* book) : database_(database), book_(book) {}
  runtime::sqlite::Database& database_;
  runtime::sqlite::LedgerBook* book_;
};

}  // namespace flexi::mailers::mailbox
