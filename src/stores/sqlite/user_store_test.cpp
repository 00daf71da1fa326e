// SPDX-License-Identifier: Apache-2.0
#include "stores/sqlite/user_store.hpp"

#include <gtest/gtest.h>

#include "stores/sqlite/store_fixture.hpp"

namespace flexi::stores::sqlite {
namespace {

struct SqliteUsers : testing::Test, StoreFixture {
  void SetUp() override { open(); }
  core::Result<core::User> add(std::string email) { return wait(users().insert({.email = std::move(email), .password_hash = "h"}, {})); }
  std::string found(std::string email) {
    auto user = wait(users().find_by_email(std::move(email), {}));
    return user ? user.value().email : std::string(core::to_string(user.error().kind));
  }
};

TEST_F(SqliteUsers, AnEmailMatchesExactlyFirstThenWithoutCaseWhereUnique) {
  ASSERT_TRUE(add("Ann@example.com"));
  EXPECT_EQ(found("ann@EXAMPLE.com"), "Ann@example.com");
  ASSERT_TRUE(add("ann@example.com"));
  EXPECT_EQ(found("ann@example.com"), "ann@example.com");
  EXPECT_EQ(found("Ann@example.com"), "Ann@example.com");
  EXPECT_EQ(found("ANN@example.com"), "not_found");
}

TEST_F(SqliteUsers, ADeletedUsersIdIsNotGivenAgain) {
  const auto id = add("a@b").value().id;
  ASSERT_TRUE(wait(users().remove(id, {})));
  EXPECT_GT(add("c@d").value().id, id);
}

TEST_F(SqliteUsers, TheLookUpUsesAnIndex) {
  ASSERT_TRUE(database().write_now([](runtime::sqlite::Connection& connection) -> core::Result<void> {
    auto plan = connection.use("EXPLAIN QUERY PLAN SELECT * FROM users WHERE lower(email) = lower(?1) ORDER BY email = ?1 DESC LIMIT 2");
    FLEXI_TRY(auto row, plan.step());
    EXPECT_TRUE(row);
    EXPECT_NE(plan.text(3).find("users_by_folded_email"), std::string::npos) << plan.text(3);
    return core::ok();
  }));
}

}  // namespace
}  // namespace flexi::stores::sqlite
