// SPDX-License-Identifier: Apache-2.0
// What is SQLite's own: the rest is in tests/conformance/stores/sent_mails_conformance.cpp.
#include "stores/sqlite/sent_mails.hpp"

#include <gtest/gtest.h>

#include "stores/sqlite/store_fixture.hpp"

namespace flexi::stores::sqlite {
namespace {

using namespace std::chrono_literals;
using core::MessageId;

struct SentMailsTest : testing::Test, StoreFixture {
  SentMailsTest() { open(); }
  ~SentMailsTest() override { close(); }
  std::unique_ptr<SqliteSentMails> make(SentMailsOptions options) { return std::move(SqliteSentMails::open(database(), options).value()); }
  void claim(SqliteSentMails& mails, std::string_view name, std::chrono::milliseconds lease, bool sent) {
    core::SentMail mail;
    mail.id = MessageId::parse(name).value();
    const auto claimed = wait(mails.claim(mail, lease, {})).value();
    if (sent) EXPECT_TRUE(wait(mails.sent(mail.id, claimed.token, {})));
  }
  void make_old(std::string_view name) {
    EXPECT_TRUE(database().write_now([&](auto& connection) -> core::Result<void> {
      auto row = connection.use("UPDATE sent_mails SET at = at - 7200000000 WHERE id = ?1");
      return row.bind(1, name).run();
    }));
  }
  void purge(const SqliteSentMails& mails) {
    EXPECT_TRUE(database().write_now([&](auto& connection) -> core::Result<void> {
      EXPECT_FALSE(mails.purge_some(connection));
      return core::ok();
    }));
  }
  bool there(SqliteSentMails& mails, std::string_view name) { return bool(wait(mails.get(MessageId::parse(name).value(), {}))); }
};

TEST_F(SentMailsTest, ForgetsWhatIsPastItsTimeAndNothingThatIsUnderWay) {
  auto mails = make({.remember = 1h});
  claim(*mails, "old", 1h, true);
  claim(*mails, "young", 1h, true);
  claim(*mails, "held", 10h, false);
  claim(*mails, "died", 0ms, false);
  for (auto name : {"old", "held", "died"}) make_old(name);
  purge(*mails);
  EXPECT_FALSE(there(*mails, "old"));
  EXPECT_FALSE(there(*mails, "died"));
  EXPECT_TRUE(there(*mails, "young"));
  EXPECT_TRUE(there(*mails, "held"));
}

TEST_F(SentMailsTest, WhatADeadProcessHeldIsFreeWhenItsSuccessorStarts) {
  claim(*make({}), "held", 10h, false);
  auto successor = make({});
  EXPECT_EQ(wait(successor->get(MessageId::parse("held").value(), {})).value().state, core::SentMail::State::undecided);
  claim(*successor, "held", 10h, true);
  EXPECT_EQ(wait(make({})->get(MessageId::parse("held").value(), {})).value().state, core::SentMail::State::sent);
}

TEST_F(SentMailsTest, MayRememberForEver) {
  auto mails = make({.remember = 0ms});
  claim(*mails, "old", 1h, true);
  make_old("old");
  purge(*mails);
  EXPECT_TRUE(there(*mails, "old"));
  EXPECT_EQ(wait(mails->known({}, {})).value().kept_since, core::Timestamp{});
  EXPECT_EQ(SentMailsOptions{.remember = 1min}.validate().size(), 1u);
  EXPECT_TRUE(SentMailsOptions{}.validate().empty());
}

}  // namespace
}  // namespace flexi::stores::sqlite
