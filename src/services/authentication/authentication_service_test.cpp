// SPDX-License-Identifier: Apache-2.0
#include "services/authentication/authentication_service.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "runtime/json.hpp"
#include "services/authentication/authentication_fixture.hpp"

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

/// What runs behind an answer is done soon.
void eventually(auto happened) {
  for (const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20); !happened() && std::chrono::steady_clock::now() < end;) std::this_thread::yield();
}

class Authentication : public testing::Test {
 protected:
  Fixture fixture;
  Recorder recorder;
  AuthenticationOptions options{.passwords = {.cost = 4}, .lockout = {.free_failures = 1000}, .administrators = {"ANN@example.com"},
                                .entry_timeout = std::chrono::milliseconds(50)};
  Lockout::Clock::time_point time = Lockout::Clock::now();
  std::unique_ptr<Tokens> tokens = Tokens::make(std::string(32, 'k'), options.token_options()).value();
  std::optional<AuthenticationService> service;
  core::User ann;

  void SetUp() override {
    core::User user;
    user.email = "Ann@example.com";
    user.first_name = "Ann";
    user.password_hash = fixture.hash("secret");
    ann = fixture.wait(fixture.users().insert(std::move(user), core::CallContext{})).value();
    fixture.add("off@example.com", fixture.hash("secret"), false);
    start();
  }
  void start() {
    stop();
    service.emplace(AuthenticationParts{.users = fixture.users(), .hasher = fixture.hasher, .policy = fixture.policy, .log = runtime::LogSink::none(),
                                        .metrics = fixture.metrics, .executor = fixture.shards.executor(0), .logger = &recorder, .tokens = tokens.get(),
                                        .now = [this] { return time; }},
                    options);
  }
  void stop() {
    if (service) fixture.shards.run([](AuthenticationService& s) -> core::awaitable<void> { co_await s.stop(); }(*service));
  }
  void TearDown() override { stop(); }
  core::Result<core::Reply> call(std::string action, core::Payload payload, std::string client = "192.0.2.1") {
    core::Request request;
    request.id = core::MessageId::generate();
    request.action = std::move(action);
    request.payload = std::move(payload);
    auto context = core::CallContext::with_timeout(std::chrono::seconds(30));
    context.client = std::move(client);
    return fixture.wait(service->handle(std::move(request), std::move(context)));
  }
  core::Result<core::Reply> log_in(std::string email, std::string password, std::string client = "192.0.2.1") {
    return call("auth", core::Credentials{std::move(email), std::move(password)}, std::move(client));
  }
  core::Result<core::Reply> me(std::string token) {
    runtime::JsonWriter json;
    return call("me.get", core::Json{json.begin_object().field("token", token).end_object().take()});
  }
  double counted(const char* name, const char* result) { return fixture.metrics.counter(name, "", {{"result", result}}).value(); }
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

TEST_F(Authentication, GuessesMustWaitLongerAndLonger) {
  using namespace std::chrono_literals;
  options.lockout = {.free_failures = 3, .first_delay = 1s, .max_delay = 4s};
  start();
  const auto refused = [&](std::string password, std::string client = "192.0.2.1") {
    auto reply = log_in("ann@example.com", std::move(password), std::move(client));
    return !reply && reply.error().message == "invalid credentials" && reply.error().kind == core::ErrorKind::unauthenticated;
  };
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(refused("wrong"));
  for (auto delay : {1s, 2s, 4s, 4s}) {
    time += delay - 1ms;
    const auto before = fixture.checks();
    EXPECT_TRUE(refused("secret")) << "the right one, too early";
    EXPECT_EQ(fixture.checks(), before + 1) << "after the same work";
    time += 1ms;
    EXPECT_TRUE(refused("wrong"));
  }
  EXPECT_EQ(counted("flexi_logins_total", "locked"), 4);
  EXPECT_EQ(counted("flexi_logins_total", "failed"), 7);
  EXPECT_TRUE(log_in("Ann@example.com", "secret", "198.51.100.7")) << "nobody else is locked out";
  EXPECT_TRUE(refused("secret"));
  time += 4s;
  EXPECT_TRUE(log_in("Ann@example.com", "secret"));
  EXPECT_TRUE(refused("wrong")) << "forgiven: it counts from the beginning";
  EXPECT_TRUE(log_in("Ann@example.com", "secret"));
}

TEST_F(Authentication, AnotherSpellingIsTheSameAccount) {
  options.lockout.free_failures = 2;
  start();
  EXPECT_FALSE(log_in("ann@example.com", "wrong"));
  EXPECT_FALSE(log_in("ANN@EXAMPLE.COM", "wrong"));
  EXPECT_FALSE(log_in("Ann@example.com", "secret")) << "locked out";
  EXPECT_EQ(counted("flexi_logins_total", "locked"), 1);
}

TEST_F(Authentication, ALoginRenewsAHashOfAnotherCost) {
  PasswordHasher other({.cost = 5, .threads = 1}, fixture.metrics);
  const auto old_hash = fixture.wait(other.hash("secret", core::CallContext{})).value();
  for (auto hash : {old_hash, Argon2Hash::of_nobody({1024, 1, 1}).to_string()}) {
    if (hash.starts_with("$argon2id")) hash = fixture.wait(PasswordHasher({.algorithm = "argon2id", .argon2_memory_kib = 1024, .argon2_iterations = 1, .threads = 1},
                                                                          fixture.metrics).hash("secret", core::CallContext{})).value();
    ASSERT_TRUE(fixture.wait(fixture.users().set_password_hash(ann.id, hash, core::CallContext{})));
    EXPECT_FALSE(log_in("Ann@example.com", "wrong"));
    EXPECT_EQ(fixture.wait(fixture.users().find(ann.id, core::CallContext{})).value().password_hash, hash) << "a wrong password renews nothing";
    ASSERT_TRUE(log_in("Ann@example.com", "secret"));
    std::string stored;
    eventually([&] { return (stored = fixture.wait(fixture.users().find(ann.id, core::CallContext{})).value().password_hash) != hash; });
    EXPECT_TRUE(stored.starts_with("$2b$04$")) << stored;
    EXPECT_TRUE(log_in("Ann@example.com", "secret"));
  }
  eventually([&] { return (void)fixture.wait(fixture.users().list(core::CallContext{})), fixture.metrics.counter("flexi_password_renewals_total", "").value() == 2; });
  EXPECT_EQ(fixture.metrics.counter("flexi_password_renewals_total", "").value(), 2);
}

/// A store whose writes of hashes fail, or come after somebody else's.
class StubbornStore final : public core::UserStore {
 public:
  explicit StubbornStore(core::UserStore& inner) : inner_(inner) {}
  std::string meanwhile{};  ///< set before the next renewal; empty: that fails
  std::atomic<int> tried{0};

  core::awaitable<core::Result<std::vector<core::User>>> list(core::CallContext c) override { return inner_.list(c); }
  core::awaitable<core::Result<core::User>> find_by_email(std::string email, core::CallContext c) override { return inner_.find_by_email(email, c); }
  core::awaitable<core::Result<core::User>> find(std::int64_t id, core::CallContext c) override { return inner_.find(id, c); }
  core::awaitable<core::Result<core::User>> insert(core::User user, core::CallContext c) override { return inner_.insert(user, c); }
  core::awaitable<core::Result<core::Restored>> restore(core::User user, core::CallContext c) override { return inner_.restore(user, c); }
  core::awaitable<core::Result<void>> update(core::User user, core::CallContext c) override { return inner_.update(user, c); }
  core::awaitable<core::Result<void>> set_password_hash(std::int64_t id, std::string hash, core::CallContext c) override { return inner_.set_password_hash(id, hash, c); }
  core::awaitable<core::Result<void>> remove(std::int64_t id, core::CallContext c) override { return inner_.remove(id, c); }
  core::awaitable<core::Result<void>> replace_password_hash(std::int64_t id, std::string expected, std::string hash, core::CallContext c) override {
    core::Result<void> result = core::unavailable("the disk is full");
    if (!meanwhile.empty()) {
      (void)co_await inner_.set_password_hash(id, meanwhile, c);
      result = co_await inner_.replace_password_hash(id, std::move(expected), std::move(hash), c);
    }
    ++tried;
    co_return result;
  }

 private:
  core::UserStore& inner_;
};

TEST_F(Authentication, ARenewalThatFailsOrComesLateHarmsNothing) {
  StubbornStore store(fixture.users());
  PasswordHasher other({.cost = 5, .threads = 1}, fixture.metrics);
  const auto old_hash = fixture.wait(other.hash("secret", core::CallContext{})).value();
  ASSERT_TRUE(fixture.wait(fixture.users().set_password_hash(ann.id, old_hash, core::CallContext{})));
  stop();
  service.emplace(AuthenticationParts{.users = store, .hasher = fixture.hasher, .policy = fixture.policy, .log = runtime::LogSink::none(), .metrics = fixture.metrics,
                                      .executor = fixture.shards.executor(0)},
                  options);
  const auto renewal = [&](int number) {
    eventually([&] { return (void)fixture.wait(fixture.users().list(core::CallContext{})), store.tried == number; });
    EXPECT_EQ(store.tried, number);
    return fixture.wait(fixture.users().find(ann.id, core::CallContext{})).value().password_hash;
  };
  EXPECT_TRUE(log_in("Ann@example.com", "secret"));
  EXPECT_EQ(renewal(1), old_hash);
  store.meanwhile = fixture.hash("changed by an administrator");
  EXPECT_TRUE(log_in("Ann@example.com", "secret"));
  EXPECT_EQ(renewal(2), store.meanwhile) << "the reset that came between wins";
}

TEST_F(Authentication, ALoginGetsATokenThatSaysWhoseItIs) {
  auto reply = log_in("Ann@example.com", "secret");
  ASSERT_TRUE(reply);
  ASSERT_FALSE(reply.value().token.empty());
  EXPECT_EQ(reply.value().data.find("token"), std::string::npos) << "the contract's data is the user alone";
  auto mine = me(reply.value().token);
  ASSERT_TRUE(mine) << mine.error().message;
  EXPECT_THAT(mine.value().data, HasSubstr("\"email\":\"Ann@example.com\""));
  EXPECT_THAT(mine.value().data, HasSubstr("\"administrator\":true"));
  fixture.add("bob@example.com", fixture.hash("secret"));
  EXPECT_THAT(me(log_in("bob@example.com", "secret").value().token).value().data, HasSubstr("\"administrator\":false"));
}

TEST_F(Authentication, ATokenOfNobodyWhoMayLogInIsWorthless) {
  const auto token = log_in("Ann@example.com", "secret").value().token;
  ann.active = false;
  ASSERT_TRUE(fixture.wait(fixture.users().update(ann, core::CallContext{})));
  const auto disabled = me(token);
  ann.active = true;
  ASSERT_TRUE(fixture.wait(fixture.users().update(ann, core::CallContext{})));
  EXPECT_TRUE(me(token));
  ASSERT_TRUE(fixture.wait(fixture.users().remove(ann.id, core::CallContext{})));
  const auto deleted = me(token);
  const auto forged = me(Tokens::make(std::string(32, 'x'), options.token_options()).value()->issue(ann, std::chrono::system_clock::now()).value());
  for (auto* refused : {&disabled, &deleted, &forged}) {
    ASSERT_FALSE(*refused);
    EXPECT_EQ(refused->error().kind, core::ErrorKind::unauthenticated);
    EXPECT_EQ(refused->error().message, disabled.error().message);
  }
  EXPECT_EQ(call("me.get", core::Json{}).error().kind, core::ErrorKind::unauthenticated);
  EXPECT_EQ(call("me.get", core::Json{R"({"token":7})"}).error().kind, core::ErrorKind::invalid_argument);
}

TEST_F(Authentication, WithoutAKeyThereAreNoTokens) {
  const auto token = log_in("Ann@example.com", "secret").value().token;
  tokens.reset();
  start();
  EXPECT_EQ(log_in("Ann@example.com", "secret").value().token, "");
  EXPECT_THAT(me(token).error().message, HasSubstr("token_key_file"));
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

TEST(AuthenticationOptions, NameEveryProblem) {
  EXPECT_TRUE(AuthenticationOptions{}.validate().empty());
  AuthenticationOptions wrong{.min_password_length = 7, .token_lifetime = std::chrono::seconds(1), .token_issuer = "", .administrators = {"a@b", "nobody"}};
  std::string paths;
  for (auto& problem : wrong.validate()) paths += problem.path + " ";
  EXPECT_EQ(paths, "min_password_length token_lifetime token_issuer administrators ");
}

TEST(AuthenticationOptions, SayThatArgon2idDoesNotFitTheContractsTable) {
  AuthenticationOptions options;
  EXPECT_TRUE(options.validate_for_contract_table().empty());
  options.passwords.algorithm = "argon2id";
  ASSERT_EQ(options.validate_for_contract_table().size(), 1u);
  EXPECT_EQ(options.validate_for_contract_table()[0].path, "passwords.algorithm");
  for (auto word : {"varchar(60)", "schemas/postgres/optional/widen_password.sql", "wide_password_column"})
    EXPECT_THAT(options.validate_for_contract_table()[0].message, HasSubstr(word));
  options.wide_password_column = true;
  EXPECT_TRUE(options.validate_for_contract_table().empty());
}

TEST_F(Authentication, KnowsNoOtherAction) {
  EXPECT_EQ(call("log", core::LogEntry{"a", "b"}).error().kind, core::ErrorKind::unimplemented);
  EXPECT_EQ(call("auth", core::Json{}).error().kind, core::ErrorKind::invalid_argument);
}

}  // namespace
}  // namespace flexi::services::authentication
