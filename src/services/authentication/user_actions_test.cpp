// SPDX-License-Identifier: Apache-2.0
#include "services/authentication/user_actions.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "services/authentication/authentication_fixture.hpp"

namespace flexi::services::authentication {
namespace {

using core::ErrorKind;
using testing::HasSubstr;
using testing::Not;

struct UserActionsTest : testing::Test {
  Fixture fixture;
  UserActions actions{UserAdministration(fixture.users(), fixture.hasher, fixture.policy)};

  core::Result<core::Reply> call(std::string action, std::string json) {
    core::Request request;
    request.action = std::move(action);
    request.payload = core::Json{std::move(json)};
    return fixture.wait(actions.handle(std::move(request), core::CallContext{}));
  }
  std::string data(std::string action, std::string json) {
    auto reply = call(std::move(action), std::move(json));
    return reply ? reply.value().data : "refused: " + reply.error().message;
  }
  ErrorKind refusal(std::string action, std::string json, const char* naming = "") {
    auto reply = call(std::move(action), std::move(json));
    if (reply) return ErrorKind::internal;
    EXPECT_THAT(reply.error().message, HasSubstr(naming));
    EXPECT_THAT(reply.error().message + reply.error().detail, Not(HasSubstr("hush")));
    return reply.error().kind;
  }
};

TEST_F(UserActionsTest, LeadAnAccountThroughItsLife) {
  auto made = data("users.create", R"({"email":"ada@example.com","first_name":"Ada","last_name":"Lovelace","password":"analytical engine"})");
  EXPECT_THAT(made, HasSubstr(R"("email":"ada@example.com","first_name":"Ada","last_name":"Lovelace","active":1,)"));
  EXPECT_THAT(made, Not(HasSubstr("password")));
  EXPECT_EQ(data("users.get", R"({"id":"1"})"), made);
  EXPECT_THAT(data("users.create", R"({"email":"b@example.com","last_name":"Babbage","password":"difference engine","active":0})"), HasSubstr("\"active\":0"));
  EXPECT_THAT(data("users.list", "{}"), testing::StartsWith("[{\"id\":2"));

  EXPECT_THAT(data("users.update", R"({"id":"1","last_name":"King","active":false})"),
              HasSubstr(R"("email":"ada@example.com","first_name":"Ada","last_name":"King","active":0,)"));
  EXPECT_EQ(data("users.update", data("users.get", R"({"id":1})")).substr(0, 60), data("users.get", R"({"id":1})").substr(0, 60)) << "as it was read";
  EXPECT_THAT(data("users.update", R"({"id":1,"first_name":"","active":1})"), Not(HasSubstr("first_name")));

  const auto before = fixture.wait(fixture.users().find(1, core::CallContext{})).value().password_hash;
  EXPECT_THAT(data("users.reset_password", R"({"id":1,"password":"a new engine"})"), HasSubstr("ada@"));
  EXPECT_NE(fixture.wait(fixture.users().find(1, core::CallContext{})).value().password_hash, before);
  EXPECT_THAT(data("users.delete", R"({"id":1})"), HasSubstr("ada@"));
  for (auto action : {"users.get", "users.update", "users.delete"}) EXPECT_EQ(refusal(action, R"({"id":1})"), ErrorKind::not_found) << action;
  EXPECT_EQ(refusal("users.reset_password", R"({"id":1,"password":"hush hush hush"})"), ErrorKind::not_found);
}

TEST_F(UserActionsTest, RefuseNamingTheField) {
  ASSERT_TRUE(call("users.create", R"({"email":"a@example.com","password":"analytical engine"})"));
  ASSERT_TRUE(call("users.create", R"({"email":"c@example.com","password":"analytical engine"})"));
  EXPECT_EQ(refusal("users.create", R"({"email":"a@example.com","password":"hush hush hush"})", "e-mail"), ErrorKind::conflict);
  EXPECT_EQ(refusal("users.update", R"({"id":2,"email":"a@example.com"})", "e-mail"), ErrorKind::conflict);
  const std::tuple<const char*, const char*, const char*> invalid[] = {
      {"users.create", R"({"password":"hush hush hush"})", "email"},
      {"users.create", R"({"email":"x","password":"hush hush hush"})", "email"},
      {"users.create", R"({"email":"x@example.com"})", "password"},
      {"users.create", R"({"email":"x@example.com","password":"hush"})", "password"},
      {"users.create", R"({"email":"x@example.com","password":7})", "password"},
      {"users.create", R"({"email":"x@example.com","password":"hush hush hush","first_name":"a\nb"})", "first_name"},
      {"users.create", R"({"email":"x@example.com","password":"hush hush hush","active":2})", "active"},
      {"users.create", R"({"email":"x@example.com","password":"hush hush hush","role":"boss"})", "role"},
      {"users.update", R"({"email":"x@example.com"})", "id"},
      {"users.update", R"({"id":1,"email":"nobody"})", "email"},
      {"users.update", R"({"id":1,"password":"hush hush hush"})", "password"},
      {"users.update", R"({"id":1,"active":"maybe"})", "active"},
      {"users.reset_password", R"({"id":1})", "password"},
      {"users.reset_password", R"({"id":1,"password":"hush"})", "password"},
      {"users.delete", R"({"id":"one"})", "id"},
      {"users.delete", "[]", "object"}};
  for (auto& [action, json, naming] : invalid) EXPECT_EQ(refusal(action, json, naming), ErrorKind::invalid_argument) << action << " " << json;
  EXPECT_EQ(refusal("users.frobnicate", R"({"id":1})"), ErrorKind::unimplemented);
}

}  // namespace
}  // namespace flexi::services::authentication
