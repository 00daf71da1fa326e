// SPDX-License-Identifier: Apache-2.0
#include "mailers/mailbox/mailbox.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "core/timestamp.hpp"
#include "runtime/shards.hpp"

namespace flexi::mailers::mailbox {
namespace {

using namespace std::chrono_literals;
using core::Delivered, core::ErrorKind;

class MailboxTest : public testing::Test {
 protected:
  MailboxTest() {
    std::string pattern = testing::TempDir() + "/mailboxXXXXXX";
    folder_ = ::mkdtemp(pattern.data());
    open();
  }
  ~MailboxTest() override {
    mailbox_.reset();
    database_.reset();
    shards_.join();
    std::filesystem::remove_all(folder_);
  }

  void open() {
    mailbox_.reset();
    database_.reset();
    auto database = runtime::sqlite::Database::open({.path = folder_ + "/m.db"}, runtime::LogSink::none(), metrics_);
    ASSERT_TRUE(database);
    database_ = std::move(database).value();
    auto mailbox = SqliteMailbox::open(*database_);
    ASSERT_TRUE(mailbox) << mailbox.error().message << mailbox.error().detail;
    mailbox_ = std::move(mailbox).value();
  }

  template <class T>
  core::Result<T> wait(core::awaitable<core::Result<T>> work) {
    std::optional<core::Result<T>> result;
    shards_.run([](auto w, auto& out) -> core::awaitable<void> { out.emplace(co_await std::move(w)); }(std::move(work), result));
    return std::move(*result);
  }
  core::Result<Delivered> deliver(core::RenderedMail mail) { return wait(mailbox_->deliver(std::move(mail), {})); }
  core::MailPage page(unsigned limit, std::string cursor = {}) { return wait(mailbox_->list(limit, std::move(cursor), {})).value(); }
  std::vector<std::string> ids() {
    std::vector<std::string> out;
    for (auto& mail : page(500).mails) out.push_back(mail.id.str());
    return out;
  }
  bool purge(MailboxOptions options) {
    bool more = false;
    EXPECT_TRUE(database_->write_now([&](auto& connection) -> core::Result<void> {
      more = MailboxUpkeep(options).purge_some(connection);
      return core::ok();
    }));
    return more;
  }

  static core::RenderedMail mail(std::string id, core::Timestamp time = std::chrono::system_clock::now()) {
    core::RenderedMail m;
    m.id = core::MessageId::parse(id).value();
    m.from = "a@example.com";
    m.to = {"b@example.com", "c@example.com"};
    m.subject = "Grüße '; DROP TABLE mails; --";
    m.html = "<p>hi</p>";
    m.plain = std::string("hi\0there", 8);
    m.mime = "Date: x\r\n\r\nhi";
    m.created_at = core::from_unix_micros(core::to_unix_micros(time));
    return m;
  }

  std::string folder_;
  runtime::Metrics metrics_;
  runtime::Shards shards_{1};
  std::unique_ptr<runtime::sqlite::Database> database_;
  std::unique_ptr<SqliteMailbox> mailbox_;
};

TEST_F(MailboxTest, ReadsBackWhatWasDeliveredAlsoAfterARestart) {
  const auto sent = mail("one");
  ASSERT_EQ(deliver(sent).value(), Delivered::sent);
  open();
  auto got = wait(mailbox_->get(sent.id, {}));
  ASSERT_TRUE(got);
  EXPECT_EQ(got.value().from, sent.from);
  EXPECT_EQ(got.value().to, sent.to);
  EXPECT_EQ(got.value().subject, sent.subject);
  EXPECT_EQ(got.value().html, sent.html);
  EXPECT_EQ(got.value().plain, sent.plain);
  EXPECT_EQ(got.value().mime, sent.mime);
  EXPECT_EQ(got.value().created_at, sent.created_at);
}

TEST_F(MailboxTest, SaysWhichIdsItHasOrHasHad) {
  for (auto id : {"kept", "removed"}) ASSERT_TRUE(deliver(mail(id)));
  ASSERT_TRUE(wait(mailbox_->remove(mail("removed").id, {})));
  std::vector<core::MessageId> asked{mail("never").id, mail("removed").id, mail("kept").id};
  EXPECT_EQ(wait(mailbox_->known(asked, {})).value().ids, (std::vector<core::MessageId>{asked[1], asked[2]}));
  asked.resize(1001, asked[0]);
  EXPECT_EQ(wait(mailbox_->known(asked, {})).error().kind, ErrorKind::invalid_argument);
}

TEST_F(MailboxTest, KeepsTraceAndHopsAndCountsWhatItStored) {
  auto book = std::move(runtime::sqlite::LedgerBook::open(*database_).value());
  auto counted = std::move(SqliteMailbox::open(*database_, book.get()).value());
  auto traced = mail("traced");
  traced.trace_id = core::TraceContext::begin().trace_id;
  traced.hops = "broker@1795000000000000 mail@1795000000000001";
  traced.via = core::Via::amqp;
  traced.published = true;
  EXPECT_EQ(wait(counted->deliver(traced, {})).value(), Delivered::sent);
  EXPECT_EQ(wait(counted->deliver(traced, {})).value(), Delivered::duplicate);
  auto direct = mail("direct");
  direct.via = core::Via::http;
  EXPECT_EQ(wait(counted->deliver(direct, {})).value(), Delivered::sent);
  auto kept = wait(counted->get(traced.id, {})).value();
  EXPECT_EQ(kept.trace_id, traced.trace_id);
  EXPECT_EQ(kept.hops, traced.hops);
  EXPECT_EQ(kept.via, core::Via::amqp);
  EXPECT_EQ(kept.duplicates, 1u);
  EXPECT_FALSE(wait(mailbox_->get(traced.id, {})).value().duplicates) << "nobody counts for this one";
  ASSERT_TRUE(wait(counted->remove(traced.id, {})));
  EXPECT_EQ(wait(counted->deliver(traced, {})).value(), Delivered::duplicate) << "its id stays";
  std::int64_t traces = 0;
  ASSERT_TRUE(database_->write_now([&](auto& connection) -> core::Result<void> {
    auto row = connection.use("SELECT count(*) FROM mail_traces");
    FLEXI_TRY(row.step());
    traces = row.integer(0);
    return core::ok();
  }));
  EXPECT_EQ(traces, 1);
  std::optional<core::Result<std::vector<core::Account>>> accounts;
  shards_.run([](auto& b, auto& out) -> core::awaitable<void> { out.emplace(co_await b.accounts({})); }(*book, accounts));
  auto lines = accounts->value().at(0).lines;
  ASSERT_EQ(lines.size(), 2u);
  for (auto& line : lines) {
    EXPECT_EQ(line.action, "mail");
    EXPECT_EQ(line.stored, 1);
    EXPECT_EQ(line.accepted, line.way == "http" ? 1 : 0);
    EXPECT_EQ(line.duplicates, line.way == "http" ? 0 : 2);
  }
  counted.reset();
  book.reset();
}

TEST_F(MailboxTest, ATemplateThatChangedBetweenTwoDeliveriesMakesNoOtherMail) {
  auto first = mail("one");
  first.payload = "what the caller sent";
  ASSERT_EQ(deliver(first).value(), Delivered::sent);
  auto again = mail("one");
  again.payload = first.payload;
  again.html = "<h1>the new template</h1>";
  again.mime = "the new message";
  EXPECT_EQ(deliver(again).value(), Delivered::duplicate);
  EXPECT_EQ(wait(mailbox_->get(first.id, {})).value().html, first.html) << "the first one stays";
  again.payload = "something else";
  EXPECT_EQ(deliver(again).error().kind, core::ErrorKind::conflict);
  // One that an older version has stored is known by what was rendered then.
  auto old = mail("old");
  ASSERT_EQ(deliver(old).value(), Delivered::sent);
  old.payload = "what the caller sent";
  EXPECT_EQ(deliver(old).value(), Delivered::duplicate);
}

TEST_F(MailboxTest, TheSameMailAgainIsADuplicateWhateverItsDate) {
  ASSERT_EQ(deliver(mail("one")).value(), Delivered::sent);
  auto again = mail("one", std::chrono::system_clock::now() + 1h);
  again.mime = "Date: y\r\n\r\nhi";
  EXPECT_EQ(deliver(again).value(), Delivered::duplicate);
  EXPECT_EQ(ids().size(), 1u);
}

TEST_F(MailboxTest, AnotherMailUnderTheSameIdIsAConflict) {
  ASSERT_TRUE(deliver(mail("one")));
  std::vector<core::RenderedMail> others(5, mail("one"));
  others[0].from = "x@example.com";
  others[1].to = {"b@example.com"};
  others[2].subject += "!";
  others[3].html += "!";
  others[4].plain += "!";
  for (auto& other : others) EXPECT_EQ(deliver(other).error().kind, ErrorKind::conflict);
}

TEST_F(MailboxTest, PagesAreNewestFirstStableAndComplete) {
  const auto base = std::chrono::system_clock::now();
  for (int i = 0; i < 7; ++i) ASSERT_TRUE(deliver(mail("m" + std::to_string(i), base + std::chrono::seconds(i / 2))));
  std::vector<std::string> seen;
  std::string cursor;
  do {
    auto one = page(2, cursor);
    for (auto& m : one.mails) {
      seen.push_back(m.id.str());
      EXPECT_TRUE(m.html.empty() && m.plain.empty() && m.mime.empty());
    }
    if (seen.size() == 2) {
      ASSERT_TRUE(deliver(mail("later", base + 1min)));  // must not shift the pages that follow
    }
    cursor = one.next;
  } while (!cursor.empty());
  EXPECT_EQ(seen, (std::vector<std::string>{"m6", "m5", "m4", "m3", "m2", "m1", "m0"}));
}

TEST_F(MailboxTest, ACursorThatIsNoneIsInvalid) {
  for (const char* cursor : {"x", "1", "1.", ".1", "1.2x", "1.99999999999999999999", "' OR 1=1"})
    EXPECT_EQ(wait(mailbox_->list(10, cursor, {})).error().kind, ErrorKind::invalid_argument) << cursor;
  EXPECT_EQ(wait(mailbox_->list(0, "", {})).error().kind, ErrorKind::invalid_argument);
}

TEST_F(MailboxTest, ARemovedMailStaysRemoved) {
  const auto sent = mail("one");
  ASSERT_TRUE(deliver(sent));
  ASSERT_TRUE(wait(mailbox_->remove(sent.id, {})));
  EXPECT_EQ(wait(mailbox_->get(sent.id, {})).error().kind, ErrorKind::not_found);
  EXPECT_EQ(wait(mailbox_->remove(sent.id, {})).error().kind, ErrorKind::not_found);
  EXPECT_EQ(deliver(sent).value(), Delivered::duplicate);
  auto other = sent;
  other.subject = "other";
  EXPECT_EQ(deliver(other).error().kind, ErrorKind::conflict);
  EXPECT_TRUE(ids().empty());
}

TEST_F(MailboxTest, RemovedIdsAreForgottenInTheEnd) {
  ASSERT_TRUE(deliver(mail("one")));
  ASSERT_TRUE(wait(mailbox_->remove(mail("one").id, {})));
  EXPECT_FALSE(purge({})) << "not yet";
  ASSERT_TRUE(database_->write_now([](auto& connection) { return connection.execute("UPDATE mails_removed SET removed_at = removed_at - 91 * 86400000000"); }));
  EXPECT_TRUE(purge({}));
  EXPECT_EQ(deliver(mail("one")).value(), Delivered::sent);
}

TEST_F(MailboxTest, RetentionByAgeRemovesInSteps) {
  const auto now = std::chrono::system_clock::now();
  for (int i = 0; i < 120; ++i) ASSERT_TRUE(deliver(mail("old" + std::to_string(i), now - 48h)));
  ASSERT_TRUE(deliver(mail("new", now)));
  EXPECT_FALSE(purge({})) << "off unless set";
  MailboxOptions options;
  options.retention_age = 24h;
  int steps = 0;
  while (purge(options)) ++steps;
  EXPECT_EQ(steps, 3);
  EXPECT_EQ(ids(), std::vector<std::string>{"new"});
  EXPECT_EQ(deliver(mail("old0", now - 48h)).value(), Delivered::duplicate) << "retention must not let a redelivery resurrect a mail";
}

TEST_F(MailboxTest, RetentionBySizeRemovesTheOldestOnly) {
  const auto now = std::chrono::system_clock::now();
  for (int i = 0; i < 10; ++i) {
    auto big = mail("m" + std::to_string(i), now + std::chrono::seconds(i));
    big.html = std::string(10'000, 'x');
    ASSERT_TRUE(deliver(big));
  }
  MailboxOptions options;
  options.retention_max_bytes = 35'000;
  while (purge(options)) {
  }
  EXPECT_EQ(ids(), (std::vector<std::string>{"m9", "m8", "m7"}));
}

TEST_F(MailboxTest, TwoRacingDeliveriesStoreOne) {
  std::vector<Delivered> results;
  shards_.run([](SqliteMailbox& mailbox, core::RenderedMail m, std::vector<Delivered>& out) -> core::awaitable<void> {
    auto executor = co_await boost::asio::this_coro::executor;
    for (int i = 0; i < 8; ++i)
      boost::asio::co_spawn(
          executor,
          [](SqliteMailbox& box, core::RenderedMail one, std::vector<Delivered>& o) -> core::awaitable<void> {
            o.push_back((co_await box.deliver(std::move(one), {})).value());
          }(mailbox, m, out),
          [](std::exception_ptr) {});
    while (out.size() < 8) co_await boost::asio::post(executor, boost::asio::use_awaitable);
  }(*mailbox_, mail("one"), results));
  EXPECT_EQ(std::count(results.begin(), results.end(), Delivered::sent), 1);
  EXPECT_EQ(ids().size(), 1u);
}

}  // namespace
}  // namespace flexi::mailers::mailbox
