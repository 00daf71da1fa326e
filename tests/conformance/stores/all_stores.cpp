// SPDX-License-Identifier: Apache-2.0
#include <fstream>
#include <future>

#include "mailers/mailbox/mailbox.hpp"
#include "mongo_under_test.hpp"
#include "postgres_under_test.hpp"
#include "store_under_test.hpp"
#include "stores/sqlite/idempotency_store.hpp"
#include "stores/sqlite/log_store.hpp"
#include "stores/sqlite/sent_mails.hpp"
#include "stores/sqlite/user_store.hpp"

namespace flexi::conformance {
namespace {

class SqliteUnderTest final : public StoreUnderTest {
 public:
  explicit SqliteUnderTest(std::filesystem::path folder) : file_(folder / "flexi.db") {}

  core::Result<void> open() override {
    FLEXI_TRY(database_, runtime::sqlite::Database::open({.path = file_.string(), .write_queue_limit = kQueueLimit}, runtime::LogSink::none(), metrics_));
    FLEXI_TRY(users_, stores::sqlite::open_user_store(*database_));
    FLEXI_TRY(logs_, stores::sqlite::open_log_store(*database_, {}));
    FLEXI_TRY(keys_, stores::sqlite::SqliteIdempotencyStore::open(*database_, {}));
    FLEXI_TRY(mailbox_, mailers::mailbox::SqliteMailbox::open(*database_));
    FLEXI_TRY(book_, runtime::sqlite::LedgerBook::open(*database_));
    FLEXI_TRY(sent_, stores::sqlite::SqliteSentMails::open(*database_, {}, book_.get()));
    database_->set_idle_work(stores::sqlite::LogUpkeep({}));
    return core::ok();
  }
  void close() override {
    sent_.reset();
    book_.reset();
    mailbox_.reset();
    keys_.reset();
    logs_.reset();
    users_.reset();
    database_.reset();
  }
  core::UserStore& users() override { return *users_; }
  core::LogStore& logs() override { return *logs_; }
  core::IdempotencyStore& keys() override { return *keys_; }
  core::Mailer& mailer() override { return *mailbox_; }
  core::Mailbox& mailbox() override { return *mailbox_; }

  core::SentMails& sent_mails() override { return *sent_; }
  core::LedgerSource& ledger() override { return *book_; }

  void refuse_writes() override { limit_pages("PRAGMA max_page_count=1"); }  // less than there are: no more than there are
  void allow_writes() override { limit_pages("PRAGMA max_page_count=1000000"); }

  void spoil() override { std::ofstream(file_, std::ios::trunc) << std::string(8192, 'x'); }

  void with_full_queue(const std::function<void()>& while_full) override { with_waiting(kQueueLimit, while_full); }
  void with_busy_writer(const std::function<void()>& while_busy) override { with_waiting(0, while_busy); }

 private:
  static constexpr std::size_t kQueueLimit = 64;
  /// While one write lasts and so many wait behind it.
  void with_waiting(std::size_t count, const std::function<void()>& meanwhile) {
    std::promise<void> release;
    auto released = release.get_future().share();
    // Never destroyed: the database's thread may still be on its way out of its last post.
    static auto& waiting = *new runtime::Shards(1);
    std::vector<std::future<void>> callers;
    auto write = [](runtime::sqlite::Database& database, std::shared_future<void> gate, std::promise<void>* started) -> core::awaitable<void> {
      auto job = [gate, started](runtime::sqlite::Connection&) -> core::Result<bool> {
        if (started) started->set_value();
        gate.wait();
        return true;
      };
      (void)co_await database.write(runtime::sqlite::Atomicity::single_statement, job, core::CallContext{});
    };
    std::promise<void> started;
    callers.push_back(boost::asio::co_spawn(waiting.executor(0), write(*database_, released, &started), boost::asio::use_future));
    started.get_future().wait();
    for (std::size_t i = 0; i < count; ++i)
      callers.push_back(boost::asio::co_spawn(waiting.executor(0), write(*database_, released, nullptr), boost::asio::use_future));
    // Behind the last of them on the same thread: by now all are in the queue.
    std::promise<void> queued;
    boost::asio::post(waiting.executor(0), [&] { queued.set_value(); });
    queued.get_future().wait();
    meanwhile();
    release.set_value();
    for (auto& caller : callers) caller.get();
  }

  void limit_pages(const char* pragma) {
    ASSERT_TRUE(database_->write_now([&](runtime::sqlite::Connection& connection) { return connection.execute(pragma); }));
  }

  std::filesystem::path file_;
  runtime::Metrics metrics_;
  std::unique_ptr<runtime::sqlite::Database> database_;
  std::unique_ptr<core::UserStore> users_;
  std::unique_ptr<core::LogStore> logs_;
  std::unique_ptr<stores::sqlite::SqliteIdempotencyStore> keys_;
  std::unique_ptr<mailers::mailbox::SqliteMailbox> mailbox_;
  std::unique_ptr<runtime::sqlite::LedgerBook> book_;
  std::unique_ptr<stores::sqlite::SqliteSentMails> sent_;
};

}  // namespace

static std::vector<StoreKind> embedded_stores() {
  return {{.name = "sqlite",
           .make = [](std::filesystem::path folder) { return std::make_unique<SqliteUnderTest>(std::move(folder)); },
           .keeps_users = true,
           .keeps_logs = true,
           .keeps_keys = true,
           .keeps_mails = true,
           .keeps_sent_mails = true}};
}

std::vector<StoreKind> all_stores() {
  auto kinds = embedded_stores();
  kinds.push_back(postgres_kind());
  kinds.push_back({.name = "mongo", .make = make_mongo_under_test, .keeps_logs = true, .missing = missing_mongo});
  return kinds;
}

}  // namespace flexi::conformance
