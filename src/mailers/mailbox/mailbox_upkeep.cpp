// SPDX-License-Identifier: Apache-2.0
#include "core/timestamp.hpp"
#include "mailers/mailbox/mailbox.hpp"

namespace flexi::mailers::mailbox {

using runtime::sqlite::Connection;

namespace {

/// A mail's pages are freed one by one: 50 mails of some KiB take about a millisecond.
constexpr int kStep = 50;

std::int64_t time_before_now(std::chrono::milliseconds age) { return core::to_unix_micros(std::chrono::system_clock::now() - age); }

}  // namespace

void MailboxOptions::describe(runtime::OptionVisitor& v) {
  v.field("retention_age", retention_age, "Mails older than this are removed; 0 keeps them");
  v.field("retention_max_bytes", retention_max_bytes, "The oldest mails are removed when all together take more; 0 keeps them");
  v.field("remember_removed", remember_removed, "How long the id of a removed mail is remembered, so that a redelivery does not bring it back");
}

runtime::Problems MailboxOptions::validate() const {
  runtime::Problems problems;
  if (retention_age.count() < 0) problems.push_back({"retention_age", "must not be negative"});
  if (retention_max_bytes < 0) problems.push_back({"retention_max_bytes", "must not be negative"});
  if (remember_removed.count() < 0) problems.push_back({"remember_removed", "must not be negative"});
  return problems;
}

core::Result<int> MailboxUpkeep::purge(Connection& connection) const {
  if (options_.retention_age.count() > 0) {
    auto old = connection.use("DELETE FROM mails WHERE seq IN (SELECT seq FROM mails WHERE created_at < ?1 ORDER BY created_at, seq LIMIT ?2)");
    old.bind(1, time_before_now(options_.retention_age)).bind(2, std::int64_t{kStep});
    FLEXI_TRY(old.run());
    if (const int gone = connection.changes(); gone > 0) return gone;
  }
  if (options_.retention_max_bytes > 0) {
    // The oldest whose bytes, counted from the oldest on, don't reach what is too much; and the one that does.
    auto big = connection.use(
        "DELETE FROM mails WHERE seq IN (SELECT seq FROM (SELECT seq, sum(bytes) OVER (ORDER BY created_at, seq) - bytes AS before FROM "
        "(SELECT seq, created_at, bytes FROM mails ORDER BY created_at, seq LIMIT ?2)) WHERE before < (SELECT bytes FROM mails_total) - ?1)");
    big.bind(1, options_.retention_max_bytes).bind(2, std::int64_t{kStep});
    FLEXI_TRY(big.run());
    if (const int gone = connection.changes(); gone > 0) return gone;
  }
  auto forgotten = connection.use("DELETE FROM mails_removed WHERE id IN (SELECT id FROM mails_removed WHERE removed_at < ?1 ORDER BY removed_at LIMIT ?2)");
  forgotten.bind(1, time_before_now(options_.remember_removed)).bind(2, std::int64_t{kStep} * 10);
  FLEXI_TRY(forgotten.run());
  return connection.changes();
}

bool MailboxUpkeep::purge_some(Connection& connection) const {
  // A failure (a full disk) has removed nothing; the next write brings another try.
  auto gone = purge(connection);
  return gone && gone.value() > 0;
}

}  // namespace flexi::mailers::mailbox
