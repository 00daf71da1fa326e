// SPDX-License-Identifier: Apache-2.0
#include "stores/postgres/sent_mails.hpp"

#include <algorithm>
#include <charconv>

#include "core/hops.hpp"
#include "core/timestamp.hpp"
#include "runtime/lines.hpp"
#include "runtime/page_budget.hpp"
#include "stores/postgres/migrations.hpp"

namespace flexi::stores::postgres {

namespace {

using core::awaitable, core::CallContext, core::MailClaim, core::MessageId, core::Result, core::SentMail;
using runtime::postgres::bytes, runtime::postgres::number, runtime::postgres::text, runtime::postgres::time, runtime::postgres::truth;
using runtime::postgres::Database, runtime::postgres::Query, runtime::postgres::Rows, runtime::postgres::Statement, runtime::postgres::Value;

enum Stored : std::int64_t { sending = 0, sent_ = 1, unsent = 2 };

// Free are: a new id, what was given back (then also for another mail), and the same mail whose lease is over. A row that is none of these is
// locked all the same until the end of the transaction, so that what follows sees it as it was judged.
// Source: PostgreSQL manual, INSERT, "ON CONFLICT Clause"
constexpr Statement kClaim{"flexi_mails_claim", R"(
  INSERT INTO public.flexi_sent_mails AS m
    (id, digest, state, at, lease_until, token, attempts, accepted_at, via, published, trace_id, hops, sender, recipients, subject)
  VALUES ($1::text, $2::bytea, 0, clock_timestamp(), clock_timestamp() + $3::bigint * interval '1 millisecond', 1, 1, $4::timestamptz, $5::text,
    $6::boolean, $7::bytea, $8::text, $9::text, $10::text, $11::text)
  ON CONFLICT (id) DO UPDATE SET
    digest = excluded.digest, state = 0, at = excluded.at, lease_until = excluded.lease_until, token = m.token + 1,
    attempts = CASE WHEN m.digest = excluded.digest THEN m.attempts + 1 ELSE 1 END, accepted_at = excluded.accepted_at, via = excluded.via,
    published = excluded.published, trace_id = excluded.trace_id, hops = excluded.hops, sender = excluded.sender,
    recipients = excluded.recipients, subject = excluded.subject
  WHERE m.state = 2 OR (m.state = 0 AND m.digest = excluded.digest AND m.lease_until <= clock_timestamp())
  RETURNING token)"};
constexpr Statement kLook{"flexi_mails_look", R"(
  SELECT digest, state, ceil(extract(epoch FROM lease_until - clock_timestamp()) * 1000)::bigint FROM public.flexi_sent_mails WHERE id = $1::text)"};
// Accepted once more by a publisher that counts for itself: the id is one all the same, so it is taken off, once per acceptance (the row of repeats
// holds the last that was). Does nothing unless this very mail is sent.
constexpr Statement kRepeat{"flexi_mails_repeat", R"(
  WITH first AS (SELECT via, accepted_at FROM public.flexi_sent_mails WHERE id = $1::text AND state = 1 AND digest = $2::bytea),
  off AS (
    SELECT $3::boolean AND NOT (f.via = $4::text AND f.accepted_at = $5::timestamptz) AND NOT EXISTS (
      SELECT FROM public.flexi_ledger_repeats r
      WHERE r.action = 'mail' AND r.id = $1::text AND r.via = $4::text AND r.accepted_at = $5::timestamptz) AS taken
    FROM first f),
  noted AS (
    INSERT INTO public.flexi_ledger_repeats AS r (action, id, count, via, accepted_at, last_at)
    SELECT 'mail', $1::text, 1, CASE WHEN taken THEN $4::text ELSE '' END, $5::timestamptz, now() FROM off
    ON CONFLICT (action, id) DO UPDATE SET count = r.count + 1, last_at = excluded.last_at,
      via = CASE WHEN excluded.via <> '' THEN excluded.via ELSE r.via END,
      accepted_at = CASE WHEN excluded.via <> '' THEN excluded.accepted_at ELSE r.accepted_at END)
  INSERT INTO public.flexi_ledger_lines AS l (action, way, duplicates, accepted)
  SELECT 'mail', $6::text, 1, CASE WHEN taken THEN -1 ELSE 0 END FROM off
  ON CONFLICT (action, way) DO UPDATE SET duplicates = l.duplicates + 1, accepted = l.accepted + excluded.accepted)"};
constexpr Statement kSent{"flexi_mails_sent", R"(
  WITH done AS (
    UPDATE public.flexi_sent_mails SET state = 1, at = clock_timestamp(), lease_until = 'epoch' WHERE id = $1::text AND state <> 1
    RETURNING CASE via WHEN $2::text THEN $3::text ELSE via END AS way, published)
  INSERT INTO public.flexi_ledger_lines AS l (action, way, stored, accepted) SELECT 'mail', way, 1, (NOT published)::integer FROM done
  ON CONFLICT (action, way) DO UPDATE SET stored = l.stored + 1, accepted = l.accepted + excluded.accepted)"};
constexpr Statement kIsThere{"flexi_mails_is_there", "SELECT 1 FROM public.flexi_sent_mails WHERE id = $1::text"};
constexpr Statement kRelease{"flexi_mails_release", R"(
  UPDATE public.flexi_sent_mails SET state = 2, at = clock_timestamp(), lease_until = 'epoch'
  WHERE id = $1::text AND token = $2::bigint AND state = 0)"};
#define FLEXI_SENT_COLUMNS                                                                                                              \
  "SELECT id, accepted_at, sender, recipients, subject, seq, state, at, lease_until > clock_timestamp(), attempts, via, trace_id, hops, " \
  "published, digest, (SELECT count FROM public.flexi_ledger_repeats r WHERE r.action = 'mail' AND r.id = m.id) "                         \
  "FROM public.flexi_sent_mails m "
constexpr Statement kGet{"flexi_mails_get", FLEXI_SENT_COLUMNS "WHERE id = $1::text"};
constexpr Statement kList{"flexi_mails_list", FLEXI_SENT_COLUMNS "WHERE state < 2 AND (accepted_at, seq) < ($1::timestamptz, $2::bigint) "
                                                                 "ORDER BY accepted_at DESC, seq DESC LIMIT $3::bigint"};
constexpr Statement kKnown{"flexi_mails_known", R"(
  SELECT m.id FROM unnest($1::text[]) WITH ORDINALITY AS asked(id, place) JOIN public.flexi_sent_mails m USING (id)
  WHERE m.state = 1 ORDER BY place)"};
constexpr Statement kForget{"flexi_mails_forget", R"(
  DELETE FROM public.flexi_sent_mails WHERE id IN (
    SELECT id FROM public.flexi_sent_mails
    WHERE at < clock_timestamp() - $1::bigint * interval '1 millisecond' AND lease_until < clock_timestamp()
    ORDER BY at LIMIT 1000 FOR UPDATE SKIP LOCKED))"};

template <std::size_t N>
std::string_view bytes_of(const std::array<std::uint8_t, N>& all) {
  return {reinterpret_cast<const char*>(all.data()), all.size()};
}

/// What is for reading only may lose what PostgreSQL can't hold.
std::string as_text(std::string value) {
  if (runtime::postgres::is_text(value)) return value;
  for (auto& c : value)
    if (c == '\0' || static_cast<unsigned char>(c) >= 0x80) c = '?';
  return value;
}

/// What never met the broker came from within the process.
std::string way_of(core::Via via) { return std::string(core::to_string(via == core::Via::automatic ? core::Via::inproc : via)); }
std::string name_of(core::Via via) { return std::string(core::to_string(via)); }

core::Error held_by_another(std::int64_t left_ms) {
  auto error = core::unavailable("this mail is being sent already");
  error.retry_after = std::chrono::milliseconds(std::max<std::int64_t>(left_ms, 1));
  return error;
}

SentMail::State state_of(std::int64_t stored, bool leased) {
  if (stored == sent_) return SentMail::State::sent;
  if (stored == unsent) return SentMail::State::unsent;
  return leased ? SentMail::State::sending : SentMail::State::undecided;
}

template <std::size_t N>
void copy(std::string_view from, std::array<std::uint8_t, N>& to) {
  if (from.size() == N) std::copy(from.begin(), from.end(), to.begin());
}

Result<SentMail> read_mail(const Rows& rows, int i) {
  SentMail mail;
  FLEXI_TRY(mail.id, MessageId::parse(rows.text(i, 0)));
  mail.accepted_at = rows.time(i, 1);
  mail.from = rows.text(i, 2), mail.to = runtime::split_lines(rows.text(i, 3)), mail.subject = rows.text(i, 4);
  mail.state = state_of(rows.integer(i, 6), rows.integer(i, 8) != 0);
  mail.at = rows.time(i, 7);
  mail.attempts = static_cast<unsigned>(rows.integer(i, 9));
  mail.via = core::via_from(rows.text(i, 10)).value_or(core::Via::automatic);
  copy(rows.bytes(i, 11), mail.trace_id);
  mail.hops = core::lengthen_hops(rows.text(i, 12), mail.accepted_at);
  mail.published = rows.integer(i, 13) != 0;
  copy(rows.bytes(i, 14), mail.digest);
  mail.duplicates = static_cast<unsigned>(rows.integer(i, 15));
  return mail;
}

struct Position {
  core::Timestamp accepted_at = core::from_unix_micros(INT64_MAX / 1000);
  std::int64_t seq = INT64_MAX;
};

/// "<accepted_at in µs>.<seq>" of the last mail of the page before.
Result<Position> parse_cursor(std::string_view cursor) {
  Position position;
  if (cursor.empty()) return position;
  std::int64_t micros = 0;
  const char* end = cursor.data() + cursor.size();
  auto read = std::from_chars(cursor.data(), end, micros);
  if (read.ec == std::errc() && read.ptr != end && *read.ptr == '.' && micros >= 0 && micros <= INT64_MAX / 1000) {
    position.accepted_at = core::from_unix_micros(micros);
    auto seq = std::from_chars(read.ptr + 1, end, position.seq);
    if (seq.ec == std::errc() && seq.ptr == end) return position;
  }
  return core::invalid_argument("cursor is not one: pass the `next` of the page before");
}

class PostgresSentMails final : public core::SentMails {
 public:
  PostgresSentMails(Database& database, std::chrono::milliseconds remember) : database_(database), remember_(remember) {}

  awaitable<Result<MailClaim>> claim(SentMail mail, std::chrono::milliseconds lease, CallContext context) override {
    const auto digest = std::string(bytes_of(mail.digest));
    std::vector<Query> queries(3);
    const auto accepted_at = time(mail.accepted_at);
    queries[0] = {&kClaim, {text(mail.id.str()), bytes(digest), number(lease.count()), accepted_at, text(name_of(mail.via)), truth(mail.published),
                            bytes(bytes_of(mail.trace_id)), text(as_text(core::shorten_hops(mail.hops, mail.accepted_at))),
                            text(as_text(mail.from)), text(as_text(runtime::join_lines(mail.to))), text(as_text(mail.subject))}};
    queries[1] = {&kLook, {text(mail.id.str())}};
    queries[2] = {&kRepeat, {text(mail.id.str()), bytes(digest), truth(mail.published), text(name_of(mail.via)), accepted_at, text(way_of(mail.via))}};
    auto rows = co_await database_.write(std::move(queries), std::move(context));
    if (!rows) co_return rows.error();
    if (rows.value()[0].size() == 1) co_return MailClaim{.token = rows.value()[0].integer(0, 0)};
    const auto& there = rows.value()[1];
    if (there.size() == 0) co_return core::internal("internal error", "a mail's row is neither new nor there");
    if (there.bytes(0, 0) != digest) co_return core::conflict("this id was used for another mail");
    if (there.integer(0, 1) == sent_) co_return MailClaim{.sent_before = true};
    co_return held_by_another(there.integer(0, 2));
  }

  awaitable<Result<void>> sent(MessageId id, std::int64_t, CallContext context) override {
    std::vector<Query> queries(2);
    queries[0] = {&kSent, {text(id.str()), text(name_of(core::Via::automatic)), text(way_of(core::Via::automatic))}};
    queries[1] = {&kIsThere, {text(id.str())}};
    auto rows = co_await database_.write(std::move(queries), std::move(context));
    if (!rows) co_return rows.error();
    if (rows.value()[1].size() == 0) co_return core::not_found("no such mail was claimed");
    co_return core::ok();
  }

  awaitable<Result<void>> release(MessageId id, std::int64_t token, CallContext context) override {
    std::vector<Query> queries(1);
    queries[0] = {&kRelease, {text(id.str()), number(token)}};
    auto rows = co_await database_.write(std::move(queries), std::move(context));
    if (!rows) co_return rows.error();
    co_return core::ok();
  }

  awaitable<Result<core::SentMailPage>> list(unsigned limit, std::string cursor, CallContext context) override {
    auto after = parse_cursor(cursor);
    if (!after) co_return after.error();
    if (limit < 1 || limit > 500) co_return core::invalid_argument("limit must be 1 to 500");
    // One more than asked for tells whether another page follows.
    Query query{&kList, {time(after.value().accepted_at), number(after.value().seq), number(std::int64_t{limit} + 1)}};
    auto rows = co_await database_.read(std::move(query), std::move(context));
    if (!rows) co_return rows.error();
    core::SentMailPage page;
    runtime::PageBudget budget;
    for (int i = 0; i < rows.value().size(); ++i) {
      const auto& r = rows.value();
      if (page.mails.size() == limit || !budget.take({r.text(i, 2), r.text(i, 3), r.text(i, 4)})) {
        page.next = std::to_string(core::to_unix_micros(r.time(i - 1, 1))) + "." + std::to_string(r.integer(i - 1, 5));
        break;
      }
      auto mail = read_mail(r, i);
      if (!mail) co_return mail.error();
      page.mails.push_back(std::move(mail.value()));
    }
    co_return page;
  }

  awaitable<Result<SentMail>> get(MessageId id, CallContext context) override {
    Query query{&kGet, {text(id.str())}};
    auto rows = co_await database_.read(std::move(query), std::move(context));
    if (!rows) co_return rows.error();
    if (rows.value().size() == 0) co_return core::not_found("no such mail");
    co_return read_mail(rows.value(), 0);
  }

  awaitable<Result<core::KnownIds>> known(std::vector<MessageId> ids, CallContext context) override {
    if (ids.size() > core::KnownIds::kMost) co_return core::invalid_argument("too many ids in one question");
    std::vector<std::string> asked;
    for (auto& id : ids) asked.push_back(id.str());
    core::KnownIds known;
    if (remember_.count() > 0) known.kept_since = std::chrono::system_clock::now() - remember_;
    Query query{&kKnown, {runtime::postgres::text_array(asked)}};
    auto rows = co_await database_.read(std::move(query), std::move(context));
    if (!rows) co_return rows.error();
    for (int i = 0; i < rows.value().size(); ++i) {
      auto id = MessageId::parse(rows.value().text(i, 0));
      if (!id) co_return id.error();
      known.ids.push_back(std::move(id.value()));
    }
    co_return known;
  }

 private:
  Database& database_;
  const std::chrono::milliseconds remember_;
};

}  // namespace

std::unique_ptr<core::SentMails> open_sent_mails(Database& database, std::chrono::milliseconds remember) {
  runtime::postgres::Schema schema{.component = "sent_mails"};
  schema.steps.push_back({1, migration("0003_sent_mails.sql")});
  if (remember.count() > 0) schema.upkeep.push_back({&kForget, {number(remember.count())}});
  database.add(std::move(schema));
  return std::make_unique<PostgresSentMails>(database, remember);
}

}  // namespace flexi::stores::postgres
