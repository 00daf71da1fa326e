// SPDX-License-Identifier: Apache-2.0
#include "stores/mongo/ledger_account.hpp"

#include <gtest/gtest.h>

namespace flexi::stores::mongo {
namespace {

using Clock = LedgerAccount::Clock;

LedgerCounts http(std::int64_t stored) { return {{"http", {.accepted = stored, .stored = stored, .duplicates = 0}}}; }

struct Account : testing::Test {
  Account() { account.claim(3, {.upto = LedgerAccount::first_of(3) + 10, .counts = http(10)}); }
  LedgerAccount account;
  const Clock::time_point now = Clock::now();
};

TEST_F(Account, GivesOutNumbersBehindWhatWasCounted) {
  const auto range = account.take(5);
  EXPECT_EQ(range.first, LedgerAccount::first_of(3) + 11);
  EXPECT_EQ(range.last, LedgerAccount::first_of(3) + 15);
  EXPECT_EQ(account.take(1).first, range.last + 1);
  EXPECT_LT(LedgerAccount::last_of(3), LedgerAccount::first_of(4));
  EXPECT_GT(LedgerAccount::last_of(65'535), 0);
}

TEST_F(Account, AStoredCountEndsBeforeTheFirstThatIsUnderWay) {
  const auto first = account.take(5), second = account.take(7);
  account.settle(second, http(7));
  EXPECT_EQ(account.checkpoint().upto, first.first - 1);
  EXPECT_EQ(account.checkpoint().counts, http(10));
  EXPECT_EQ(account.total(), http(17)) << "it is known all the same";
  account.settle(first, http(4));
  EXPECT_EQ(account.checkpoint().upto, second.last);
  EXPECT_EQ(account.checkpoint().counts, http(21));
}

TEST_F(Account, WhatIsInDoubtIsNotCountedUntilItIsSettled) {
  const auto doubted = account.take(5);
  account.doubt(doubted, now);
  EXPECT_TRUE(account.doubted_before(now - std::chrono::seconds(1)).empty());
  ASSERT_EQ(account.doubted_before(now).size(), 1u);
  const auto later = account.take(2);
  account.settle(later, http(2));
  EXPECT_EQ(account.checkpoint().upto, doubted.first - 1);
  account.settle(doubted, http(3));
  EXPECT_TRUE(account.doubted_before(now).empty());
  EXPECT_EQ(account.checkpoint().upto, later.last);
  EXPECT_EQ(account.total(), http(15));
}

TEST_F(Account, WhatASlotThatWasLostHadUnderWayIsNobodysHere) {
  const auto before = account.take(5);
  account.claim(9, {.upto = LedgerAccount::first_of(9), .counts = {}});
  account.settle(before, http(5));
  account.doubt(before, now);
  EXPECT_TRUE(account.total().empty());
  EXPECT_TRUE(account.doubted_before(Clock::time_point::max()).empty());
  EXPECT_EQ(account.take(1).first, LedgerAccount::first_of(9) + 1);
}

TEST(Counts, OfWhatMetNoBrokerAreInproc) {
  EXPECT_EQ(way_of(core::Via::automatic), "inproc");
  EXPECT_EQ(way_of(core::Via::amqp), "amqp");
}

}  // namespace
}  // namespace flexi::stores::mongo
