// SPDX-License-Identifier: Apache-2.0
// Against aiosmtpd, which each case starts on a free port.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/ip/tcp.hpp>
#include <fstream>

#include "mailers/smtp/smtp_mailer.hpp"
#include "runtime/json.hpp"
#include "runtime/shards.hpp"

namespace flexi::mailers::smtp {
namespace {

using namespace std::chrono_literals;

/// The server process and what it tells.
class TestServer {
 public:
  explicit TestServer(const char* mode = "") {
    int in[2], out[2];
    if (::pipe(in) != 0 || ::pipe(out) != 0) std::abort();
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(in[0], 0);
      ::dup2(out[1], 1);
      for (int fd : {in[0], in[1], out[0], out[1]}) ::close(fd);
      ::execl("/usr/bin/python3", "python3", SMTP_SERVER_SCRIPT, mode, static_cast<char*>(nullptr));
      ::_exit(127);
    }
    ::close(in[0]);
    ::close(out[1]);
    stdin_ = in[1];
    stdout_ = ::fdopen(out[0], "r");
    auto first = next();
    port_ = first.integer("port").value().value();
  }
  ~TestServer() { stop(); }

  void stop() {
    if (pid_ <= 0) return;
    ::close(stdin_);
    ::fclose(stdout_);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

  runtime::JsonObject next() {
    char* line = nullptr;
    std::size_t size = 0;
    const auto n = ::getline(&line, &size, stdout_);
    std::string text(line, n > 0 ? static_cast<std::size_t>(n) : 0);
    std::free(line);
    auto object = runtime::JsonObject::parse(text);
    if (!object) {
      ADD_FAILURE() << "the test server said: " << text;
      std::abort();
    }
    return object.value();
  }
  std::int64_t port() const { return port_; }

 private:
  pid_t pid_ = 0;
  int stdin_ = -1;
  FILE* stdout_ = nullptr;
  std::int64_t port_ = 0;
};

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

TEST(Smtp, ADeferredMailIsUnavailableAndUnsent) {
  TestServer server;
  auto mailer = make_smtp_mailer(options_for(server.port()));
  auto delivered = deliver(*mailer, mail_to("defer@example.com"));
  ASSERT_FALSE(delivered);
  EXPECT_EQ(delivered.error().kind, core::ErrorKind::unavailable);
  EXPECT_NE(delivered.error().message.find("451"), std::string::npos) << delivered.error().message;
  EXPECT_EQ(delivered.error().sent, core::Sent::no);
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

TEST(Smtp, LogsInAndReportsARefusedLogin) {
  TestServer server("--auth");
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
