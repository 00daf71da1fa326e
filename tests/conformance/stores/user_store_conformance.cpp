// SPDX-License-Identifier: Apache-2.0
#include "core/timestamp.hpp"
#include "store_under_test.hpp"

namespace flexi::conformance {
namespace {

using core::ErrorKind;

struct UserStoreConformance : StoreTest {
  core::Result<core::User> add(core::User user) { return wait(store->users().insert(std::move(user), {})); }
};
INSTANTIATE_TEST_SUITE_P(AllStores, UserStoreConformance, testing::ValuesIn(all_stores_that(&StoreKind::keeps_users)), kind_name);

TEST_P(UserStoreConformance, WhatWasWrittenIsReadBack) {
  const auto before = std::chrono::system_clock::now() - std::chrono::milliseconds(1);
  auto added = add({.email = "Ann@example.com", .first_name = "Ann", .last_name = "Lee", .password_hash = "$2b$04$x", .active = true});
  ASSERT_TRUE(added);
  EXPECT_GT(added.value().id, 0);
  for (auto& user : {wait(store->users().find(added.value().id, {})), wait(store->users().find_by_email("Ann@example.com", {})),
                     wait(store->users().find_by_email("aNN@EXAMPLE.com", {}))}) {
    ASSERT_TRUE(user);
    EXPECT_EQ(user.value().id, added.value().id);
    EXPECT_EQ(user.value().email, "Ann@example.com");
    EXPECT_EQ(user.value().first_name, "Ann");
    EXPECT_EQ(user.value().last_name, "Lee");
    EXPECT_EQ(user.value().password_hash, "$2b$04$x");
    EXPECT_TRUE(user.value().active);
    EXPECT_EQ(user.value().created_at, added.value().created_at);
    EXPECT_GE(user.value().created_at, before);  // in UTC, or it would be hours away in most places
    EXPECT_LE(user.value().updated_at, std::chrono::system_clock::now());
  }
  store->close();
  ASSERT_TRUE(store->open());
  EXPECT_TRUE(wait(store->users().find(added.value().id, {})));
}

TEST_P(UserStoreConformance, ChangesWhatItIsToldAndNothingElse) {
  auto user = add({.email = "a@b", .password_hash = "one"}).value();
  ASSERT_TRUE(wait(store->users().set_password_hash(user.id, "two", {})));
  user.email = "c@d", user.first_name = "C", user.active = false, user.password_hash = "ignored";
  ASSERT_TRUE(wait(store->users().update(user, {})));
  auto now = wait(store->users().find(user.id, {})).value();
  EXPECT_EQ(now.email, "c@d");
  EXPECT_EQ(now.first_name, "C");
  EXPECT_FALSE(now.active);
  EXPECT_EQ(now.password_hash, "two");
  EXPECT_EQ(now.created_at, user.created_at);
  EXPECT_GE(now.updated_at, user.updated_at);
  ASSERT_TRUE(wait(store->users().remove(user.id, {})));
  EXPECT_TRUE(wait(store->users().list({})).value().empty());
}

TEST_P(UserStoreConformance, AHashIsReplacedOnlyWhereTheOldOneStillStands) {
  auto user = add({.email = "a@b", .password_hash = "one"}).value();
  ASSERT_TRUE(wait(store->users().replace_password_hash(user.id, "one", "two", {})));
  EXPECT_EQ(wait(store->users().find(user.id, {})).value().password_hash, "two");
  EXPECT_EQ(wait(store->users().replace_password_hash(user.id, "one", "three", {})).error().kind, ErrorKind::conflict);
  EXPECT_EQ(wait(store->users().find(user.id, {})).value().password_hash, "two");
  EXPECT_EQ(wait(store->users().replace_password_hash(user.id + 1, "one", "three", {})).error().kind, ErrorKind::not_found);
}

TEST_P(UserStoreConformance, WhatIsMissingIsNotFound) {
  EXPECT_EQ(wait(store->users().find(1, {})).error().kind, ErrorKind::not_found);
  EXPECT_EQ(wait(store->users().find_by_email("a@b", {})).error().kind, ErrorKind::not_found);
  EXPECT_EQ(wait(store->users().update({.id = 1, .email = "a@b"}, {})).error().kind, ErrorKind::not_found);
  EXPECT_EQ(wait(store->users().set_password_hash(1, "x", {})).error().kind, ErrorKind::not_found);
  EXPECT_EQ(wait(store->users().remove(1, {})).error().kind, ErrorKind::not_found);
}

TEST_P(UserStoreConformance, ADuplicateEmailIsAConflictAndChangesNothing) {
  auto first = add({.email = "a@b", .first_name = "first"}).value();
  auto other = add({.email = "c@d"}).value();
  EXPECT_EQ(add({.email = "a@b", .first_name = "second"}).error().kind, ErrorKind::conflict);
  other.email = "a@b", other.first_name = "moved";
  EXPECT_EQ(wait(store->users().update(other, {})).error().kind, ErrorKind::conflict);
  EXPECT_EQ(wait(store->users().find(first.id, {})).value().first_name, "first");
  EXPECT_EQ(wait(store->users().find(other.id, {})).value().first_name, "");
}

TEST_P(UserStoreConformance, OfManyWhoCreateTheSameUserOneWins) {
  std::vector<core::awaitable<core::Result<core::User>>> racers;
  for (int i = 0; i < 20; ++i) racers.push_back(store->users().insert({.email = "a@b", .first_name = std::to_string(i)}, {}));
  int winners = 0;
  for (auto& result : wait_all(std::move(racers))) {
    if (result) ++winners;
    else EXPECT_EQ(result.error().kind, ErrorKind::conflict);
  }
  EXPECT_EQ(winners, 1);
  EXPECT_EQ(wait(store->users().list({})).value().size(), 1u);
}

TEST_P(UserStoreConformance, HostileLongAndUnicodeTextIsData) {
  for (auto text : {std::string("'; DROP TABLE users; --"), std::string("\" OR \"\"=\""), std::string("%_\\x00$1?1:id{$ne:null}"),
                    std::string(200, 'x'), std::string("Zoë 李 🦊 \u202e"), std::string("Robert\r\n\tTables")}) {
    auto added = add({.email = text + "@example.com", .first_name = text, .last_name = text, .password_hash = "h"});
    ASSERT_TRUE(added) << text;
    auto read = wait(store->users().find_by_email(text + "@example.com", {}));
    ASSERT_TRUE(read) << text;
    EXPECT_EQ(read.value().first_name, text);
    EXPECT_EQ(read.value().last_name, text);
  }
  EXPECT_EQ(wait(store->users().find_by_email("%", {})).error().kind, ErrorKind::not_found);
}

TEST_P(UserStoreConformance, ListsByLastNameThenFirstNameThenId) {
  int number = 0;
  for (auto [last, first] : {std::pair("B", "b"), std::pair("A", "z"), std::pair("B", "a"), std::pair("A", "z")})
    ASSERT_TRUE(add({.email = std::to_string(++number) + "@b", .first_name = first, .last_name = last}));
  std::string order;
  std::int64_t previous = 0;
  const auto users = wait(store->users().list({}));
  ASSERT_TRUE(users);
  for (auto& user : users.value()) {
    order += user.last_name + user.first_name + " ";
    if (user.last_name == "A") {
      EXPECT_GT(user.id, previous);
      previous = user.id;
    }
  }
  EXPECT_EQ(order, "Az Az Ba Bb ");
}

struct RestoreConformance : UserStoreConformance {
  static core::User account(std::int64_t id, std::string email) {
    return {.id = id, .email = std::move(email), .first_name = "Ann", .last_name = "Lee", .password_hash = "$2a$12$kept", .active = false,
            .created_at = core::from_unix_micros(1'500'000'000'123'456), .updated_at = core::from_unix_micros(1'600'000'000'654'321)};
  }
  core::Result<core::Restored> restore(core::User user) { return wait(store->users().restore(std::move(user), {})); }
};
INSTANTIATE_TEST_SUITE_P(AllStores, RestoreConformance, testing::ValuesIn(all_stores_that(&StoreKind::keeps_users)), kind_name);

TEST_P(RestoreConformance, AnAccountIsRestoredAsItWasAndTheSameAgainIsTheSame) {
  const auto brought = account(4711, "ann@example.com");
  EXPECT_EQ(restore(brought).value(), core::Restored::added);
  EXPECT_EQ(restore(brought).value(), core::Restored::same);
  for (auto& user : {wait(store->users().find(4711, {})).value(), wait(store->users().find_by_email("ann@example.com", {})).value()}) {
    EXPECT_EQ(user.id, 4711);
    EXPECT_EQ(user.first_name, "Ann");
    EXPECT_EQ(user.last_name, "Lee");
    EXPECT_EQ(user.password_hash, "$2a$12$kept");
    EXPECT_FALSE(user.active);
    EXPECT_EQ(user.created_at, brought.created_at);
    EXPECT_EQ(user.updated_at, brought.updated_at);
  }
  EXPECT_EQ(wait(store->users().list({})).value().size(), 1u);
}

TEST_P(RestoreConformance, LaterAccountsGetIdsBeyondWhateverTheOrder) {
  ASSERT_TRUE(restore(account(900, "a@b")));
  ASSERT_TRUE(restore(account(100, "c@d")));
  const auto next = add({.email = "e@f"});
  ASSERT_TRUE(next);
  EXPECT_GT(next.value().id, 900);
  const auto free = next.value().id + 1;
  ASSERT_TRUE(restore(account(free, "g@h")));
  EXPECT_GT(add({.email = "i@j"}).value().id, free);
}

TEST_P(RestoreConformance, WhatIsAnothersIsAConflictAndChangesNothing) {
  const auto there = add({.email = "ann@example.com", .first_name = "first"}).value();
  for (auto& other : {account(there.id, "other@example.com"), account(there.id, "ann@example.com"), account(there.id + 1, "ann@example.com")})
    EXPECT_EQ(restore(other).error().kind, ErrorKind::conflict);
  auto changed = there;
  changed.updated_at += std::chrono::microseconds(1);
  EXPECT_EQ(restore(changed).error().kind, ErrorKind::conflict) << "not the very same";
  EXPECT_EQ(restore(there).value(), core::Restored::same);
  EXPECT_EQ(wait(store->users().list({})).value().size(), 1u);
  EXPECT_EQ(wait(store->users().find(there.id, {})).value().first_name, "first");
  EXPECT_EQ(restore(account(0, "z@z")).error().kind, ErrorKind::invalid_argument);
  EXPECT_EQ(restore(account(-1, "z@z")).error().kind, ErrorKind::invalid_argument);
}

TEST_P(RestoreConformance, OfManyWhoRestoreTheSameOneAdds) {
  std::vector<core::awaitable<core::Result<core::Restored>>> racers;
  for (int i = 0; i < 20; ++i) racers.push_back(store->users().restore(account(7, "a@b"), {}));
  int added = 0;
  for (auto& result : wait_all(std::move(racers))) {
    ASSERT_TRUE(result) << result.error().message;
    added += result.value() == core::Restored::added;
  }
  EXPECT_EQ(added, 1);
}

TEST_P(UserStoreConformance, ACallPastItsDeadlineDoesNothing) {
  auto late = core::CallContext::with_timeout(std::chrono::milliseconds(0));
  EXPECT_EQ(wait(store->users().insert({.email = "a@b"}, late)).error().kind, ErrorKind::deadline_exceeded);
  EXPECT_EQ(wait(store->users().restore({.id = 1, .email = "a@b"}, late)).error().kind, ErrorKind::deadline_exceeded);
  EXPECT_EQ(wait(store->users().list(late)).error().kind, ErrorKind::deadline_exceeded);
  EXPECT_TRUE(wait(store->users().list({})).value().empty());
}

TEST_P(UserStoreConformance, AFailureFailsAlone) {
  ASSERT_TRUE(add({.email = "taken@b"}));
  std::vector<core::awaitable<core::Result<core::User>>> works;
  for (int i = 0; i < 20; ++i) works.push_back(store->users().insert({.email = i == 10 ? "taken@b" : std::to_string(i) + "@b"}, {}));
  auto results = wait_all(std::move(works));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(bool(results[i]), i != 10);
  EXPECT_EQ(wait(store->users().list({})).value().size(), 20u);
}

TEST_P(UserStoreConformance, WhoLeavesHoldsNothingUpAndItsUserIsWholeOrNotThere) {
  start_and_leave(store->users().insert({.email = "a@b", .first_name = "first"}, {}));
  auto again = add({.email = "a@b", .first_name = "first"});
  if (!again) EXPECT_EQ(again.error().kind, ErrorKind::conflict);
  const auto users = wait(store->users().list({})).value();
  ASSERT_EQ(users.size(), 1u);
  EXPECT_EQ(users[0].first_name, "first");
}

TEST_P(UserStoreConformance, AFullQueueIsOverloadedWithATimeToComeBack) {
  const auto user = add({.email = "there@b"}).value();
  store->with_full_queue([&] {
    expect_overloaded(add({.email = "a@b"}));
    expect_overloaded(wait(store->users().set_password_hash(user.id, "x", {})));
    expect_overloaded(wait(store->users().remove(user.id, {})));
    EXPECT_TRUE(wait(store->users().find(user.id, {}))) << "logins go on";
  });
  EXPECT_TRUE(add({.email = "a@b"}));
  EXPECT_EQ(wait(store->users().find(user.id, {})).value().password_hash, user.password_hash);
}

TEST_P(UserStoreConformance, AFullDiskIsUnavailableChangesNothingAndHeals) {
  const auto user = add({.email = "there@b", .first_name = "before"}).value();
  store->refuse_writes();
  const std::string large(store->longest_text(), 'x');
  std::vector<core::awaitable<core::Result<core::User>>> works;
  for (int i = 0; i < 5; ++i) works.push_back(store->users().insert({.email = std::to_string(i) + "@b", .first_name = large}, {}));
  expect_unavailable(wait_all(std::move(works)));
  auto changed = user;
  changed.first_name = large;
  EXPECT_EQ(wait(store->users().update(changed, {})).error().kind, ErrorKind::unavailable);
  EXPECT_EQ(wait(store->users().find(user.id, {})).value().first_name, "before");
  EXPECT_EQ(wait(store->users().list({})).value().size(), 1u);
  store->allow_writes();
  EXPECT_TRUE(add({.email = "0@b", .first_name = large}));
  EXPECT_TRUE(wait(store->users().update(changed, {})));
}

}  // namespace
}  // namespace flexi::conformance
