// SPDX-License-Identifier: Apache-2.0
#include "services/mail/mail_service.hpp"

#include <gtest/gtest.h>

#include "core/timestamp.hpp"
#include "runtime/json.hpp"
#include "runtime/shards.hpp"

namespace flexi::services::mail {
namespace {

using namespace std::chrono_literals;
using core::ErrorKind;

/// Mailer and Mailbox in memory.
class MemoryMailbox final : public core::Mailer, public core::Mailbox {
 public:
  core::awaitable<core::Result<core::Delivered>> deliver(core::RenderedMail mail, core::CallContext) override {
    if (failure) co_return *failure;
    for (auto& known : mails)
      if (known.id == mail.id) co_return core::Delivered::duplicate;
    mails.push_back(std::move(mail));
    co_return core::Delivered::sent;
  }
  core::awaitable<core::Result<core::MailPage>> list(unsigned limit, std::string cursor, core::CallContext) override {
    if (!cursor.empty() && cursor != "2") co_return core::invalid_argument("bad cursor");
    core::MailPage page;
    for (auto& mail : mails)
      if (page.mails.size() < limit) page.mails.push_back(mail);
    page.next = mails.size() > limit ? "2" : "";
    co_return page;
  }
  core::awaitable<core::Result<core::RenderedMail>> get(core::MessageId id, core::CallContext) override {
    for (auto& mail : mails)
      if (mail.id == id) co_return mail;
    co_return core::not_found("no such mail");
  }
  core::awaitable<core::Result<void>> remove(core::MessageId id, core::CallContext) override {
    if (std::erase_if(mails, [&](auto& mail) { return mail.id == id; }) == 0) co_return core::not_found("no such mail");
    co_return core::ok();
  }
  core::awaitable<core::Result<core::KnownIds>> known(std::vector<core::MessageId> ids, core::CallContext) override {
    core::KnownIds known;
    for (auto& id : ids)
      for (auto& mail : mails)
        if (mail.id == id) known.ids.push_back(id);
    co_return known;
  }
  std::vector<core::RenderedMail> mails;
  std::optional<core::Error> failure;
};

/// A logger that stores, fails, throws or never answers.
class MemoryLogger final : public core::Handler {
 public:
  enum class Mood { stores, fails, throws, hangs };
  core::awaitable<core::Result<core::Reply>> handle(core::Request request, core::CallContext given) override {
    context = given;
    if (mood == Mood::fails) co_return core::unavailable("disk full");
    if (mood == Mood::throws) throw std::runtime_error("bug");
    if (mood == Mood::hangs) {
      boost::asio::steady_timer never(co_await boost::asio::this_coro::executor, boost::asio::steady_timer::time_point::max());
      co_await never.async_wait(boost::asio::use_awaitable);
    }
    requests.push_back(std::move(request));
    co_return core::Reply{.message = "logged"};
  }
  Mood mood = Mood::stores;
  core::CallContext context;
  std::vector<core::Request> requests;
};

class MailServiceTest : public testing::Test {
 protected:
  void SetUp() override {
    options_.entry_timeout = 50ms;
    make();
  }
  void TearDown() override { shards_.join(); }
  void make() { service_ = MailService::make(options_, ports_, runtime::LogSink::none()).value(); }

  core::Result<core::Reply> call(core::Request request) {
    std::optional<core::Result<core::Reply>> result;
    auto context = core::CallContext::with_timeout(20s);
    context.trace = core::TraceContext::from_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    context.hops = "broker@1795000000000000";
    shards_.run([](core::Handler& handler, core::Request r, core::CallContext c, auto& out) -> core::awaitable<void> {
      out.emplace(co_await handler.handle(std::move(r), std::move(c)));
    }(*service_, std::move(request), std::move(context), result));
    return std::move(*result);
  }
  core::Result<core::Reply> send(core::Mail mail, std::string id = "id-1") {
    core::Request request;
    request.id = core::MessageId::parse(id).value();
    request.action = "mail";
    request.payload = std::move(mail);
    request.accepted_at = core::parse_rfc3339("2026-11-24T01:19:36Z").value();
    return call(std::move(request));
  }
  core::Result<core::Reply> administer(std::string action, std::string params) {
    core::Request request;
    request.id = core::MessageId::generate();
    request.action = std::move(action);
    request.payload = core::Json{std::move(params)};
    return call(std::move(request));
  }
  static core::Mail mail() { return {"me@example.com", "you@example.com", "Hi", "Hello <b>you</b>"}; }

  runtime::Shards shards_{1};
  MemoryMailbox mailbox_, smtp_;
  MemoryLogger logger_;
  MailOptions options_;
  MailPorts ports_{&mailbox_, &mailbox_, &smtp_, &logger_};
  std::unique_ptr<MailService> service_;
};

TEST_F(MailServiceTest, LongMailsAreRenderedApartAndWithinALimit) {
  core::Mail mail{.from = "", .to = "a@example.com", .subject = "long", .message = std::string(MailService::kLongMessageBytes, 'x')};
  ASSERT_TRUE(send(mail));
  EXPECT_NE(mailbox_.mails.at(0).plain.find(mail.message), std::string::npos);
  options_.render_queue = 0;  // nothing may wait, so whatever takes the pool is refused
  make();
  const auto refused = send(mail, "id-2");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::overloaded);
  EXPECT_EQ(refused.error().sent, core::Sent::no);
  EXPECT_TRUE(refused.error().retry_after);
  mail.message.pop_back();
  EXPECT_TRUE(send(mail, "id-3")) << "a short one takes no detour";
}

TEST_F(MailServiceTest, SendsAndLeavesOneEntry) {
  auto reply = send(mail());
  ASSERT_TRUE(reply) << reply.error().message;
  EXPECT_EQ(reply.value().message, "sent to you@example.com");
  EXPECT_TRUE(reply.value().data.empty());
  ASSERT_EQ(mailbox_.mails.size(), 1u);
  const auto& sent = mailbox_.mails[0];
  EXPECT_EQ(sent.from, "me@example.com");
  EXPECT_EQ(sent.to, std::vector<std::string>{"you@example.com"});
  EXPECT_EQ(sent.plain, "Hello <b>you</b>\n");
  EXPECT_NE(sent.html.find("Hello &lt;b&gt;you&lt;/b&gt;"), std::string::npos);
  EXPECT_NE(sent.mime.find("Message-ID: <id-1@localhost>\r\n"), std::string::npos);
  EXPECT_NE(sent.mime.find("Date: Tue, 24 Nov 2026 01:19:36 +0000\r\n"), std::string::npos);
  ASSERT_EQ(logger_.requests.size(), 1u);
  EXPECT_EQ(logger_.requests[0].action, "log");
  EXPECT_EQ(std::get<core::LogEntry>(logger_.requests[0].payload).name, "mail");
  EXPECT_EQ(std::get<core::LogEntry>(logger_.requests[0].payload).data, "sent to you@example.com: Hi");
}

TEST_F(MailServiceTest, TheMailAndItsEntryKeepTheTraceOfTheirRequest) {
  ASSERT_TRUE(send(mail()));
  ASSERT_EQ(mailbox_.mails.size(), 1u);
  EXPECT_EQ(core::to_string(mailbox_.mails[0].trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
  EXPECT_TRUE(mailbox_.mails[0].hops.starts_with("broker@1795000000000000 mail@")) << mailbox_.mails[0].hops;
  EXPECT_EQ(core::to_string(logger_.context.trace.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
  EXPECT_TRUE(logger_.context.hops.starts_with("mail@")) << "a message of its own";
  auto shown = administer("mails.get", R"({"id":"id-1"})").value().data;
  EXPECT_NE(shown.find(R"("trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","hops":[{"at":"broker","time":"2026-11-18T11:06:40.000000Z"},{"at":"mail",)"), shown.npos) << shown;
  EXPECT_NE(shown.find("\"html\""), shown.npos);
  auto brief = administer("mails.get", R"({"id":"id-1","brief":true})").value().data;
  EXPECT_EQ(brief.find("\"html\""), brief.npos) << brief;
}

TEST_F(MailServiceTest, TheSameRequestAgainIsADuplicateWithTheSameEntry) {
  ASSERT_TRUE(send(mail()));
  auto again = send(mail());
  ASSERT_TRUE(again);
  EXPECT_TRUE(again.value().duplicate);
  ASSERT_EQ(logger_.requests.size(), 2u);
  EXPECT_EQ(logger_.requests[0].id, logger_.requests[1].id) << "the logger can tell that it has this entry";
  EXPECT_NE(logger_.requests[0].id.str(), "id-1");
}

TEST_F(MailServiceTest, TheEntryFailingNeverFailsTheMail) {
  for (auto mood : {MemoryLogger::Mood::fails, MemoryLogger::Mood::throws, MemoryLogger::Mood::hangs}) {
    logger_.mood = mood;
    EXPECT_TRUE(send(mail(), "id-" + std::to_string(static_cast<int>(mood))));
  }
  EXPECT_EQ(mailbox_.mails.size(), 3u);
  ports_.logger = nullptr;
  make();
  EXPECT_TRUE(send(mail(), "without"));
}

TEST_F(MailServiceTest, WithoutFromTheConfiguredSenderIsUsed) {
  auto anonymous = mail();
  anonymous.from.clear();
  ASSERT_TRUE(send(anonymous, "a"));
  EXPECT_EQ(mailbox_.mails[0].from, "noreply@localhost");
  options_.from_address = "team@example.com";
  options_.from_name = "The Team";
  make();
  ASSERT_TRUE(send(anonymous, "b"));
  EXPECT_EQ(mailbox_.mails[1].from, "team@example.com");
  EXPECT_NE(mailbox_.mails[1].mime.find("From: The Team <team@example.com>\r\n"), std::string::npos);
}

TEST_F(MailServiceTest, BadFieldsAreNamed) {
  auto expect_bad = [&](core::Mail bad, const char* field) {
    auto reply = send(std::move(bad));
    ASSERT_FALSE(reply) << field;
    EXPECT_EQ(reply.error().kind, ErrorKind::invalid_argument);
    EXPECT_EQ(reply.error().message.rfind(field, 0), 0u) << reply.error().message;
  };
  auto m = mail();
  m.to = "";
  expect_bad(m, "to");
  m.to = "you@example.com\r\nBcc: all@example.com";
  expect_bad(m, "to");
  m = mail();
  m.from = "me@example.com\nX: y";
  expect_bad(m, "from");
  m = mail();
  m.subject = "Hi\r\nBcc: all@example.com";
  expect_bad(m, "subject");
  m.subject = std::string("a\0b", 3);
  expect_bad(m, "subject");
  m.subject = std::string(999, 'x');
  expect_bad(m, "subject");
  m.subject = "\xc3";
  expect_bad(m, "subject");
  m = mail();
  m.message = std::string("a\0b", 3);
  expect_bad(m, "message");
  m.message = std::string((1u << 20) + 1, 'x');
  expect_bad(m, "message");
  EXPECT_TRUE(mailbox_.mails.empty());
  EXPECT_TRUE(logger_.requests.empty());
}

TEST_F(MailServiceTest, TheBiggestMessageAndEmptyOnesAreSent) {
  auto m = mail();
  m.message = std::string(1u << 20, '"');  // six bytes each when escaped
  EXPECT_TRUE(send(m, "big"));
  m.message.clear();
  m.subject.clear();
  EXPECT_TRUE(send(m, "empty"));
}

TEST_F(MailServiceTest, AMailersErrorIsTheReply) {
  mailbox_.failure = core::unavailable("full");
  auto reply = send(mail());
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().kind, ErrorKind::unavailable);
  EXPECT_TRUE(logger_.requests.empty());
}

TEST_F(MailServiceTest, ListsAndShows) {
  ASSERT_TRUE(send(mail(), "a"));
  ASSERT_TRUE(send(mail(), "b"));
  auto list = administer("mails.list", R"({"limit":"1"})").value();
  EXPECT_EQ(list.message, "ok");
  EXPECT_EQ(list.next, "2");
  EXPECT_EQ(list.data, R"([{"id":"a","from":"me@example.com","to":["you@example.com"],"subject":"Hi","created_at":"2026-11-24T01:19:36.000000Z"}])");
  auto shown = runtime::JsonObject::parse(administer("mails.get", R"({"id":"b"})").value().data).value();
  EXPECT_EQ(shown.required_string("plain").value(), mailbox_.mails[1].plain);
  EXPECT_EQ(shown.required_string("html").value(), mailbox_.mails[1].html);
  EXPECT_EQ(shown.required_string("source").value(), mailbox_.mails[1].mime);
  for (const char* bad : {R"({"limit":0})", R"({"limit":501})", R"({"limit":"x"})", R"({"cursor":"?"})", "[]"})
    EXPECT_EQ(administer("mails.list", bad).error().kind, ErrorKind::invalid_argument) << bad;
  EXPECT_EQ(administer("mails.get", R"({"id":"zz"})").error().kind, ErrorKind::not_found);
  EXPECT_EQ(administer("mails.get", "{}").error().kind, ErrorKind::invalid_argument);
}

TEST_F(MailServiceTest, SaysWhichMailsItHas) {
  ASSERT_TRUE(send(mail(), "a"));
  EXPECT_EQ(administer("mails.known", R"({"ids":["b","a"]})").value().data, R"({"known":["a"]})");
  EXPECT_EQ(administer("mails.known", R"({"ids":"a"})").error().kind, ErrorKind::invalid_argument);
}

TEST_F(MailServiceTest, Deletes) {
  ASSERT_TRUE(send(mail(), "a"));
  EXPECT_EQ(administer("mails.delete", R"({"id":"a"})").value().message, "deleted");
  EXPECT_EQ(administer("mails.delete", R"({"id":"a"})").error().kind, ErrorKind::not_found);
}

TEST_F(MailServiceTest, ReleasesTheStoredBytes) {
  ASSERT_TRUE(send(mail(), "a"));
  EXPECT_EQ(administer("mails.release", R"({"id":"a"})").value().message, "released to you@example.com");
  EXPECT_EQ(smtp_.mails.at(0).mime, mailbox_.mails[0].mime);
  smtp_.mails.clear();
  EXPECT_EQ(administer("mails.release", R"({"id":"a","to":"Me <other@example.com>"})").value().message, "released to other@example.com");
  EXPECT_EQ(smtp_.mails.at(0).to, std::vector<std::string>{"other@example.com"});
  EXPECT_EQ(smtp_.mails.at(0).mime, mailbox_.mails[0].mime);
  EXPECT_EQ(administer("mails.release", R"({"id":"a","to":"x\r\nRCPT"})").error().kind, ErrorKind::invalid_argument);
  EXPECT_EQ(administer("mails.release", R"({"id":"zz"})").error().kind, ErrorKind::not_found);
  smtp_.failure = core::invalid_argument("the SMTP server refused the mail: 550 no");
  EXPECT_EQ(administer("mails.release", R"({"id":"a"})").error().message, "the SMTP server refused the mail: 550 no");
}

TEST_F(MailServiceTest, WhatTheDeploymentLacksIsUnimplemented) {
  ports_.smtp = nullptr;
  make();
  auto released = administer("mails.release", R"({"id":"a"})");
  EXPECT_EQ(released.error().kind, ErrorKind::unimplemented);
  EXPECT_EQ(released.error().message, "no SMTP server is configured: set MAIL_HOST");
  ports_.mailbox = nullptr;
  make();
  for (const char* action : {"mails.list", "mails.get", "mails.known", "mails.delete", "mails.release", "users.list", "nonsense"})
    EXPECT_EQ(administer(action, R"({"id":"a"})").error().kind, ErrorKind::unimplemented) << action;
}

}  // namespace
}  // namespace flexi::services::mail
