// SPDX-License-Identifier: Apache-2.0
#include <set>

#include "core/timestamp.hpp"
#include "store_under_test.hpp"

namespace flexi::conformance {
namespace {

using core::ErrorKind, core::MailClaim, core::SentMail;
using State = core::SentMail::State;
using std::chrono::milliseconds, std::chrono::hours;

/// Of the ledger of mails that SMTP took.
struct SentMailsConformance : StoreTest {
  static core::MessageId id(std::string_view text) { return core::MessageId::parse(text).value(); }
  static core::Timestamp at(std::int64_t second) { return core::from_unix_micros(1'700'000'000'123'456 + second * 1'000'000); }
  static SentMail mail(std::string name, std::uint8_t content = 1, std::int64_t second = 0) {
    SentMail made;
    made.id = id(name);
    made.digest.fill(content);
    made.from = "a@example.com";
    made.to = {"b@example.com", "c@example.com"};
    made.subject = "s";
    made.accepted_at = at(second);
    made.via = core::Via::http;
    return made;
  }
  core::Result<MailClaim> claim(SentMail made, milliseconds lease = hours(1)) { return wait(store->sent_mails().claim(std::move(made), lease, {})); }
  core::Result<void> sent(std::string_view name, std::int64_t token) { return wait(store->sent_mails().sent(id(name), token, {})); }
  void release(std::string_view name, std::int64_t token) { EXPECT_TRUE(wait(store->sent_mails().release(id(name), token, {}))); }
  core::Result<SentMail> get(std::string_view name) { return wait(store->sent_mails().get(id(name), {})); }
  core::Result<core::SentMailPage> list(unsigned limit = 500, std::string cursor = {}) { return wait(store->sent_mails().list(limit, std::move(cursor), {})); }
  /// Claims and sends it.
  void send(SentMail made) {
    const auto name = made.id.str();
    auto claimed = claim(std::move(made));
    ASSERT_TRUE(claimed);
    ASSERT_FALSE(claimed.value().sent_before);
    ASSERT_TRUE(sent(name, claimed.value().token));
  }
  core::LedgerLine line(std::string_view way) {
    core::LedgerLine sum;
    const auto accounts = wait(store->ledger().accounts({})).value();
    for (auto& account : accounts)
      for (auto& one : account.lines)
        if (one.action == "mail" && one.way == way) sum += one;
    return sum;
  }
};
INSTANTIATE_TEST_SUITE_P(AllStores, SentMailsConformance, testing::ValuesIn(all_stores_that(&StoreKind::keeps_sent_mails)), kind_name);

TEST_P(SentMailsConformance, WhatWasSentIsReadBackAlsoAfterARestart) {
  auto made = mail("one");
  made.subject = "Zoë 李 🦊 '; DROP TABLE sent_mails; --";
  made.trace_id = core::TraceContext::begin().trace_id;
  made.hops = "broker@1700000000123456 mail@1700000000999999";
  made.via = core::Via::amqp;
  send(made);
  for (int round = 0; round < 2; ++round) {
    const auto read = get("one").value();
    EXPECT_EQ(read.state, State::sent);
    EXPECT_EQ(read.digest, made.digest);
    EXPECT_EQ(read.from, made.from);
    EXPECT_EQ(read.to, made.to);
    EXPECT_EQ(read.subject, made.subject);
    EXPECT_EQ(read.accepted_at, made.accepted_at);
    EXPECT_EQ(read.trace_id, made.trace_id);
    EXPECT_EQ(read.hops, made.hops);
    EXPECT_EQ(read.via, made.via);
    EXPECT_EQ(read.attempts, 1u);
    EXPECT_GT(read.at, made.accepted_at);
    EXPECT_TRUE(claim(made).value().sent_before);
    store->close();
    ASSERT_TRUE(store->open());
  }
  EXPECT_EQ(get("none").error().kind, ErrorKind::not_found);
}

TEST_P(SentMailsConformance, WhileOneHoldsItNobodyElseGetsItAndEachIsToldWhenToComeBack) {
  const auto held = claim(mail("one"), hours(1)).value();
  auto refused = claim(mail("one"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::unavailable);
  EXPECT_EQ(refused.error().sent, core::Sent::no);
  ASSERT_TRUE(refused.error().retry_after);
  EXPECT_LE(*refused.error().retry_after, hours(1) + milliseconds(1));
  EXPECT_GT(*refused.error().retry_after, std::chrono::minutes(59));
  EXPECT_EQ(get("one").value().state, State::sending);
  release("one", held.token);
  EXPECT_EQ(get("one").value().state, State::unsent);
  EXPECT_TRUE(claim(mail("one"))) << "released is free at once";
}

TEST_P(SentMailsConformance, OfManyAtOnceOneWins) {
  std::vector<core::awaitable<core::Result<MailClaim>>> racers;
  for (int i = 0; i < 30; ++i) racers.push_back(store->sent_mails().claim(mail("one", i % 2 ? 1 : 2), hours(1), {}));
  int mine = 0, busy = 0, conflicts = 0;
  for (auto& result : wait_all(std::move(racers))) {
    if (result) mine += !result.value().sent_before;
    else ++(result.error().kind == ErrorKind::conflict ? conflicts : busy);
  }
  EXPECT_EQ(mine, 1);
  EXPECT_EQ(busy, 14);
  EXPECT_EQ(conflicts, 15);
}

TEST_P(SentMailsConformance, AnotherMailUnderTheIdIsAConflictUnlessNoneWasSent) {
  const auto first = claim(mail("one", 1)).value();
  EXPECT_EQ(claim(mail("one", 2)).error().kind, ErrorKind::conflict) << "while it is sent";
  release("one", first.token);
  const auto second = claim(mail("one", 2)).value();
  EXPECT_EQ(get("one").value().digest, mail("one", 2).digest) << "the first was never sent";
  EXPECT_EQ(get("one").value().attempts, 1u) << "of this mail";
  ASSERT_TRUE(sent("one", second.token));
  EXPECT_EQ(claim(mail("one", 1)).error().kind, ErrorKind::conflict);
  EXPECT_TRUE(claim(mail("one", 2, 99)).value().sent_before) << "the time makes no other mail of it";
  claim(mail("two", 1), milliseconds(0)).value();
  EXPECT_EQ(claim(mail("two", 2)).error().kind, ErrorKind::conflict) << "its lease is over, and it may have been sent";
}

TEST_P(SentMailsConformance, WhoDiedLeavesTheMailToTheNext) {
  const auto died = claim(mail("one"), milliseconds(0)).value();
  EXPECT_EQ(get("one").value().state, State::undecided);
  const auto next = claim(mail("one")).value();
  EXPECT_FALSE(next.sent_before);
  EXPECT_NE(next.token, died.token);
  EXPECT_EQ(get("one").value().attempts, 2u);
  release("one", died.token);  // it was not dead, only slow
  EXPECT_EQ(get("one").value().state, State::sending) << "the claim is another's by now";
  ASSERT_TRUE(sent("one", died.token)) << "that the server took it is true whoever says it";
  EXPECT_EQ(get("one").value().state, State::sent);
  release("one", next.token);
  EXPECT_EQ(get("one").value().state, State::sent) << "and stays so";
  EXPECT_TRUE(sent("one", next.token)) << "idempotent";
  EXPECT_EQ(line("http").stored, 1);
  EXPECT_EQ(sent("none", 1).error().kind, ErrorKind::not_found);
}

TEST_P(SentMailsConformance, TheLedgerCountsWhatTheServerTook) {
  send(mail("one"));
  release("two", claim(mail("two")).value().token);
  claim(mail("three")).value();
  auto counted = line("http");
  EXPECT_EQ(counted.accepted, 1);
  EXPECT_EQ(counted.stored, 1);
  EXPECT_EQ(counted.duplicates, 0);
  EXPECT_TRUE(claim(mail("one")).value().sent_before);
  counted = line("http");
  EXPECT_EQ(counted.accepted, 1);
  EXPECT_EQ(counted.stored, 1);
  EXPECT_EQ(counted.duplicates, 1);
  EXPECT_EQ(get("one").value().duplicates.value_or(0), 1u);

  // A publisher has counted that it accepted this one.
  auto queued = mail("four");
  queued.via = core::Via::amqp, queued.published = true;
  send(queued);
  EXPECT_EQ(line("amqp").accepted, 0);
  EXPECT_EQ(line("amqp").stored, 1);
  EXPECT_TRUE(claim(queued).value().sent_before);
  EXPECT_EQ(line("amqp").accepted, 0) << "the same acceptance, delivered again";
  queued.accepted_at = at(60);
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(claim(queued).value().sent_before);
  EXPECT_EQ(line("amqp").accepted, -1) << "accepted once more by a publisher that counts: taken off again, once";
  EXPECT_EQ(line("amqp").duplicates, 3);
  store->close();
  ASSERT_TRUE(store->open());
  EXPECT_EQ(line("amqp").stored, 1);
}

TEST_P(SentMailsConformance, KnownAreThoseThatWereSent) {
  send(mail("sent"));
  claim(mail("held")).value();
  claim(mail("over"), milliseconds(0)).value();
  release("given-back", claim(mail("given-back")).value().token);
  const auto known = wait(store->sent_mails().known({id("given-back"), id("over"), id("sent"), id("never"), id("held")}, {})).value();
  ASSERT_EQ(known.ids.size(), 1u);
  EXPECT_EQ(known.ids[0].str(), "sent");
  EXPECT_LT(known.kept_since, std::chrono::system_clock::now());
  EXPECT_EQ(wait(store->sent_mails().known(std::vector<core::MessageId>(core::KnownIds::kMost + 1, id("x")), {})).error().kind, ErrorKind::invalid_argument);
}

TEST_P(SentMailsConformance, PagesStayWhatTheyAreWhileMailsCome) {
  std::set<std::string> before;
  for (int i = 0; i < 20; ++i) {  // many share a time, and they come in any order
    const auto name = "m" + std::to_string(i);
    before.insert(name);
    send(mail(name, 1, (i * 7) % 10));
  }
  release("given-back", claim(mail("given-back")).value().token);
  std::string cursor;
  core::Timestamp last = core::Timestamp::max();
  for (int page_number = 0; page_number < 20; ++page_number) {
    auto page = list(7, cursor).value();
    EXPECT_LE(page.mails.size(), 7u);
    for (auto& read : page.mails) {
      EXPECT_EQ(before.erase(read.id.str()), 1u) << "twice, not there before, or not sent: " << read.id.str();
      EXPECT_LE(read.accepted_at, last);
      last = read.accepted_at;
    }
    cursor = page.next;
    if (cursor.empty()) break;
    send(mail("new" + std::to_string(page_number), 1, 100 + page_number));
  }
  EXPECT_TRUE(cursor.empty());
  EXPECT_TRUE(before.empty());
}

TEST_P(SentMailsConformance, RefusesWhatIsNoCursorAndNoLimit) {
  for (auto cursor : {"x", "' OR 1=1 --", "1.", ".1", "\xff"}) EXPECT_EQ(list(50, cursor).error().kind, ErrorKind::invalid_argument) << cursor;
  for (unsigned limit : {0u, 501u}) EXPECT_EQ(list(limit).error().kind, ErrorKind::invalid_argument) << limit;
}

TEST_P(SentMailsConformance, ACallPastItsDeadlineDoesNothing) {
  auto late = core::CallContext::with_timeout(milliseconds(0));
  EXPECT_EQ(wait(store->sent_mails().claim(mail("one"), hours(1), late)).error().kind, ErrorKind::deadline_exceeded);
  EXPECT_EQ(wait(store->sent_mails().get(id("one"), late)).error().kind, ErrorKind::deadline_exceeded);
  EXPECT_EQ(get("one").error().kind, ErrorKind::not_found);
}

TEST_P(SentMailsConformance, AFullQueueIsOverloadedWithATimeToComeBack) {
  store->with_full_queue([&] { expect_overloaded(claim(mail("one"))); });
  EXPECT_TRUE(claim(mail("one")));
}

TEST_P(SentMailsConformance, WhoLeavesHoldsNothingUp) {
  start_and_leave(store->sent_mails().claim(mail("one"), milliseconds(0), {}));
  EXPECT_TRUE(claim(mail("one")));
}

TEST_P(SentMailsConformance, AFullDiskIsUnavailableAndHeals) {
  send(mail("before"));
  store->refuse_writes();
  auto large = mail("large");
  large.subject = std::string(200'000, 'x');
  std::vector<core::awaitable<core::Result<MailClaim>>> works;
  works.push_back(store->sent_mails().claim(large, hours(1), {}));
  expect_unavailable(wait_all(std::move(works)));
  store->allow_writes();
  EXPECT_EQ(get("large").error().kind, ErrorKind::not_found);
  send(large);
}

}  // namespace
}  // namespace flexi::conformance
