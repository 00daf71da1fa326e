// SPDX-License-Identifier: Apache-2.0
// Against aiosmtpd, which each case starts on a free port.
#include <gtest/gtest.h>
#include <boost/asio/ip/tcp.hpp>

#include "mailers/smtp/smtp_mailer.hpp"
#include "mailers/smtp/smtp_test_server.hpp"
#include "runtime/shards.hpp"

namespace flexi::mailers::smtp {
namespace {

using namespace std::chrono_literals;

core::RenderedMail mail_to(std::string to) {
  core::RenderedMail mail;
  mail.id = core::MessageId::generate();
  mail.from = "from@example.com";
  mail.to = {std::move(to)};
  mail.mime = "From: from@example.com\r\nSubject: x\r\n\r\nfirst\r\n.\r\n..two dots\r\nlast\r\n";
  return mail;
}

SmtpOptions options_for(std::int64_t port) {
  SmtpOptions options;
  options.host = "127.0.0.1";
  options.port = port;
  options.connections = 1;
  return options;
}

core::Result<core::Delivered> deliver(core::Mailer& mailer, core::RenderedMail mail, std::chrono::milliseconds timeout = 20s) {
  // Never destroyed: a mailer's thread may still be on its way out of its last post.
  static auto& shards = *new runtime::Shards(1);
  std::optional<core::Result<core::Delivered>> result;
  shards.run([](core::Mailer& m, core::RenderedMail r, core::CallContext context, auto& out) -> core::awaitable<void> {
    out.emplace(co_await m.deliver(std::move(r), std::move(context)));
  }(mailer, std::move(mail), core::CallContext::with_timeout(timeout), result));
  return *result;
}

TEST(Smtp, SendsTheVeryBytesAndKeepsTheConnection) {
  TestServer server;
  auto mailer = make_smtp_mailer(options_for(server.port()));
  for (int i = 0; i < 3; ++i) {
    auto mail = mail_to("to@example.com");
    mail.to.push_back("second@example.com");
    auto delivered = deliver(*mailer, mail);
    ASSERT_TRUE(delivered) << delivered.error().message << " " << delivered.error().detail;
    EXPECT_EQ(delivered.value(), core::Delivered::sent);
    auto got = server.next();
    EXPECT_EQ(got.required_string("content").value(), mail.mime);
    EXPECT_EQ(got.required_string("mail_from").value(), "from@example.com");
    EXPECT_EQ(got.integer("connections").value(), 1);
  }
}

TEST(Smtp, ARefusedRecipientIsInvalidWithTheServersWords) {
  TestServer server;
  auto mailer = make_smtp_mailer(options_for(server.port()));
  auto delivered = deliver(*mailer, mail_to("refuse@example.com"));
  ASSERT_FALSE(delivered);
  EXPECT_EQ(delivered.error().kind, core::ErrorKind::invalid_argument);
  EXPECT_NE(delivered.error().message.find("550 5.1.1 no such user here"), std::string::npos) << delivered.error().message;
  EXPECT_EQ(delivered.error().sent, core::Sent::no);
  EXPECT_TRUE(deliver(*mailer, mail_to("to@example.com"))) << "a refusal must not spoil the next mail";
}

TEST(Smtp, ARefusalBehindTheDataIsInvalidToo) {
  TestServer server;
  auto mailer = make_smtp_mailer(options_for(server.port()));
  auto delivered = deliver(*mailer, mail_to("spam@example.com"));
  ASSERT_FALSE(delivered);
  EXPECT_EQ(delivered.error().kind, core::ErrorKind::invalid_argument);
  EXPECT_NE(delivered.error().message.find("looks like spam"), std::string::npos) << delivered.error().message;
  EXPECT_EQ(delivered.error().sent, core::Sent::no);
}

TEST(Smtp, AMailThatIsPutOffIsUnavailableAndAnAttempt) {
  TestServer server;
  auto mailer = make_smtp_mailer(options_for(server.port()));
  auto delivered = deliver(*mailer, mail_to("defer@example.com"));
  ASSERT_FALSE(delivered);
  EXPECT_EQ(delivered.error().kind, core::ErrorKind::unavailable);
  EXPECT_NE(delivered.error().message.find("451"), std::string::npos) << delivered.error().message;
  EXPECT_FALSE(core::is_untaken(delivered.error())) << "it is this mail that is not wanted now";
  EXPECT_TRUE(delivered.error().retry_after);
}

TEST(Smtp, ACutBehindTheLastByteMayHaveSent) {
  TestServer server;
  auto mailer = make_smtp_mailer(options_for(server.port()));
  auto delivered = deliver(*mailer, mail_to("dropdata@example.com"));
  ASSERT_FALSE(delivered);
  EXPECT_EQ(delivered.error().kind, core::ErrorKind::unavailable);
  EXPECT_EQ(delivered.error().sent, core::Sent::maybe);
}

TEST(Smtp, WhenADeferredMailComesAgainIsASetting) {
  TestServer server;
  auto options = options_for(server.port());
  options.deferred_retry = 1234ms;
  EXPECT_EQ(deliver(*make_smtp_mailer(options), mail_to("defer@example.com")).error().retry_after, 1234ms);
}

// Source: RFC 6531
TEST(Smtp, AnAddressBeyondAsciiGoesWhereTheServerTakesIt) {
  TestServer knows({"--utf8"});
  auto mailer = make_smtp_mailer(options_for(knows.port()));
  auto international = mail_to("ü@example.com");
  for (int i = 0; i < 3; ++i) {
    auto delivered = deliver(*mailer, i == 1 ? mail_to("to@example.com") : international);
    ASSERT_TRUE(delivered) << delivered.error().message << " " << delivered.error().detail;
    auto got = knows.next();
    EXPECT_EQ(got.boolean("utf8").value(), i != 1);
    if (i != 1) EXPECT_EQ(got.strings("rcpt_tos").value()->at(0), "ü@example.com");
    EXPECT_EQ(got.integer("connections").value(), 1) << "that the server takes it is known of a kept connection";
  }
  auto from = mail_to("to@example.com");
  from.from = "ö@example.com";
  EXPECT_TRUE(deliver(*mailer, from));
  EXPECT_EQ(knows.next().required_string("mail_from").value(), "ö@example.com");

  TestServer without;
  auto other = make_smtp_mailer(options_for(without.port()));
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(deliver(*other, mail_to("to@example.com")));
    auto refused = deliver(*other, international);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, core::ErrorKind::invalid_argument);
    EXPECT_NE(refused.error().message.find("SMTPUTF8"), std::string::npos) << refused.error().message;
    EXPECT_EQ(refused.error().sent, core::Sent::no);
  }
}

TEST(Smtp, LogsInAndReportsARefusedLogin) {
  TestServer server({"--auth"});
  auto options = options_for(server.port());
  options.username = "user";
  options.password = "secret";
  EXPECT_TRUE(deliver(*make_smtp_mailer(options), mail_to("to@example.com")));
  options.password = "wrong";
  auto refused = deliver(*make_smtp_mailer(options), mail_to("to@example.com"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, core::ErrorKind::unavailable);
  EXPECT_EQ(refused.error().message, "the SMTP server refused the login");
  EXPECT_NE(refused.error().detail.find("535"), std::string::npos) << refused.error().detail;
  EXPECT_EQ(refused.error().detail.find("wrong"), std::string::npos) << "a password must not reach the log";

  auto without = deliver(*make_smtp_mailer(options_for(server.port())), mail_to("to@example.com"));
  ASSERT_FALSE(without);
  EXPECT_EQ(without.error().kind, core::ErrorKind::unavailable) << "the mail can't help that the login is missing";
}

TEST(Smtp, WantsTheEncryptionItWasToldToUse) {
  TestServer server;  // speaks no TLS
  for (const char* encryption : {"tls", "ssl"}) {
    auto options = options_for(server.port());
    options.encryption = encryption;
    options.connect_timeout = 500ms;
    auto delivered = deliver(*make_smtp_mailer(options), mail_to("to@example.com"));
    ASSERT_FALSE(delivered) << encryption;
    EXPECT_EQ(delivered.error().kind, core::ErrorKind::unavailable) << encryption;
    EXPECT_EQ(delivered.error().sent, core::Sent::no) << encryption;
  }
}

TEST(Smtp, AnAbsentServerIsUnavailableAndItsReturnHeals) {
  boost::asio::io_context io;
  std::int64_t free_port = 0;
  {
    boost::asio::ip::tcp::acceptor acceptor(io, {boost::asio::ip::address_v4::loopback(), 0});
    free_port = acceptor.local_endpoint().port();
  }
  auto delivered = deliver(*make_smtp_mailer(options_for(free_port)), mail_to("to@example.com"));
  ASSERT_FALSE(delivered);
  EXPECT_EQ(delivered.error().kind, core::ErrorKind::unavailable);
  EXPECT_EQ(delivered.error().message, "the SMTP server can't be reached");
  EXPECT_EQ(delivered.error().sent, core::Sent::no);
}

TEST(Smtp, AFrozenServerIsUnavailableBelowTheDeadline) {
  boost::asio::io_context io;
  boost::asio::ip::tcp::acceptor silent(io, {boost::asio::ip::address_v4::loopback(), 0});  // accepts by backlog, never speaks
  auto mailer = make_smtp_mailer(options_for(silent.local_endpoint().port()));
  const auto begin = std::chrono::steady_clock::now();
  auto delivered = deliver(*mailer, mail_to("to@example.com"), 500ms);
  mailer.reset();
  ASSERT_FALSE(delivered);
  EXPECT_EQ(delivered.error().kind, core::ErrorKind::unavailable);
  EXPECT_EQ(delivered.error().sent, core::Sent::no);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 5s);
}

TEST(Smtp, AnAnswerThatComesTooLateIsNotTakenForTheNextMails) {
  TestServer server({"--delay", "0.6"});
  auto mailer = make_smtp_mailer(options_for(server.port()));
  auto late = deliver(*mailer, mail_to("first@example.com"), 400ms);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().sent, core::Sent::maybe);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_TRUE(deliver(*mailer, mail_to("second@example.com")));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 10s);
  auto second = server.next();  // aiosmtpd drops what it was taking when its connection goes
  EXPECT_EQ(second.strings("rcpt_tos").value()->at(0), "second@example.com");
  EXPECT_EQ(second.integer("connections").value(), 2);
}

TEST(Smtp, StoppingDoesNotWaitForAServerThatFroze) {
  TestServer server;
  auto mailer = make_smtp_mailer(options_for(server.port()));
  ASSERT_TRUE(deliver(*mailer, mail_to("to@example.com")));
  server.next();
  server.stop();
  const auto begin = std::chrono::steady_clock::now();
  mailer.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 5s);
}

}  // namespace
}  // namespace flexi::mailers::smtp
