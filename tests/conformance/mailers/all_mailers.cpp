// SPDX-License-Identifier: Apache-2.0
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_future.hpp>
#include <future>

#include "mailer_under_test.hpp"
#include "mailers/mailbox/mailbox.hpp"
#include "mailers/once/once_mailer.hpp"
#include "mailers/smtp/smtp_mailer.hpp"
#include "mailers/smtp/smtp_test_server.hpp"
#include "stores/sqlite/sent_mails.hpp"

namespace flexi::conformance {
namespace {

using runtime::sqlite::Connection, runtime::sqlite::Database;

constexpr std::size_t kQueueLimit = 4;

/// The embedded database that each kind has something in.
class OnDatabase : public MailerUnderTest {
 public:
  OnDatabase(std::filesystem::path folder, runtime::Shards& shards) : shards_(shards), file_(folder / "flexi.db") {}

 protected:
  core::Result<void> open_database() {
    FLEXI_TRY(database_, Database::open({.path = file_.string(), .write_queue_limit = kQueueLimit}, runtime::LogSink::none(), metrics_));
    return core::ok();
  }
  void limit_pages(const char* pragma) {
    ASSERT_TRUE(database_->write_now([&](Connection& connection) { return connection.execute(pragma); }));
  }
  runtime::Shards& shards_;
  std::filesystem::path file_;
  runtime::Metrics metrics_;
  std::unique_ptr<Database> database_;
};

class MailboxUnderTest final : public OnDatabase {
 public:
  using OnDatabase::OnDatabase;
  core::Result<void> open() override {
    FLEXI_TRY(open_database());
    FLEXI_TRY(mailbox_, mailers::mailbox::SqliteMailbox::open(*database_));
    return core::ok();
  }
  void close() override {
    mailbox_.reset();
    database_.reset();
  }
  core::Mailer& mailer() override { return *mailbox_; }
  std::vector<std::string> arrived(std::size_t) override {
    std::vector<std::string> subjects;
    EXPECT_TRUE(database_->write_now([&](Connection& connection) -> core::Result<void> {
      auto rows = connection.use("SELECT subject FROM mails ORDER BY seq");
      for (;;) {
        FLEXI_TRY(auto found, rows.step());
        if (!found) return core::ok();
        subjects.push_back(rows.text(0));
      }
    }));
    return subjects;
  }
  void take_away() override { limit_pages("PRAGMA max_page_count=1"); }
  void bring_back() override { limit_pages("PRAGMA max_page_count=1000000"); }
  void with_full_queue(const std::function<void()>& while_full) override {
    std::promise<void> release, started, queued;
    auto gate = release.get_future().share();
    auto write = [](Database& database, std::shared_future<void> until, std::promise<void>* begun) -> core::awaitable<void> {
      auto job = [until, begun](Connection&) -> core::Result<bool> {
        if (begun) begun->set_value();
        until.wait();
        return true;
      };
      (void)co_await database.write(runtime::sqlite::Atomicity::single_statement, job, core::CallContext{});
    };
    std::vector<std::future<void>> callers;
    callers.push_back(boost::asio::co_spawn(shards_.executor(0), write(*database_, gate, &started), boost::asio::use_future));
    started.get_future().wait();
    for (std::size_t i = 0; i < kQueueLimit; ++i) callers.push_back(boost::asio::co_spawn(shards_.executor(0), write(*database_, gate, nullptr), boost::asio::use_future));
    boost::asio::post(shards_.executor(0), [&] { queued.set_value(); });  // behind the last of them
    queued.get_future().wait();
    while_full();
    release.set_value();
    for (auto& caller : callers) caller.get();
  }

 private:
  std::unique_ptr<mailers::mailbox::SqliteMailbox> mailbox_;
};

/// aiosmtpd, with the ledger of sent mails.
class SmtpUnderTest final : public OnDatabase {
 public:
  using OnDatabase::OnDatabase;
  core::Result<void> open() override {
    if (!server_) server_.emplace();
    port_ = server_->port();
    FLEXI_TRY(open_database());
    FLEXI_TRY(ledger_, stores::sqlite::SqliteSentMails::open(*database_, {}));
    mailers::smtp::SmtpOptions options;
    options.host = "127.0.0.1", options.port = port_, options.connections = 1;
    smtp_ = mailers::smtp::make_smtp_mailer(options);
    mailer_ = std::make_unique<mailers::once::OnceMailer>(*smtp_, *ledger_, mailers::once::OnceOptions{.max_under_way = kQueueLimit}, shards_.executor(0),
                                                          runtime::LogSink::none(), metrics_);
    return core::ok();
  }
  void close() override {
    if (mailer_) shards_.run([](mailers::once::OnceMailer& mailer) -> core::awaitable<void> { co_await mailer.stop(std::chrono::seconds(10)); }(*mailer_));
    mailer_.reset();
    smtp_.reset();
    ledger_.reset();
    database_.reset();
  }
  core::Mailer& mailer() override { return *mailer_; }
  std::vector<std::string> arrived(std::size_t count) override {
    while (subjects_.size() < count) {
      const auto content = server_->next().required_string("content").value();
      const auto begin = content.find("Subject: ") + 9;
      subjects_.push_back(content.substr(begin, content.find("\r\n", begin) - begin));
    }
    return subjects_;
  }
  void take_away() override { server_->stop(); }
  void bring_back() override { server_.emplace(std::vector<std::string>{"--port", std::to_string(port_)}); }
  void with_full_queue(const std::function<void()>& while_full) override {
    // So many mails to a recipient whose mail the server never answers.
    std::vector<std::future<void>> callers;
    auto send = [](core::Mailer& mailer, int number) -> core::awaitable<void> {
      core::RenderedMail mail;
      mail.id = core::MessageId::parse("waiting-" + std::to_string(number)).value();
      mail.from = "a@example.com", mail.to = {"hang@example.com"}, mail.mime = "Subject: hangs\r\n\r\nx\r\n";
      (void)co_await mailer.deliver(std::move(mail), core::CallContext::with_timeout(std::chrono::seconds(2)));
    };
    for (std::size_t i = 0; i < kQueueLimit; ++i)
      callers.push_back(boost::asio::co_spawn(shards_.executor(0), send(*mailer_, static_cast<int>(i)), boost::asio::use_future));
    std::promise<void> queued;
    boost::asio::post(shards_.executor(0), [&] { queued.set_value(); });
    queued.get_future().wait();
    while_full();
    for (auto& caller : callers) caller.get();
  }

 private:
  std::optional<mailers::smtp::TestServer> server_;
  std::int64_t port_ = 0;
  std::vector<std::string> subjects_;
  std::unique_ptr<stores::sqlite::SqliteSentMails> ledger_;
  std::unique_ptr<core::Mailer> smtp_;
  std::unique_ptr<mailers::once::OnceMailer> mailer_;
};

template <class Kind>
std::unique_ptr<MailerUnderTest> make(std::filesystem::path folder, runtime::Shards& shards) {
  return std::make_unique<Kind>(std::move(folder), shards);
}

}  // namespace

std::vector<MailerKind> all_mailers() {
  return {{.name = "mailbox", .make = make<MailboxUnderTest>}, {.name = "smtp", .make = make<SmtpUnderTest>, .judges = true}};
}

}  // namespace flexi::conformance
