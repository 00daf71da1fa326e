// SPDX-License-Identifier: Apache-2.0
#include "services/mail/mail_service.hpp"

#include <gtest/gtest.h>

#include <set>

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

/// What SMTP took, in memory: read only.
class MemorySent final : public core::SentMails {
 public:
  core::awaitable<core::Result<core::MailClaim>> claim(core::SentMail, std::chrono::milliseconds, core::CallContext) override { co_return core::MailClaim{}; }
  core::awaitable<core::Result<void>> sent(core::MessageId, std::int64_t, core::CallContext) override { co_return core::ok(); }
  core::awaitable<core::Result<void>> release(core::MessageId, std::int64_t, core::CallContext) override { co_return core::ok(); }
  core::awaitable<core::Result<core::SentMailPage>> list(unsigned, std::string, core::CallContext) override { co_return core::SentMailPage{mails, "next"}; }
  core::awaitable<core::Result<core::SentMail>> get(core::MessageId id, core::CallContext) override {
    for (auto& mail : mails)
      if (mail.id == id) co_return mail;
    co_return core::not_found("no such mail");
  }
  core::awaitable<core::Result<core::KnownIds>> known(std::vector<core::MessageId>, core::CallContext) override {
    core::KnownIds known;
    for (auto& mail : mails) known.ids.push_back(mail.id);
    co_return known;
  }
  std::vector<core::SentMail> mails;
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

TEST_F(MailServiceTest, AMailGoesToAllOfItsRecipientsAndNamesNoBlindOne) {
  auto m = mail();
  m.to = "you@example.com, Ann <ann@example.com>";
  m.cc = "cc@example.com, ann@example.com";
  m.bcc = "secret@example.com";
  m.reply_to = "Answers <re@example.com>";
  m.attachments = {{"a b.txt", "text/plain", "bytes"}};
  ASSERT_TRUE(send(m));
  const auto& sent = mailbox_.mails.at(0);
  EXPECT_EQ(sent.to, (std::vector<std::string>{"you@example.com", "ann@example.com", "cc@example.com", "secret@example.com"})) << "each once";
  EXPECT_NE(sent.mime.find("\r\nCc: cc@example.com,\r\n ann@example.com\r\n"), std::string::npos) << sent.mime;
  EXPECT_NE(sent.mime.find("\r\nReply-To: Answers <re@example.com>\r\n"), std::string::npos);
  EXPECT_NE(sent.mime.find("filename=\"a b.txt\""), std::string::npos);
  EXPECT_EQ(sent.mime.find("secret"), std::string::npos);
  EXPECT_EQ(std::get<core::LogEntry>(logger_.requests.at(0).payload).data.find("secret"), std::string::npos);
  // What makes another mail of it.
  std::set<std::string> payloads;
  for (auto change : {+[](core::Mail&) {}, +[](core::Mail& x) { x.bcc.clear(); }, +[](core::Mail& x) { x.attachments[0].content = "Bytes"; },
                      +[](core::Mail& x) { x.attachments.push_back({"c", "", ""}); }, +[](core::Mail& x) { x.cc.swap(x.bcc); }}) {
    auto other = m;
    change(other);
    ASSERT_TRUE(send(other, "p" + std::to_string(payloads.size())));
    payloads.insert(mailbox_.mails.back().payload);
  }
  EXPECT_EQ(payloads.size(), 5u);
}

TEST_F(MailServiceTest, WhatGoesWithAMailIsChecked) {
  const auto with = [](auto change) {
    auto m = mail();
    change(m);
    return m;
  };
  const auto field = [&](core::Mail m) {
    auto refused = send(m);
    EXPECT_FALSE(refused);
    EXPECT_FALSE(check_mail(core::Payload(m))) << "a broker says so at once";
    return refused ? std::string("sent") : refused.error().message;
  };
  EXPECT_NE(field(with([](auto& m) { m.cc = "a@example.com\r\nX: y"; })).find("cc must not contain line breaks"), std::string::npos);
  EXPECT_NE(field(with([](auto& m) { m.bcc = "nobody"; })).find("bcc: 'nobody'"), std::string::npos);
  EXPECT_NE(field(with([](auto& m) { m.reply_to = "a@b.c, d@e.f"; })).find("reply_to"), std::string::npos);
  EXPECT_NE(field(with([](auto& m) { m.reply_to = "ü@b.c"; })).find("reply_to: the part before @ must be ASCII"), std::string::npos);
  std::string many = "a@b";
  for (std::size_t i = 1; i < kMaxRecipients; ++i) many += ",a@b";
  EXPECT_NE(field(with([&](auto& m) { m.cc = many; })).find("at most 100 addresses together"), std::string::npos);
  EXPECT_NE(field(with([](auto& m) { m.template_name = "../x"; })).find("template"), std::string::npos);
  EXPECT_NE(field(with([](auto& m) { m.data = "{\"a b\":1}"; })).find("data: 'a b'"), std::string::npos);
  EXPECT_NE(field(with([](auto& m) { m.attachments.assign(21, {"a", "", ""}); })).find("at most 20 files"), std::string::npos);
  const auto attached = [&](core::Attachment a) { return field(with([&](auto& m) { m.attachments = {{"ok", "", ""}, a}; })); };
  for (auto name : {"", "/etc/passwd", "..\\x", "..", ".", "a\tb", "a\x7f"}) EXPECT_EQ(attached({name, "", ""}), "attachments[1].name must be a file's name, without a path") << name;
  EXPECT_EQ(attached({"a\r\nX: y", "", ""}), "attachments[1].name must not contain line breaks or NUL");
  for (auto type : {"text", "text/", "/plain", "text/plain\r\nX: y", "text/pl ain", "text/plain;", "text/plain; x", "text/plain; a=b;c", "text/plain; a=\"b\""})
    EXPECT_EQ(attached({"a", type, ""}), "attachments[1].content_type must be one, e.g. application/pdf") << type;
  EXPECT_NE(attached({"a", "Message/rfc822", ""}).find("must not be message/"), std::string::npos);
  EXPECT_TRUE(send(with([](auto& m) { m.attachments = {{"a", "text/plain; charset=utf-8; format=flowed", ""}}; })));
}

TEST_F(MailServiceTest, AnUnknownTemplateIsNamedByTheService) {
  auto m = mail();
  m.template_name = "welcome";
  EXPECT_TRUE(check_mail(core::Payload(m))) << "only the mail service knows its templates";
  auto refused = send(m);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::invalid_argument);
  EXPECT_EQ(refused.error().message, "there is no such template here; there are: mail");
}

TEST_F(MailServiceTest, WhereMailsGoBySmtpTheLedgerAnswers) {
  MemorySent sent;
  core::SentMail one;
  one.id = core::MessageId::parse("one").value();
  one.from = "me@example.com", one.to = {"you@example.com"}, one.subject = "Hi";
  one.accepted_at = core::parse_rfc3339("2026-11-24T01:19:36Z").value(), one.at = one.accepted_at + 2s;
  one.attempts = 2, one.state = core::SentMail::State::sent, one.via = core::Via::amqp, one.duplicates = 1;
  sent.mails = {one};
  ports_.sent = &sent;
  make();
  ASSERT_TRUE(send(mail(), "caught"));
  const std::string summary = R"("id":"one","from":"me@example.com","to":["you@example.com"],"subject":"Hi","created_at":"2026-11-24T01:19:36.000000Z",)"
                              R"("state":"sent","updated_at":"2026-11-24T01:19:38.000000Z","attempts":2)";
  const auto list = administer("mails.list", "{}").value();
  EXPECT_EQ(list.data, "[{" + summary + "}]");
  EXPECT_EQ(list.next, "next");
  EXPECT_EQ(administer("mails.get", R"({"id":"one","brief":true})").value().data, "{" + summary + R"(,"way":"amqp","duplicates":1})");
  EXPECT_EQ(administer("mails.get", R"({"id":"zz"})").error().kind, ErrorKind::not_found);
  EXPECT_NE(administer("mails.get", R"({"id":"caught"})").value().data.find("\"source\""), std::string::npos) << "what was caught before is still there";
  EXPECT_EQ(administer("mails.known", R"({"ids":["one","caught"]})").value().data, R"({"known":["one","caught"]})");
  for (const char* action : {"mails.delete", "mails.release"}) {
    auto refused = administer(action, R"({"id":"one"})");
    EXPECT_EQ(refused.error().kind, ErrorKind::unimplemented) << action;
    EXPECT_NE(refused.error().message.find("mails go by SMTP here and no copy is kept"), std::string::npos);
  }
  EXPECT_TRUE(administer("mails.release", R"({"id":"caught"})"));
  EXPECT_TRUE(administer("mails.delete", R"({"id":"caught"})"));
  ports_.mailbox = nullptr;
  make();
  EXPECT_EQ(administer("mails.delete", R"({"id":"one"})").error().kind, ErrorKind::unimplemented);
  EXPECT_EQ(administer("mails.known", R"({"ids":["one"]})").value().data, R"({"known":["one"]})");
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
