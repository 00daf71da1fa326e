// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>

#include "core/sent_mails.hpp"
#include "runtime/options.hpp"
#include "runtime/sqlite/database.hpp"
#include "runtime/sqlite/ledger_book.hpp"

namespace flexi::stores::sqlite {

struct SentMailsOptions {
  /// How long the id of a mail that was sent is remembered, so that its redelivery sends nothing; 0: for ever.
  std::chrono::milliseconds remember{std::chrono::hours(24 * 90)};

  void describe(runtime::OptionVisitor& v);
  runtime::Problems validate() const;
};

/// Sent mails in a table of the embedded database, which one server uses at a time.
/// Lifetime/threads: any thread; `database` and `book` outlive it
class SqliteSentMails final : public core::SentMails {
 public:
  /// Creates or upgrades its table. Claims of a process that died are over: whoever held them is gone.
  /// @param book counts what is sent; none: nothing is counted
  static core::Result<std::unique_ptr<SqliteSentMails>> open(runtime::sqlite::Database& database, SentMailsOptions options,
                                                             runtime::sqlite::LedgerBook* book = nullptr);

  core::awaitable<core::Result<core::MailClaim>> claim(core::SentMail mail, std::chrono::milliseconds lease, core::CallContext context) override;
  core::awaitable<core::Result<void>> sent(core::MessageId id, std::int64_t token, core::CallContext context) override;
  core::awaitable<core::Result<void>> release(core::MessageId id, std::int64_t token, core::CallContext context) override;
  core::awaitable<core::Result<core::SentMailPage>> list(unsigned limit, std::string cursor, core::CallContext context) override;
  core::awaitable<core::Result<core::SentMail>> get(core::MessageId id, core::CallContext context) override;
  core::awaitable<core::Result<core::KnownIds>> known(std::vector<core::MessageId> ids, core::CallContext context) override;

  /// For Database::set_idle_work: forgets ids past their time, some at once. @return whether more may be left
  bool purge_some(runtime::sqlite::Connection& connection) const;

 private:
  SqliteSentMails(runtime::sqlite::Database& database, SentMailsOptions options, runtime::sqlite::LedgerBook* book)
      : database_(database), options_(options), book_(book) {}

  runtime::sqlite::Database& database_;
  const SentMailsOptions options_;
  runtime::sqlite::LedgerBook* book_;
};

}  // namespace flexi::stores::sqlite
