// SPDX-License-Identifier: Apache-2.0
#include "store_under_test.hpp"

namespace flexi::conformance {
namespace {

using core::ErrorKind, core::Seen;

struct IdempotencyStoreConformance : StoreTest {
  static core::PayloadDigest digest(std::uint8_t of) {
    core::PayloadDigest made;
    made.bytes.fill(of);
    return made;
  }
  static core::MessageId id(std::string text) { return core::MessageId::parse(text).value(); }
  core::Result<Seen> remember(std::string action, std::string key, std::uint8_t payload = 1) {
    return wait(store->keys().remember(std::move(action), id(std::move(key)), digest(payload), {}));
  }
};
INSTANTIATE_TEST_SUITE_P(AllStores, IdempotencyStoreConformance, testing::ValuesIn(all_stores_that(&StoreKind::keeps_keys)), kind_name);

TEST_P(IdempotencyStoreConformance, AKeyStandsForOnePayloadPerAction) {
  EXPECT_EQ(remember("log", "k").value(), Seen::first);
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(remember("log", "k").value(), Seen::again);
    EXPECT_EQ(remember("log", "k", 2).error().kind, ErrorKind::conflict);
    EXPECT_EQ(remember("log", "k").value(), Seen::again) << "a conflict changes nothing";
    store->close();
    ASSERT_TRUE(store->open());
  }
  EXPECT_EQ(remember("mail", "k", 2).value(), Seen::first);
}

TEST_P(IdempotencyStoreConformance, OfManyWhoBringOneKeyOneIsFirst) {
  std::vector<core::awaitable<core::Result<Seen>>> racers;
  for (int i = 0; i < 30; ++i) racers.push_back(store->keys().remember("log", id("k"), digest(i % 2 ? 1 : 2), {}));
  int first = 0, again = 0, conflicts = 0;
  for (auto& result : wait_all(std::move(racers))) {
    if (!result) conflicts += result.error().kind == ErrorKind::conflict;
    else ++(result.value() == Seen::first ? first : again);
  }
  EXPECT_EQ(first, 1);
  EXPECT_EQ(again, 14);
  EXPECT_EQ(conflicts, 15);
}

TEST_P(IdempotencyStoreConformance, HostileAndLongKeysAreData) {
  for (auto key : {std::string("'; DROP TABLE idempotency_keys; --"), std::string("%_$ne?1:id"), std::string(core::MessageId::kMaxBytes, '~')}) {
    auto parsed = core::MessageId::parse(key);
    if (!parsed) continue;  // no id, so it never gets here
    EXPECT_EQ(wait(store->keys().remember("'; --", parsed.value(), digest(1), {})).value(), Seen::first) << key;
    EXPECT_EQ(wait(store->keys().remember("'; --", parsed.value(), digest(1), {})).value(), Seen::again) << key;
  }
}

TEST_P(IdempotencyStoreConformance, ACallPastItsDeadlineDoesNothing) {
  auto late = core::CallContext::with_timeout(std::chrono::milliseconds(0));
  EXPECT_EQ(wait(store->keys().remember("log", id("k"), digest(1), late)).error().kind, ErrorKind::deadline_exceeded);
  EXPECT_EQ(remember("log", "k", 2).value(), Seen::first);
}

TEST_P(IdempotencyStoreConformance, WhoLeavesHoldsNothingUp) {
  start_and_leave(store->keys().remember("log", id("k"), digest(1), {}));
  EXPECT_TRUE(remember("log", "k", 1));
}

TEST_P(IdempotencyStoreConformance, AFullQueueIsOverloadedWithATimeToComeBack) {
  store->with_full_queue([&] { expect_overloaded(remember("log", "k")); });
  EXPECT_EQ(remember("log", "k").value(), Seen::first);
}

TEST_P(IdempotencyStoreConformance, AFullDiskIsUnavailableRemembersNothingAndHeals) {
  ASSERT_TRUE(remember("log", "before"));
  store->refuse_writes();
  std::vector<core::awaitable<core::Result<Seen>>> works;
  const std::string long_action(200000, 'x');
  for (int i = 0; i < 5; ++i) works.push_back(store->keys().remember(long_action, id("k" + std::to_string(i)), digest(1), {}));
  expect_unavailable(wait_all(std::move(works)));
  store->allow_writes();
  EXPECT_EQ(remember(long_action, "k1", 2).value(), Seen::first);
  EXPECT_EQ(remember("log", "before").value(), Seen::again);
}

}  // namespace
}  // namespace flexi::conformance
