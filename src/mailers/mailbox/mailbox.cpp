// SPDX-License-Identifier: Apache-2.0
#include "mailers/mailbox/mailbox.hpp"

#include <openssl/evp.h>

#include <array>
#include <charconv>

#include "core/hops.hpp"
#include "core/timestamp.hpp"
#include "runtime/lines.hpp"
#include "runtime/page_budget.hpp"

namespace flexi::mailers::mailbox {

using core::awaitable, core::CallContext, core::RenderedMail, core::Result;
using runtime::sqlite::Acceptance, runtime::sqlite::Atomicity, runtime::sqlite::Connection, runtime::sqlite::LedgerBook, runtime::sqlite::Migration;

namespace {

/// The triggers make each change one statement: a mail goes, its id stays and the total follows, or nothing happens.
/// Big columns come last, so that a list reads none of their pages.
constexpr Migration kMigrations[] = {{1, R"(
  CREATE TABLE mails(
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    digest BLOB NOT NULL,
    sender TEXT NOT NULL,
    recipients TEXT NOT NULL,
    subject TEXT NOT NULL,
    html TEXT NOT NULL,
    plain TEXT NOT NULL,
    mime BLOB NOT NULL);
  CREATE INDEX mails_by_time ON mails(created_at, seq);
  CREATE TABLE mails_removed(id TEXT PRIMARY KEY, digest BLOB NOT NULL, removed_at INTEGER NOT NULL) WITHOUT ROWID;
  CREATE INDEX mails_removed_by_time ON mails_removed(removed_at);
  CREATE TABLE mails_total(bytes INTEGER NOT NULL);
  INSERT INTO mails_total VALUES(0);
  CREATE TRIGGER mails_added AFTER INSERT ON mails BEGIN
    UPDATE mails_total SET bytes = bytes + new.bytes;
  END;
  CREATE TRIGGER mails_gone AFTER DELETE ON mails BEGIN
    UPDATE mails_total SET bytes = bytes - old.bytes;
    INSERT OR REPLACE INTO mails_removed VALUES(old.id, old.digest, unixepoch() * 1000000);
  END;
)"},
                                     // What is known beside a mail, apart from its row, whose big columns a new one would stand behind.
                                     {2, R"(
  CREATE TABLE mail_traces(seq INTEGER PRIMARY KEY, via TEXT NOT NULL, trace_id BLOB, hops TEXT NOT NULL);
  CREATE TRIGGER mail_traces_gone AFTER DELETE ON mails BEGIN
    DELETE FROM mail_traces WHERE seq = old.seq;
  END;
)"}};

Acceptance acceptance_of(const RenderedMail& mail) { return {mail.via, core::to_unix_micros(mail.created_at)}; }

runtime::sqlite::AcceptedBy accepted_by(const RenderedMail& mail) {
  return mail.published ? runtime::sqlite::AcceptedBy::publisher : runtime::sqlite::AcceptedBy::store;
}

std::string_view bytes_of(const core::TraceId& id) { return {reinterpret_cast<const char*>(id.data()), id.size()}; }

enum class Compared { payload, rendered };

/// SHA-256 of what makes two deliveries the same mail, each text behind its length. The date is not part of it.
core::Result<std::string> digest_of(const RenderedMail& mail, Compared what) {
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> hash(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  bool good = hash && EVP_DigestInit_ex(hash.get(), EVP_sha256(), nullptr) == 1;
  auto add = [&](std::string_view text) {
    const std::uint64_t size = text.size();
    good = good && EVP_DigestUpdate(hash.get(), &size, sizeof size) == 1 && EVP_DigestUpdate(hash.get(), text.data(), text.size()) == 1;
  };
  if (what == Compared::payload && !mail.payload.empty()) {
    add(mail.payload);
  } else {
    add(mail.from);
    for (const auto& recipient : mail.to) add(recipient);
    for (const auto* text : {&mail.subject, &mail.html, &mail.plain}) add(*text);
  }
  std::array<unsigned char, 32> digest{};
  if (!good || EVP_DigestFinal_ex(hash.get(), digest.data(), nullptr) != 1) return core::internal("internal error", "SHA-256 failed");
  return std::string(reinterpret_cast<const char*>(digest.data()), digest.size());
}

struct Position {
  std::int64_t created_at = INT64_MAX;
  std::int64_t seq = INT64_MAX;
};

/// "<created_at>.<seq>" of the last mail of the page before.
core::Result<Position> parse_cursor(std::string_view cursor) {
  Position position;
  if (cursor.empty()) return position;
  const char* end = cursor.data() + cursor.size();
  auto time = std::from_chars(cursor.data(), end, position.created_at);
  if (time.ec == std::errc() && time.ptr != end && *time.ptr == '.') {
    auto seq = std::from_chars(time.ptr + 1, end, position.seq);
    if (seq.ec == std::errc() && seq.ptr == end) return position;
  }
  return core::invalid_argument("cursor is not one: pass the `next` of the page before");
}

/// How the mail was delivered before, none where it was not; conflict where another one was.
core::Result<std::optional<Acceptance>> delivered_before(Connection& connection, const RenderedMail& mail, const std::string& digest) {
  auto known = connection.use("SELECT digest, created_at, (SELECT via FROM mail_traces t WHERE t.seq = mails.seq) FROM mails WHERE id = ?1 "
                              "UNION ALL SELECT digest, NULL, NULL FROM mails_removed WHERE id = ?1");
  known.bind(1, mail.id.str());
  FLEXI_TRY(auto found, known.step());
  if (!found) return std::optional<Acceptance>();
  if (known.text_view(0) != digest) {
    // Mails of older versions are known by what was rendered.
    FLEXI_TRY(const auto rendered, digest_of(mail, Compared::rendered));
    if (known.text_view(0) != rendered) return core::conflict("this id was used for another mail");
  }
  // How a mail came that was removed since is not known any more: most likely as it comes now.
  if (known.is_null(1)) return std::optional(acceptance_of(mail));
  return std::optional(Acceptance{core::via_from(known.text_view(2)).value_or(core::Via::automatic), known.integer(1)});
}

core::Result<core::Delivered> store(Connection& connection, const RenderedMail& mail, const std::string& digest, LedgerBook* book) {
  FLEXI_TRY(auto before, delivered_before(connection, mail, digest));
  if (before) {
    if (book) {
      FLEXI_TRY(book->repeated(connection, core::actions::kMail, mail.id.str(), *before, acceptance_of(mail), accepted_by(mail)));
    }
    return core::Delivered::duplicate;
  }
  const std::string recipients = runtime::join_lines(mail.to);
  const auto bytes = mail.html.size() + mail.plain.size() + mail.mime.size() + mail.subject.size() + recipients.size() + mail.from.size();
  auto insert = connection.use(
      "INSERT INTO mails(id, created_at, bytes, digest, sender, recipients, subject, html, plain, mime) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)");
  insert.bind(1, mail.id.str()).bind(2, core::to_unix_micros(mail.created_at)).bind(3, static_cast<std::int64_t>(bytes));
  insert.bind_blob(4, digest).bind(5, mail.from).bind(6, recipients).bind(7, mail.subject).bind(8, mail.html).bind(9, mail.plain);
  insert.bind_blob(10, mail.mime);
  FLEXI_TRY(insert.run());
  const auto hops = core::shorten_hops(mail.hops, mail.created_at);
  auto trace = connection.use("INSERT INTO mail_traces VALUES(?1, ?2, ?3, ?4)");
  trace.bind(1, connection.last_insert_rowid()).bind(2, core::to_string(mail.via)).bind(4, hops);
  if (mail.trace_id == core::TraceId{}) trace.bind_null(3);
  else trace.bind_blob(3, bytes_of(mail.trace_id));
  FLEXI_TRY(trace.run());
  if (book) book->stored(core::actions::kMail, mail.via, accepted_by(mail));
  return core::Delivered::sent;
}

/// Columns id, created_at, sender, recipients, subject.
core::Result<RenderedMail> read_summary(const runtime::sqlite::Statement& row) {
  RenderedMail mail;
  FLEXI_TRY(mail.id, core::MessageId::parse(row.text_view(0)));
  mail.created_at = core::from_unix_micros(row.integer(1));
  mail.from = row.text(2);
  mail.to = runtime::split_lines(row.text_view(3));
  mail.subject = row.text(4);
  return mail;
}

core::Result<core::MailPage> read_page(Connection& connection, Position after, unsigned limit) {
  core::MailPage page;
  runtime::PageBudget budget;
  auto rows = connection.use(
      "SELECT id, created_at, sender, recipients, subject, seq FROM mails WHERE (created_at, seq) < (?1, ?2) ORDER BY created_at DESC, seq DESC LIMIT ?3");
  // One more than asked for tells whether another page follows.
  rows.bind(1, after.created_at).bind(2, after.seq).bind(3, std::int64_t{limit} + 1);
  Position last;
  while (true) {
    FLEXI_TRY(auto found, rows.step());
    if (!found) break;
    if (page.mails.size() == limit || !budget.take({rows.text_view(2), rows.text_view(3), rows.text_view(4)})) {
      page.next = std::to_string(last.created_at) + "." + std::to_string(last.seq);
      break;
    }
    FLEXI_TRY(auto mail, read_summary(rows));
    page.mails.push_back(std::move(mail));
    last = {rows.integer(1), rows.integer(5)};
  }
  return page;
}

}  // namespace

core::Result<std::unique_ptr<SqliteMailbox>> SqliteMailbox::open(runtime::sqlite::Database& database, LedgerBook* book) {
  FLEXI_TRY(database.migrate("mailbox", kMigrations));
  return std::unique_ptr<SqliteMailbox>(new SqliteMailbox(database, book));
}

awaitable<Result<core::Delivered>> SqliteMailbox::deliver(RenderedMail mail, CallContext context) {
  auto digest = digest_of(mail, Compared::payload);
  if (!digest) co_return digest.error();
  const auto bytes = mail.html.size() + mail.plain.size() + mail.mime.size() + mail.payload.size();
  auto job = [mail = std::move(mail), digest = std::move(digest).value(), book = book_](Connection& connection) { return store(connection, mail, digest, book); };
  co_return co_await database_.write(Atomicity::many_statements, std::move(job), std::move(context), bytes);
}

awaitable<Result<core::MailPage>> SqliteMailbox::list(unsigned limit, std::string cursor, CallContext context) {
  auto after = parse_cursor(cursor);
  if (!after) co_return after.error();
  if (limit < 1 || limit > 500) co_return core::invalid_argument("limit must be 1 to 500");
  auto job = [after = after.value(), limit](Connection& connection) { return read_page(connection, after, limit); };
  co_return co_await database_.read(std::move(job), std::move(context));
}

awaitable<Result<RenderedMail>> SqliteMailbox::get(core::MessageId id, CallContext context) {
  auto job = [id = std::move(id), counted = book_ != nullptr](Connection& connection) -> Result<RenderedMail> {
    auto row = connection.use("SELECT id, created_at, sender, recipients, subject, html, plain, mime, t.via, t.trace_id, t.hops "
                              "FROM mails LEFT JOIN mail_traces t ON t.seq = mails.seq WHERE id = ?1");
    row.bind(1, id.str());
    FLEXI_TRY(auto found, row.step());
    if (!found) return core::not_found("no such mail");
    FLEXI_TRY(auto mail, read_summary(row));
    mail.html = row.text(5);
    mail.plain = row.text(6);
    mail.mime = row.text(7);
    mail.via = core::via_from(row.text_view(8)).value_or(core::Via::automatic);
    if (const auto trace = row.text_view(9); trace.size() == mail.trace_id.size()) std::copy(trace.begin(), trace.end(), mail.trace_id.begin());
    mail.hops = core::lengthen_hops(row.text_view(10), mail.created_at);
    if (counted) {
      FLEXI_TRY(mail.duplicates, LedgerBook::repeats(connection, core::actions::kMail, id.str()));
    }
    return mail;
  };
  co_return co_await database_.read(std::move(job), std::move(context));
}

awaitable<Result<void>> SqliteMailbox::remove(core::MessageId id, CallContext context) {
  auto job = [id = std::move(id)](Connection& connection) -> Result<bool> {
    auto statement = connection.use("DELETE FROM mails WHERE id = ?1");
    statement.bind(1, id.str());
    FLEXI_TRY(statement.run());
    return connection.changes() > 0;
  };
  auto removed = co_await database_.write(Atomicity::single_statement, std::move(job), std::move(context));
  if (!removed) co_return removed.error();
  if (!removed.value()) co_return core::not_found("no such mail");
  co_return core::ok();
}

awaitable<Result<core::KnownIds>> SqliteMailbox::known(std::vector<core::MessageId> ids, CallContext context) {
  auto job = [ids = std::move(ids)](Connection& connection) -> Result<core::KnownIds> {
    if (ids.size() > core::KnownIds::kMost) return core::invalid_argument("at most " + std::to_string(core::KnownIds::kMost) + " ids at once");
    core::KnownIds known;
    auto row = connection.use("SELECT 1 WHERE EXISTS(SELECT 1 FROM mails WHERE id = ?1) OR EXISTS(SELECT 1 FROM mails_removed WHERE id = ?1)");
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

}  // namespace flexi::mailers::mailbox
