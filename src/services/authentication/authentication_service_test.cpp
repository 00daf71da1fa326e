// SPDX-License-Identifier: Apache-2.0
#include "services/authentication/authentication_service.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <time.h>

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "runtime/json.hpp"
#include "services/authentication/authentication_fixture.hpp"
#include "services/authentication/user_administration.hpp"

namespace flexi::services::authentication {
namespace {

using testing::HasSubstr;
using testing::Not;

/// Keeps what it is given, and behaves as told.
class Recorder final : public core::Handler {
 public:
  enum class Manner { well, failing, throwing, hanging } manner = Manner::well;
  std::vector<core::Request> seen;

  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext) override {
    seen.push_back(std::move(request));
    if (manner == Manner::failing) co_return core::unavailable("logger is down");
    if (manner == Manner::throwing) throw std::runtime_error("bug");
    if (manner == Manner::hanging) {
      boost::asio::steady_timer never(co_await boost::asio::this_coro::executor, boost::asio::steady_timer::time_point::max());
      co_await never.async_wait(boost::asio::use_awaitable);
    }
    co_return core::Reply{.message = "logged"};
  }
};

class Authentication : public testing::Test {
 protected:
  Fixture fixture;
  Recorder recorder;
  AuthenticationOptions options{.passwords = {.cost = 4}, .entry_timeout = std::chrono::milliseconds(50)};
  AuthenticationService service{fixture.users(), fixture.hasher, &recorder, runtime::LogSink::none(), options};

  void SetUp() override {
    UserAdministration administration(fixture.users(), fixture.hasher);
    ASSERT_TRUE(fixture.wait(administration.add({.email = "Ann@example.com", .first_name = "Ann", .password = "secret"}, {})));
    ASSERT_TRUE(fixture.wait(administration.add({.email = "off@example.com", .password = "secret", .active = false}, {})));
  }
  core::Result<core::Reply> call(std::string action, core::Payload payload) {
    core::Request request;
    request.id = core::MessageId::generate();
    request.action = std::move(action);
    request.payload = std::move(payload);
    return fixture.wait(service.handle(std::move(request), core::CallContext::with_timeout(std::chrono::seconds(30))));
  }
  core::Result<core::Reply> log_in(std::string email, std::string password) { return call("auth", core::Credentials{std::move(email), std::move(password)}); }
};

TEST_F(Authentication, AnswersWithTheUserAndLeavesAnEntry) {
  auto reply = log_in("ann@EXAMPLE.com", "secret");
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply.value().message, "Logged in user Ann@example.com");
  auto user = runtime::JsonObject::parse(reply.value().data).value();
  EXPECT_EQ(user.integer("id").value(), 1);
  EXPECT_EQ(user.string("email").value(), "Ann@example.com");
  EXPECT_EQ(user.string("first_name").value(), "Ann");
  EXPECT_FALSE(user.has("last_name"));
  EXPECT_EQ(user.integer("active").value(), 1);
  EXPECT_TRUE(user.has("created_at") && user.has("updated_at"));
  EXPECT_FALSE(user.has("password"));
  EXPECT_THAT(reply.value().data, Not(HasSubstr("$2")));

  ASSERT_EQ(recorder.seen.size(), 1u);
  EXPECT_EQ(recorder.seen[0].action, "log");
  EXPECT_FALSE(recorder.seen[0].id.empty());
  auto& entry = std::get<core::LogEntry>(recorder.seen[0].payload);
  EXPECT_EQ(entry.name, "authentication");
  EXPECT_EQ(entry.data, "Ann@example.com logged in");
}

TEST_F(Authentication, ALoggerThatFailsThrowsOrHangsFailsNoLogin) {
  for (auto manner : {Recorder::Manner::failing, Recorder::Manner::throwing, Recorder::Manner::hanging}) {
    recorder.manner = manner;
    EXPECT_TRUE(log_in("Ann@example.com", "secret")) << int(manner);
  }
  EXPECT_EQ(recorder.seen.size(), 3u);
}

TEST_F(Authentication, RefusesEveryoneWithTheSameWordsAfterTheSameWork) {
  auto broken = fixture.wait(fixture.users().insert({.email = "broken@example.com", .password_hash = "garbage"}, {}));
  ASSERT_TRUE(broken);
  const std::pair<const char*, const char*> refused[] = {{"nobody@example.com", "secret"}, {"Ann@example.com", "wrong"}, {"Ann@example.com", ""},
                                                         {"off@example.com", "secret"},    {"off@example.com", "wrong"}, {"broken@example.com", "secret"},
                                                         {"", ""},                         {"' OR 1=1 --", "secret"}};
  auto before = fixture.checks();
  for (auto& [email, password] : refused) {
    auto reply = log_in(email, password);
    ASSERT_FALSE(reply) << email;
    EXPECT_EQ(reply.error().kind, core::ErrorKind::unauthenticated) << email;
    EXPECT_EQ(reply.error().message, "invalid credentials") << email;
    EXPECT_EQ(fixture.checks(), ++before) << email;
  }
  EXPECT_TRUE(recorder.seen.empty());
}

TEST_F(Authentication, APasswordThatCantBeIsABadRequestBeforeAnyWork) {
  const auto before = fixture.checks();
  for (auto& password : {std::string(73, 'x'), std::string("secret\0junk", 11)}) {
    auto known = log_in("Ann@example.com", password), unknown = log_in("nobody@example.com", password);
    EXPECT_EQ(known.error().kind, core::ErrorKind::invalid_argument);
    EXPECT_EQ(known.error().message, unknown.error().message);
    EXPECT_THAT(known.error().message, HasSubstr("password"));
    EXPECT_THAT(known.error().message + known.error().detail, Not(HasSubstr("xx")));
  }
  EXPECT_EQ(fixture.checks(), before);
}

TEST_F(Authentication, TakesTheSameTimeWhoeverIsRefused) {
  // Processor time of the whole process, which other processes don't disturb; medians, which a stray pause doesn't.
  const auto cpu_seconds = [] {
    timespec time{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
  };
  const std::pair<const char*, const char*> refused[] = {
      {"Ann@example.com", "wrong"}, {"nobody@example.com", "wrong"}, {"Ann@example.com", ""}, {"off@example.com", "secret"}};
  std::vector<double> samples[4];
  constexpr int kRounds = 101;
  for (int round = 0; round < kRounds; ++round)
    for (int who = 0; who < 4; ++who) {
      const double start = cpu_seconds();
      ASSERT_FALSE(log_in(refused[who].first, refused[who].second));
      samples[who].push_back(cpu_seconds() - start);
    }
  double least = 1e9, most = 0;
  for (auto& times : samples) {
    std::nth_element(times.begin(), times.begin() + kRounds / 2, times.end());
    least = std::min(least, times[kRounds / 2]);
    most = std::max(most, times[kRounds / 2]);
  }
  // One bcrypt of cost 4 is about a millisecond; leaving it out for one of the four would be a factor of ten.
  EXPECT_LT(most, least * 1.5);
}

TEST_F(Authentication, ListsAndShowsUsers) {
  auto list = call("users.list", core::Json{});
  ASSERT_TRUE(list);
  EXPECT_THAT(list.value().data, testing::StartsWith("[{\"id\":"));
  EXPECT_THAT(list.value().data, HasSubstr("off@example.com"));
  EXPECT_THAT(list.value().data, Not(HasSubstr("$2")));
  EXPECT_THAT(call("users.get", core::Json{R"({"id":"2"})"}).value().data, HasSubstr("off@example.com"));
  EXPECT_EQ(call("users.get", core::Json{R"({"id":99})"}).error().kind, core::ErrorKind::not_found);
  EXPECT_THAT(call("users.get", core::Json{}).error().message, HasSubstr("id"));
  EXPECT_EQ(call("users.get", core::Json{R"({"id":"x"})"}).error().kind, core::ErrorKind::invalid_argument);
  EXPECT_EQ(call("users.get", core::Json{"[]"}).error().kind, core::ErrorKind::invalid_argument);
}

TEST_F(Authentication, KnowsNoOtherAction) {
  EXPECT_EQ(call("log", core::LogEntry{"a", "b"}).error().kind, core::ErrorKind::unimplemented);
  EXPECT_EQ(call("auth", core::Json{}).error().kind, core::ErrorKind::invalid_argument);
}

}  // namespace
}  // namespace flexi::services::authentication
