// SPDX-License-Identifier: Apache-2.0
#include "services/broker/token_gate.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "runtime/shards.hpp"

namespace flexi::services::broker {
namespace {

using core::ErrorKind;

class Scripted final : public core::Handler {
 public:
  std::vector<core::Request> requests{};
  std::vector<core::CallContext> contexts{};
  core::Result<std::string> data = std::string("{}");

  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext context) override {
    requests.push_back(std::move(request));
    contexts.push_back(std::move(context));
    if (!data) co_return data.error();
    core::Reply reply;
    reply.data = data.value();
    co_return reply;
  }
};

struct TokenGateTest : testing::Test {
  runtime::Shards shards{1};
  Scripted inner, accounts;
  TokenGate gate{inner, accounts, {"resize"}};

  core::Result<core::Reply> call(std::string action, std::string bearer, std::string caller = "") {
    core::Request request;
    request.action = std::move(action);
    request.payload = core::Json{};
    core::CallContext context;
    context.bearer = std::move(bearer);
    context.caller = std::move(caller);
    core::Result<core::Reply> result = core::internal("not run");
    shards.run([](TokenGate& g, core::Request r, core::CallContext c, core::Result<core::Reply>& out) -> core::awaitable<void> {
      out = co_await g.handle(std::move(r), std::move(c));
    }(gate, std::move(request), std::move(context), result));
    return result;
  }
};

TEST_F(TokenGateTest, WhatNeedsNoTokenGoesOnWithoutAsking) {
  for (auto action : {"log", "auth", "blur"}) EXPECT_TRUE(call(action, "eyJ.x.y")) << action;
  EXPECT_TRUE(call("users.list", "", "admin"));
  EXPECT_TRUE(call("resize", "", "admin"));
  EXPECT_EQ(inner.requests.size(), 5u);
  EXPECT_TRUE(accounts.requests.empty());
  for (auto& context : inner.contexts) EXPECT_TRUE(context.bearer.empty()) << "a token goes no further";
}

TEST_F(TokenGateTest, NothingIsAdministeredWithoutACaller) {
  EXPECT_EQ(call("users.delete", "").error().kind, ErrorKind::unauthenticated);
  EXPECT_EQ(call("resize", "").error().kind, ErrorKind::unauthenticated);
  EXPECT_TRUE(inner.requests.empty());
}

TEST_F(TokenGateTest, AnAdministratorsTokenAdministers) {
  accounts.data = std::string(R"({"email":"a@b","administrator":true})");
  EXPECT_TRUE(call("users.delete", "eyJ.x.y"));
  EXPECT_EQ(std::get<core::Json>(accounts.requests.at(0).payload).text, R"({"token":"eyJ.x.y"})");
  EXPECT_EQ(inner.contexts.at(0).caller, "admin");
  EXPECT_TRUE(inner.contexts.at(0).bearer.empty());
}

TEST_F(TokenGateTest, AUsersTokenOpensWhatIsProtectedAlone) {
  for (auto account : {R"({"administrator":false})", "{}", "[]", R"({"administrator":"yes"})", R"({"administrator":1})"}) {
    accounts.data = std::string(account);
    EXPECT_EQ(call("users.list", "eyJ.x.y").error().kind, ErrorKind::permission_denied) << account;
  }
  EXPECT_TRUE(inner.requests.empty());
  EXPECT_TRUE(call("resize", "eyJ.x.y"));
  EXPECT_TRUE(inner.contexts.at(0).caller.empty()) << "a user is no administrator behind the gate";
}

TEST_F(TokenGateTest, ATokenThatIsNotValidOpensNothing) {
  accounts.data = core::unauthenticated("the token is not valid");
  for (auto action : {"users.list", "resize"}) EXPECT_EQ(call(action, "eyJ.x.y").error().message, "the token is not valid");
  accounts.data = core::unavailable("nobody is there");
  EXPECT_EQ(call("resize", "eyJ.x.y").error().kind, ErrorKind::unavailable);
  EXPECT_THAT(call("resize", "eyJ.x.y").error().message, testing::HasSubstr("token"));
  EXPECT_TRUE(inner.requests.empty());
}

TEST_F(TokenGateTest, WhoAsksAboutHimselfNeedNotRepeatHisToken) {
  EXPECT_TRUE(call("me.get", "eyJ.x.y"));
  EXPECT_EQ(std::get<core::Json>(inner.requests.at(0).payload).text, R"({"token":"eyJ.x.y"})");
  EXPECT_TRUE(call("me.get", ""));
  EXPECT_EQ(std::get<core::Json>(inner.requests.at(1).payload).text, "{}");
}

}  // namespace
}  // namespace flexi::services::broker
