// SPDX-License-Identifier: Apache-2.0
#include "services/system/system_service.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/json.hpp"
#include "runtime/shards.hpp"

namespace flexi::services::system {
namespace {

using core::Reply;
using core::Result;
using testing::HasSubstr;

core::awaitable<Result<std::string>> well(core::CallContext context) {
  EXPECT_LE(context.remaining(), std::chrono::milliseconds(1'000)) << "one slow part must not hold up the others";
  co_return R"({"depth":3})";
}
core::awaitable<Result<std::string>> broken(core::CallContext) { co_return core::unavailable("the disk is gone", "secret path"); }

Result<Reply> ask(core::Handler& handler, std::string action) {
  runtime::Shards shards(1);
  core::Request request;
  request.action = std::move(action);
  std::optional<Result<Reply>> result;
  auto work = [](core::Handler* h, core::Request r, std::optional<Result<Reply>>* out) -> core::awaitable<void> { out->emplace(co_await h->handle(std::move(r), {})); };
  shards.run(work(&handler, std::move(request), &result));
  return std::move(*result);
}

TEST(System, TellsOfEachPartAndOfThoseThatFail) {
  runtime::Readiness readiness;
  readiness.set_unready("storage", "full");
  SystemService service({.version = "1.2.3", .role = "broker"}, readiness, {{"queue", well}, {"stores", broken}});
  auto reply = ask(service, "system.get");
  ASSERT_TRUE(reply);
  const auto& data = reply.value().data;
  EXPECT_TRUE(runtime::is_json(data)) << data;
  EXPECT_THAT(data, HasSubstr(R"("version":"1.2.3","role":"broker","pid":)"));
  EXPECT_THAT(data, HasSubstr(R"("ready":false)"));
  EXPECT_THAT(data, HasSubstr(R"("queue":{"depth":3})"));
  EXPECT_THAT(data, HasSubstr(R"("stores":{"error":"the disk is gone"})"));
  EXPECT_THAT(data, testing::Not(HasSubstr("secret path")));
}

TEST(System, HasNoOtherAction) {
  runtime::Readiness readiness;
  SystemService service({}, readiness, {});
  EXPECT_EQ(ask(service, "system.stop").error().kind, core::ErrorKind::unimplemented);
}

}  // namespace
}  // namespace flexi::services::system
