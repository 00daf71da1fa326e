// SPDX-License-Identifier: Apache-2.0
#include "services/authentication/user_administration.hpp"

#include <gtest/gtest.h>

#include "services/authentication/account_rules.hpp"
#include "services/authentication/authentication_fixture.hpp"

namespace flexi::services::authentication {
namespace {

core::ErrorKind kind_of(const core::Result<void>& result) { return result ? core::ErrorKind::internal : result.error().kind; }
constexpr auto kInvalid = core::ErrorKind::invalid_argument;

TEST(AccountRules, AnEmailHasOneAtAndNoSpaces) {
  for (auto good : {"a@b", "admin@example.com", "o'brien+x@sub.example.org", "ü@exämple.de"}) EXPECT_TRUE(check_email(good)) << good;
  EXPECT_TRUE(check_email(std::string(252, 'a') + "@b"));
  EXPECT_EQ(kind_of(check_email(std::string(253, 'a') + "@b")), kInvalid);
  for (auto bad : {"", "@", "a@", "@b", "a", "a@b@c", "a b@c", "a@b\r\nBcc: x", "a\t@b", "\xff@b"}) EXPECT_EQ(kind_of(check_email(bad)), kInvalid) << bad;
  EXPECT_EQ(kind_of(check_email(std::string_view("a\0@b", 4))), kInvalid);
}

TEST(AccountRules, APasswordIs1To72BytesOfText) {
  EXPECT_TRUE(check_password("x"));
  EXPECT_TRUE(check_password(std::string(72, 'x')));
  EXPECT_TRUE(check_password("spaces and ümlauts\t"));
  EXPECT_EQ(kind_of(check_password(std::string(73, 'x'))), kInvalid);
  EXPECT_EQ(kind_of(check_password("")), kInvalid);
  EXPECT_EQ(kind_of(check_password(std::string_view("a\0b", 3))), kInvalid);
  EXPECT_EQ(kind_of(check_password("\xc3")), kInvalid);
  EXPECT_EQ(check_password(std::string(73, 'S')).error().message.find("SSS"), std::string::npos);
}

TEST(UserAdministration, LeadsAnAccountThroughItsLife) {
  Fixture fixture;
  UserAdministration administration(fixture.users(), fixture.hasher, fixture.policy);
  const core::CallContext context;
  auto ann = fixture.wait(administration.add({.email = "Ann@example.com", .first_name = "Ann", .last_name = "Lee", .password = "first-of-all"}, context));
  ASSERT_TRUE(ann);
  EXPECT_TRUE(ann.value().password_hash.starts_with("$2b$04$"));
  auto again = fixture.wait(administration.add({.email = "Ann@example.com", .password = "first-of-all"}, context));
  EXPECT_EQ(again.error().kind, core::ErrorKind::conflict);

  EXPECT_FALSE(fixture.wait(administration.disable("ann@EXAMPLE.com", context)).value().active);
  EXPECT_TRUE(fixture.wait(administration.enable(std::to_string(ann.value().id), context)).value().active);
  auto reset = fixture.wait(administration.reset_password("Ann@example.com", "second-of-all", context));
  ASSERT_TRUE(reset);
  EXPECT_NE(reset.value().password_hash, ann.value().password_hash);
  EXPECT_TRUE(fixture.wait(fixture.hasher.verify("second-of-all", reset.value().password_hash, context)).value());

  EXPECT_EQ(fixture.wait(administration.list(context)).value().size(), 1u);
  EXPECT_TRUE(fixture.wait(administration.remove("Ann@example.com", context)));
  EXPECT_TRUE(fixture.wait(administration.list(context)).value().empty());
  for (auto& gone : {fixture.wait(administration.disable("Ann@example.com", context)), fixture.wait(administration.remove("1", context)),
                     fixture.wait(administration.reset_password("nobody@example.com", "first-of-all", context))})
    EXPECT_EQ(gone.error().kind, core::ErrorKind::not_found);
}

TEST(UserAdministration, RefusesBadInputNamingTheField) {
  Fixture fixture;
  UserAdministration administration(fixture.users(), fixture.hasher, fixture.policy);
  const auto message = [&](NewUser user) {
    auto result = fixture.wait(administration.add(std::move(user), core::CallContext{}));
    return result ? std::string("accepted") : result.error().message;
  };
  EXPECT_EQ(message({.email = "nobody", .password = "first-of-all"}).find("email"), 0u);
  EXPECT_EQ(message({.email = "a@b", .password = ""}).find("password"), 0u);
  EXPECT_EQ(message({.email = "a@b", .first_name = "a\r\nb", .password = "first-of-all"}).find("first_name"), 0u);
  EXPECT_EQ(message({.email = "a@b", .last_name = std::string(256, 'a'), .password = "first-of-all"}).find("last_name"), 0u);
  EXPECT_TRUE(fixture.wait(administration.list(core::CallContext{})).value().empty());
}

TEST(ExampleUser, IsAddedToAnEmptyStoreOnly) {
  Fixture fixture;
  const core::CallContext context;
  EXPECT_TRUE(fixture.wait(ensure_example_user(fixture.users(), context)).value());
  EXPECT_FALSE(fixture.wait(ensure_example_user(fixture.users(), context)).value());
  auto user = fixture.wait(fixture.users().find_by_email("admin@example.com", context));
  ASSERT_TRUE(user);
  EXPECT_EQ(user.value().first_name + " " + user.value().last_name, "Admin User");
  EXPECT_TRUE(user.value().active);
  EXPECT_EQ(user.value().password_hash, "$2a$12$1zGLuYDDNvATh4RA4avbKuheAMpb1svexSzrQm7up.bnpwQHs0jNe");
}

}  // namespace
}  // namespace flexi::services::authentication
