// SPDX-License-Identifier: Apache-2.0
#include "stores/sqlite/sent_mails.hpp"

#include <algorithm>
#include <charconv>

#include "core/hops.hpp"
#include "core/timestamp.hpp"
#include "runtime/lines.hpp"
#include "runtime/page_budget.hpp"

namespace flexi::stores::sqlite {

using core::awaitable, core::CallContext, core::MailClaim, core::MessageId, core::Result, core::SentMail;
using runtime::sqlite::Acceptance, runtime::sqlite::AcceptedBy, runtime::sqlite::Atomicity, runtime::sqlite::Connection, runtime::sqlite::LedgerBook;
using runtime::sqlite::Statement;

namespace {

enum Stored : std::int64_t { sending = 0, sent_ = 1, unsent = 2 };

constexpr runtime::sqlite::Migration kMigrations[] = {{1, R"(
  CREATE TABLE sent_mails(
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    digest BLOB NOT NULL,
    state INTEGER NOT NULL,
    at INTEGER NOT NULL,
    lease_until INTEGER NOT NULL,
    token INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    accepted_at INTEGER NOT NULL,
    via TEXT NOT NULL,
    published INTEGER NOT NULL,
    trace_id BLOB NOT NULL,
    hops TEXT NOT NULL,
    sender TEXT NOT NULL,
    recipients TEXT NOT NULL,
    subject TEXT NOT NULL);
  CREATE INDEX sent_mails_by_time ON sent_mails(accepted_at, seq) WHERE state < 2;
  CREATE INDEX sent_mails_by_age ON sent_mails(at);
  CREATE INDEX sent_mails_under_way ON sent_mails(state) WHERE state = 0;
)"}};

std::int64_t now_micros() { return core::to_unix_micros(std::chrono::system_clock::now()); }
std::int64_t micros(std::chrono::milliseconds time) { return std::chrono::duration_cast<std::chrono::microseconds>(time).count(); }

template <std::size_t N>
std::string_view bytes_of(const std::array<std::uint8_t, N>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

core::Error held_by_another(std::int64_t left_micros) {
  auto error = core::unavailable("this mail is being sent already");
  error.retry_after = std::chrono::milliseconds(left_micros / 1000 + 1);
  return error;
}

/// What is there under an id.
struct Found {
  std::string digest;
  std::int64_t state, lease_until, token;
  Acceptance acceptance;
  bool published;
};

Result<std::optional<Found>> find(Connection& connection, const MessageId& id) {
  auto row = connection.use("SELECT digest, state, lease_until, token, via, accepted_at, published FROM sent_mails WHERE id = ?1");
  row.bind(1, id.str());
  FLEXI_TRY(auto found, row.step());
  if (!found) return std::optional<Found>();
  return std::optional(Found{row.text(0), row.integer(1), row.integer(2), row.integer(3),
                             {core::via_from(row.text_view(4)).value_or(core::Via::automatic), row.integer(5)}, row.integer(6) != 0});
}

/// Bound texts must live as long as the statement.
struct Texts {
  std::string recipients, hops;
  explicit Texts(const SentMail& mail) : recipients(runtime::join_lines(mail.to)), hops(core::shorten_hops(mail.hops, mail.accepted_at)) {}
};

void bind_mail(Statement& s, const SentMail& mail, const Texts& texts, std::int64_t now, std::int64_t lease_until) {
  s.bind(1, mail.id.str()).bind_blob(2, bytes_of(mail.digest)).bind(3, now).bind(4, lease_until).bind(5, core::to_unix_micros(mail.accepted_at));
  s.bind(6, core::to_string(mail.via)).bind(7, std::int64_t{mail.published}).bind_blob(8, bytes_of(mail.trace_id));
  s.bind(9, std::string_view(texts.hops));
  s.bind(10, std::string_view(mail.from)).bind(11, std::string_view(texts.recipients)).bind(12, std::string_view(mail.subject));
}

Result<MailClaim> claim_in(Connection& connection, const SentMail& mail, std::chrono::milliseconds lease, LedgerBook* book) {
  FLEXI_TRY(auto found, find(connection, mail.id));
  const auto now = now_micros();
  const bool same = found && found->digest == bytes_of(mail.digest);
  if (found && !same && found->state != unsent) return core::conflict("this id was used for another mail");
  if (found && found->state == sent_) {
    if (book) {
      const Acceptance again{mail.via, core::to_unix_micros(mail.accepted_at)};
      const auto by = mail.published ? AcceptedBy::publisher : AcceptedBy::store;
      FLEXI_TRY(book->repeated(connection, core::actions::kMail, mail.id.str(), found->acceptance, again, by));
    }
    return MailClaim{.sent_before = true};
  }
  if (found && found->state == sending && found->lease_until > now) return held_by_another(found->lease_until - now);
  const Texts texts(mail);
  const auto until = now + micros(lease);
  if (!found) {
    auto insert = connection.use(
        "INSERT INTO sent_mails(id, digest, state, at, lease_until, token, attempts, accepted_at, via, published, trace_id, hops, sender, recipients, subject) "
        "VALUES(?1, ?2, 0, ?3, ?4, 1, 1, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)");
    bind_mail(insert, mail, texts, now, until);
    FLEXI_TRY(insert.run());
    return MailClaim{.token = 1};
  }
  auto update = connection.use(
      "UPDATE sent_mails SET digest = ?2, state = 0, at = ?3, lease_until = ?4, token = token + 1, attempts = attempts * ?13 + 1, accepted_at = ?5, "
      "via = ?6, published = ?7, trace_id = ?8, hops = ?9, sender = ?10, recipients = ?11, subject = ?12 WHERE id = ?1");
  bind_mail(update, mail, texts, now, until);
  FLEXI_TRY(update.bind(13, std::int64_t{same}).run());  // another mail in its place begins at its own first attempt
  return MailClaim{.token = found->token + 1};
}

Result<bool> sent_in(Connection& connection, const MessageId& id, LedgerBook* book) {
  FLEXI_TRY(auto found, find(connection, id));
  if (!found) return core::not_found("no such mail was claimed");
  if (found->state == sent_) return false;
  auto update = connection.use("UPDATE sent_mails SET state = 1, at = ?2, lease_until = 0 WHERE id = ?1");
  FLEXI_TRY(update.bind(1, id.str()).bind(2, now_micros()).run());
  if (book) book->stored(core::actions::kMail, found->acceptance.via, found->published ? AcceptedBy::publisher : AcceptedBy::store);
  return true;
}

#define FLEXI_SENT_COLUMNS \
  "SELECT id, accepted_at, sender, recipients, subject, seq, state, at, lease_until, attempts, via, trace_id, hops, published, digest FROM sent_mails "

SentMail::State state_of(std::int64_t stored, std::int64_t lease_until) {
  if (stored == sent_) return SentMail::State::sent;
  if (stored == unsent) return SentMail::State::unsent;
  return lease_until > now_micros() ? SentMail::State::sending : SentMail::State::undecided;
}

Result<SentMail> read_mail(const Statement& row) {
  SentMail mail;
  FLEXI_TRY(mail.id, MessageId::parse(row.text_view(0)));
  mail.accepted_at = core::from_unix_micros(row.integer(1));
  mail.from = row.text(2), mail.to = runtime::split_lines(row.text_view(3)), mail.subject = row.text(4);
  mail.state = state_of(row.integer(6), row.integer(8));
  mail.at = core::from_unix_micros(row.integer(7));
  mail.attempts = static_cast<unsigned>(row.integer(9));
  mail.via = core::via_from(row.text_view(10)).value_or(core::Via::automatic);
  if (const auto trace = row.text_view(11); trace.size() == mail.trace_id.size()) std::copy(trace.begin(), trace.end(), mail.trace_id.begin());
  mail.hops = core::lengthen_hops(row.text_view(12), mail.accepted_at);
  mail.published = row.integer(13) != 0;
  if (const auto digest = row.text_view(14); digest.size() == mail.digest.size()) std::copy(digest.begin(), digest.end(), mail.digest.begin());
  return mail;
}

struct Position {
  std::int64_t accepted_at = INT64_MAX, seq = INT64_MAX;
};

/// "<accepted_at>.<seq>" of the last mail of the page before.
Result<Position> parse_cursor(std::string_view cursor) {
  Position position;
  if (cursor.empty()) return position;
  const char* end = cursor.data() + cursor.size();
  auto time = std::from_chars(cursor.data(), end, position.accepted_at);
  if (time.ec == std::errc() && time.ptr != end && *time.ptr == '.') {
    auto seq = std::from_chars(time.ptr + 1, end, position.seq);
    if (seq.ec == std::errc() && seq.ptr == end) return position;
  }
  return core::invalid_argument("cursor is not one: pass the `next` of the page before");
}

Result<core::SentMailPage> read_page(Connection& connection, Position after, unsigned limit) {
  core::SentMailPage page;
  runtime::PageBudget budget;
  auto rows = connection.use(FLEXI_SENT_COLUMNS "WHERE state < 2 AND (accepted_at, seq) < (?1, ?2) ORDER BY accepted_at DESC, seq DESC LIMIT ?3");
  // One more than asked for tells whether another page follows.
  rows.bind(1, after.accepted_at).bind(2, after.seq).bind(3, std::int64_t{limit} + 1);
  Position last;
  for (;;) {
    FLEXI_TRY(auto found, rows.step());
    if (!found) return page;
    if (page.mails.size() == limit || !budget.take({rows.text_view(2), rows.text_view(3), rows.text_view(4)})) {
      page.next = std::to_string(last.accepted_at) + "." + std::to_string(last.seq);
      return page;
    }
    FLEXI_TRY(auto mail, read_mail(rows));
    page.mails.push_back(std::move(mail));
    last = {rows.integer(1), rows.integer(5)};
  }
}

}  // namespace

void SentMailsOptions::describe(runtime::OptionVisitor& v) {
  v.field("remember", remember, "How long the id of a mail that was sent by SMTP is remembered, so that a redelivery does not send it again; 0: for ever");
}

runtime::Problems SentMailsOptions::validate() const {
  if (remember.count() == 0 || remember >= std::chrono::hours(1)) return {};
  return {{"remember", "must be 0 or at least 1h"}};
}

Result<std::unique_ptr<SqliteSentMails>> SqliteSentMails::open(runtime::sqlite::Database& database, SentMailsOptions options, LedgerBook* book) {
  FLEXI_TRY(database.migrate("sent_mails", kMigrations));
  FLEXI_TRY(database.write_now([](Connection& connection) -> Result<void> {
    return connection.use("UPDATE sent_mails SET lease_until = 0 WHERE state = 0").run();
  }));
  return std::unique_ptr<SqliteSentMails>(new SqliteSentMails(database, options, book));
}

awaitable<Result<MailClaim>> SqliteSentMails::claim(SentMail mail, std::chrono::milliseconds lease, CallContext context) {
  auto job = [mail = std::move(mail), lease, book = book_](Connection& connection) { return claim_in(connection, mail, lease, book); };
  co_return co_await database_.write(Atomicity::many_statements, std::move(job), std::move(context));
}

awaitable<Result<void>> SqliteSentMails::sent(MessageId id, std::int64_t, CallContext context) {
  auto job = [id = std::move(id), book = book_](Connection& connection) { return sent_in(connection, id, book); };
  auto noted = co_await database_.write(Atomicity::many_statements, std::move(job), std::move(context));
  if (!noted) co_return noted.error();
  co_return core::ok();
}

awaitable<Result<void>> SqliteSentMails::release(MessageId id, std::int64_t token, CallContext context) {
  auto job = [id = std::move(id), token](Connection& connection) -> Result<bool> {
    auto update = connection.use("UPDATE sent_mails SET state = 2, at = ?3, lease_until = 0 WHERE id = ?1 AND token = ?2 AND state = 0");
    FLEXI_TRY(update.bind(1, id.str()).bind(2, token).bind(3, now_micros()).run());
    return true;
  };
  auto released = co_await database_.write(Atomicity::single_statement, std::move(job), std::move(context));
  if (!released) co_return released.error();
  co_return core::ok();
}

awaitable<Result<core::SentMailPage>> SqliteSentMails::list(unsigned limit, std::string cursor, CallContext context) {
  auto after = parse_cursor(cursor);
  if (!after) co_return after.error();
  if (limit < 1 || limit > 500) co_return core::invalid_argument("limit must be 1 to 500");
  auto job = [after = after.value(), limit](Connection& connection) { return read_page(connection, after, limit); };
  co_return co_await database_.read(std::move(job), std::move(context));
}

awaitable<Result<SentMail>> SqliteSentMails::get(MessageId id, CallContext context) {
  auto job = [id = std::move(id), counted = book_ != nullptr](Connection& connection) -> Result<SentMail> {
    auto row = connection.use(FLEXI_SENT_COLUMNS "WHERE id = ?1");
    row.bind(1, id.str());
    FLEXI_TRY(auto found, row.step());
    if (!found) return core::not_found("no such mail");
    FLEXI_TRY(auto mail, read_mail(row));
    if (counted) {
      FLEXI_TRY(mail.duplicates, LedgerBook::repeats(connection, core::actions::kMail, id.str()));
    }
    return mail;
  };
  co_return co_await database_.read(std::move(job), std::move(context));
}

awaitable<Result<core::KnownIds>> SqliteSentMails::known(std::vector<MessageId> ids, CallContext context) {
  auto job = [ids = std::move(ids), remember = options_.remember](Connection& connection) -> Result<core::KnownIds> {
    if (ids.size() > core::KnownIds::kMost) return core::invalid_argument("at most " + std::to_string(core::KnownIds::kMost) + " ids at once");
    core::KnownIds known;
    if (remember.count() > 0) known.kept_since = std::chrono::system_clock::now() - remember;
    auto row = connection.use("SELECT 1 FROM sent_mails WHERE id = ?1 AND state = 1");
    for (auto& id : ids) {
      row.bind(1, id.str());
      FLEXI_TRY(auto there, row.step());
      if (there) known.ids.push_back(id);
      row.reset();
    }
    return known;
  };
  co_return co_await database_.read(std::move(job), std::move(context));
}

bool SqliteSentMails::purge_some(Connection& connection) const {
  constexpr std::int64_t kStep = 500;
  if (options_.remember.count() == 0) return false;
  const auto now = now_micros();
  auto old = connection.use("DELETE FROM sent_mails WHERE seq IN (SELECT seq FROM sent_mails WHERE at < ?1 AND lease_until < ?2 ORDER BY at LIMIT ?3)");
  return old.bind(1, now - micros(options_.remember)).bind(2, now).bind(3, kStep).run() && connection.changes() == kStep;
}

#undef FLEXI_SENT_COLUMNS

}  // namespace flexi::stores::sqlite
