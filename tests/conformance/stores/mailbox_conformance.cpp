// SPDX-License-Identifier: Apache-2.0
#include <set>

#include "core/timestamp.hpp"
#include "store_under_test.hpp"

namespace flexi::conformance {
namespace {

using core::Delivered, core::ErrorKind, core::RenderedMail;

/// Of a Mailer that keeps what it delivers, and the Mailbox that shows it.
struct MailboxConformance : StoreTest {
  static RenderedMail mail(std::string id, std::string subject = "s", std::int64_t second = 0) {
    RenderedMail made;
    made.id = core::MessageId::parse(id).value();
    made.from = "a@example.com";
    made.to = {"b@example.com", "c@example.com"};
    made.subject = std::move(subject);
    made.html = "<p>hi</p>";
    made.plain = "hi";
    made.mime = "Subject: s\r\n\r\nhi";
    made.created_at = core::from_unix_micros(1'700'000'000'123'456 + second * 1'000'000);
    return made;
  }
  core::Result<Delivered> deliver(RenderedMail made) { return wait(store->mailer().deliver(std::move(made), {})); }
  core::Result<core::MailPage> list(unsigned limit = 500, std::string cursor = {}) { return wait(store->mailbox().list(limit, std::move(cursor), {})); }
  std::size_t kept() { return list().value().mails.size(); }
};
INSTANTIATE_TEST_SUITE_P(AllStores, MailboxConformance, testing::ValuesIn(all_stores_that(&StoreKind::keeps_mails)), kind_name);

TEST_P(MailboxConformance, WhatWasDeliveredIsReadBackAndAListHasNoBodies) {
  auto sent = mail("one", "Zoë 李 🦊 '; DROP TABLE mails; --");
  sent.plain = std::string("hi\0there", 8);
  sent.mime = std::string(1 << 20, 'x');
  sent.trace_id = core::TraceContext::begin().trace_id;
  sent.hops = "broker@1700000000123456 mail@1700000000999999";
  sent.via = core::Via::amqp;
  ASSERT_EQ(deliver(sent).value(), Delivered::sent);
  for (int round = 0; round < 2; ++round) {
    auto read = wait(store->mailbox().get(sent.id, {}));
    ASSERT_TRUE(read);
    EXPECT_EQ(read.value().from, sent.from);
    EXPECT_EQ(read.value().to, sent.to);
    EXPECT_EQ(read.value().subject, sent.subject);
    EXPECT_EQ(read.value().html, sent.html);
    EXPECT_EQ(read.value().plain, sent.plain);
    EXPECT_TRUE(read.value().mime == sent.mime);
    EXPECT_EQ(read.value().created_at, sent.created_at);
    EXPECT_EQ(read.value().trace_id, sent.trace_id);
    EXPECT_EQ(read.value().hops, sent.hops);
    EXPECT_EQ(read.value().via, sent.via);
    const auto listed = list().value().mails;
    ASSERT_EQ(listed.size(), 1u);
    EXPECT_EQ(listed[0].subject, sent.subject);
    EXPECT_TRUE(listed[0].html.empty() && listed[0].plain.empty() && listed[0].mime.empty());
    store->close();
    ASSERT_TRUE(store->open());
  }
}

TEST_P(MailboxConformance, TheSameIdAgainIsADuplicateOrAConflictAlsoOnceItIsRemoved) {
  ASSERT_EQ(deliver(mail("one")).value(), Delivered::sent);
  EXPECT_EQ(deliver(mail("one", "s", 5)).value(), Delivered::duplicate) << "the date makes no other mail of it";
  EXPECT_EQ(deliver(mail("one", "other")).error().kind, ErrorKind::conflict);
  ASSERT_TRUE(wait(store->mailbox().remove(mail("one").id, {})));
  EXPECT_EQ(deliver(mail("one")).value(), Delivered::duplicate) << "a redelivery does not bring it back";
  EXPECT_EQ(deliver(mail("one", "other")).error().kind, ErrorKind::conflict);
  EXPECT_EQ(kept(), 0u);
}

TEST_P(MailboxConformance, OfManyDeliveriesOfOneIdOneWins) {
  std::vector<core::awaitable<core::Result<Delivered>>> racers;
  for (int i = 0; i < 30; ++i) racers.push_back(store->mailer().deliver(mail("one", i % 2 ? "odd" : "even"), {}));
  int sent = 0, duplicates = 0, conflicts = 0;
  for (auto& result : wait_all(std::move(racers))) {
    if (!result) conflicts += result.error().kind == ErrorKind::conflict;
    else ++(result.value() == Delivered::sent ? sent : duplicates);
  }
  EXPECT_EQ(sent, 1);
  EXPECT_EQ(duplicates, 14);
  EXPECT_EQ(conflicts, 15);
  EXPECT_EQ(kept(), 1u);
}

TEST_P(MailboxConformance, AFailureFailsAlone) {
  ASSERT_TRUE(deliver(mail("taken")));
  std::vector<core::awaitable<core::Result<Delivered>>> works;
  for (int i = 0; i < 20; ++i) works.push_back(store->mailer().deliver(mail(i == 10 ? "taken" : "m" + std::to_string(i), "x"), {}));
  auto results = wait_all(std::move(works));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(bool(results[i]), i != 10);
  EXPECT_EQ(kept(), 20u);
}

TEST_P(MailboxConformance, WhatIsMissingIsNotFound) {
  EXPECT_EQ(wait(store->mailbox().get(mail("none").id, {})).error().kind, ErrorKind::not_found);
  EXPECT_EQ(wait(store->mailbox().remove(mail("none").id, {})).error().kind, ErrorKind::not_found);
}

TEST_P(MailboxConformance, PagesStayWhatTheyAreWhileMailsCome) {
  std::set<std::string> before;
  for (int i = 0; i < 40; ++i) {  // many share a time, and they come in any order
    const auto id = "m" + std::to_string(i);
    before.insert(id);
    ASSERT_TRUE(deliver(mail(id, "s", (i * 7) % 10)));
  }
  std::string cursor;
  core::Timestamp last = core::Timestamp::max();
  for (int page_number = 0; page_number < 20; ++page_number) {
    auto page = list(7, cursor);
    ASSERT_TRUE(page);
    EXPECT_LE(page.value().mails.size(), 7u);
    for (auto& read : page.value().mails) {
      EXPECT_EQ(before.erase(read.id.str()), 1u) << "twice, or not there before";
      EXPECT_LE(read.created_at, last);
      last = read.created_at;
    }
    cursor = page.value().next;
    if (cursor.empty()) break;
    ASSERT_TRUE(deliver(mail("new" + std::to_string(page_number), "s", 100 + page_number)));
  }
  EXPECT_TRUE(cursor.empty());
  EXPECT_TRUE(before.empty());
}

TEST_P(MailboxConformance, APageOfLongMailsEndsEarlyAndGoesOn) {
  constexpr std::size_t kLong = 200'000, kEscape = 6, kMost = 4 << 20;  // what a message of gRPC may have
  for (int i = 0; i < 12; ++i) ASSERT_TRUE(deliver(mail("m" + std::to_string(i), std::string(kLong, '\x01'), i)));
  std::size_t seen = 0;
  std::string cursor;
  do {
    auto page = list(500, cursor).value();
    ASSERT_FALSE(page.mails.empty());
    EXPECT_LT(page.mails.size() * kLong * kEscape, kMost);
    seen += page.mails.size();
    cursor = page.next;
  } while (!cursor.empty());
  EXPECT_EQ(seen, 12u);
}

TEST_P(MailboxConformance, RefusesWhatIsNoCursorAndNoLimit) {
  for (auto cursor : {"x", "' OR 1=1 --", "1.", ".1", "\xff"}) EXPECT_EQ(list(50, cursor).error().kind, ErrorKind::invalid_argument) << cursor;
  for (unsigned limit : {0u, 501u}) EXPECT_EQ(list(limit).error().kind, ErrorKind::invalid_argument) << limit;
}

TEST_P(MailboxConformance, ACallPastItsDeadlineDoesNothing) {
  auto late = core::CallContext::with_timeout(std::chrono::milliseconds(0));
  EXPECT_EQ(wait(store->mailer().deliver(mail("one"), late)).error().kind, ErrorKind::deadline_exceeded);
  EXPECT_EQ(wait(store->mailbox().list(50, "", late)).error().kind, ErrorKind::deadline_exceeded);
  EXPECT_EQ(kept(), 0u);
}

TEST_P(MailboxConformance, WhoLeavesHoldsNothingUpAndItsMailIsWholeOrNotThere) {
  start_and_leave(store->mailer().deliver(mail("one"), {}));
  EXPECT_TRUE(deliver(mail("one")));
  EXPECT_EQ(kept(), 1u);
}

TEST_P(MailboxConformance, AFullQueueIsOverloadedWithATimeToComeBack) {
  store->with_full_queue([&] { expect_overloaded(deliver(mail("one"))); });
  EXPECT_EQ(deliver(mail("one")).value(), Delivered::sent);
}

TEST_P(MailboxConformance, AFullDiskIsUnavailableKeepsNothingAndHeals) {
  ASSERT_TRUE(deliver(mail("before")));
  store->refuse_writes();
  auto large = [](int i) {
    auto made = mail("m" + std::to_string(i));
    made.mime = std::string(200000, 'x');
    return made;
  };
  std::vector<core::awaitable<core::Result<Delivered>>> works;
  for (int i = 0; i < 5; ++i) works.push_back(store->mailer().deliver(large(i), {}));
  expect_unavailable(wait_all(std::move(works)));
  EXPECT_EQ(kept(), 1u);
  store->allow_writes();
  EXPECT_EQ(deliver(large(2)).value(), Delivered::sent);
  EXPECT_EQ(kept(), 2u);
}

}  // namespace
}  // namespace flexi::conformance
