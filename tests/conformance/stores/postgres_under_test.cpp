// SPDX-License-Identifier: Apache-2.0
#include "postgres_under_test.hpp"

#include <boost/asio/use_future.hpp>
#include <condition_variable>
#include <future>
#include <mutex>

#include "stores/postgres/ledger.hpp"
#include "stores/postgres/sent_mails.hpp"
#include "stores/postgres/user_store.hpp"
#include "tests/support/postgresql.hpp"

namespace flexi::conformance {
namespace {

using flexi::testing::PgConnection, flexi::testing::PostgreSql;

class PostgresUnderTest final : public StoreUnderTest {
 public:
  /// Several processes may be given the same folder: it names the database.
  explicit PostgresUnderTest(std::filesystem::path folder) : name_(folder.filename().string()), owner_(::getpid()) {
    PgConnection admin(server_.dsn());
    if (admin.run("SELECT 1 FROM pg_database WHERE datname = '" + name_ + "'").empty()) admin.run("CREATE DATABASE \"" + name_ + "\" TEMPLATE template0");
  }
  ~PostgresUnderTest() override {
    close();
    if (owner_ == ::getpid()) PgConnection(server_.dsn()).run("DROP DATABASE IF EXISTS \"" + name_ + "\" WITH (FORCE)");
  }

  core::Result<void> open() override {
    threads_ = std::make_unique<runtime::Shards>(1);
    said_.reset();
    auto heard = [this](const core::Error* error) {
      std::lock_guard lock(mutex_);
      if (error && error->message == "the database is being connected") return;
      said_ = error ? core::Result<void>(*error) : core::Result<void>(core::ok());
      healths_.notify_all();
    };
    database_ = std::make_unique<runtime::postgres::Database>(runtime::postgres::PostgresOptions{.dsn = dsn(), .queue_limit = kQueueLimit}, threads_->executor(0),
                                                              runtime::LogSink::none(), metrics_, heard);
    users_ = stores::postgres::open_user_store(*database_);
    ledger_ = stores::postgres::open_ledger(*database_);
    sent_mails_ = stores::postgres::open_sent_mails(*database_, std::chrono::hours(24));
    database_->start();
    std::unique_lock lock(mutex_);
    if (!healths_.wait_for(lock, std::chrono::seconds(30), [&] { return said_.has_value(); })) return core::unavailable("the database says nothing");
    return *said_;
  }
  void close() override {
    if (!database_) return;
    threads_->run(database_->stop());
    sent_mails_.reset();
    ledger_.reset();
    users_.reset();
    database_.reset();
    threads_.reset();
  }
  core::UserStore& users() override { return *users_; }
  core::SentMails& sent_mails() override { return *sent_mails_; }
  core::LedgerSource& ledger() override { return *ledger_; }

  void refuse_writes() override {
    // What PostgreSQL says then, at the place where it says it.
    run("CREATE OR REPLACE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$");
    for (auto& table : tables()) run("CREATE TRIGGER disk_full BEFORE INSERT OR UPDATE ON " + table + " FOR EACH ROW EXECUTE FUNCTION disk_full()");
  }
  void allow_writes() override {
    for (auto& table : tables()) run("DROP TRIGGER disk_full ON " + table);
  }
  std::size_t longest_text() const override { return 255; }

  void spoil() override { run("CREATE TABLE public.users(id integer, email integer)"); }

  void with_full_queue(const std::function<void()>& while_full) override {
    with_lock([&] {
      runtime::Shards callers(1);
      auto write = [](core::UserStore& users) -> core::awaitable<void> { (void)co_await users.remove(-1, {}); };
      std::vector<std::future<void>> waiting;
      for (std::size_t i = 0; i < kQueueLimit; ++i) waiting.push_back(boost::asio::co_spawn(callers.executor(0), write(*users_), boost::asio::use_future));
      while (under_way() < kQueueLimit) std::this_thread::yield();
      while_full();
      lock_.reset();
      for (auto& each : waiting) each.get();
      threads_->run([]() -> core::awaitable<void> { co_return; }());  // its thread is out of its last post to `callers`
    });
  }
  void with_busy_writer(const std::function<void()>& while_busy) override { with_lock(while_busy); }

 private:
  static constexpr std::size_t kQueueLimit = 64;
  std::string dsn() const { return server_.dsn("dbname=" + name_); }
  void run(const std::string& sql) const { PgConnection(dsn()).run(sql); }
  static std::vector<std::string> tables() { return {"public.users", "public.flexi_sent_mails"}; }
  /// Writes wait for a lock of somebody else's; reads don't.
  void with_lock(const std::function<void()>& meanwhile) {
    lock_ = std::make_unique<PgConnection>(dsn());
    lock_->run("BEGIN");
    for (auto& table : tables()) lock_->run("LOCK TABLE " + table + " IN SHARE ROW EXCLUSIVE MODE");
    meanwhile();
    lock_.reset();
  }
  std::size_t under_way() {
    std::size_t count = 0;
    threads_->run([](runtime::postgres::Database& database, std::size_t& out) -> core::awaitable<void> {
      out = database.writes_under_way();
      co_return;
    }(*database_, count));
    return count;
  }

  PostgreSql server_;
  std::string name_;
  ::pid_t owner_;
  runtime::Metrics metrics_;
  std::unique_ptr<runtime::Shards> threads_;
  std::unique_ptr<runtime::postgres::Database> database_;
  std::unique_ptr<core::UserStore> users_;
  std::unique_ptr<core::LedgerSource> ledger_;
  std::unique_ptr<core::SentMails> sent_mails_;
  std::unique_ptr<PgConnection> lock_;
  std::mutex mutex_;
  std::condition_variable healths_;
  std::optional<core::Result<void>> said_;
};

}  // namespace

StoreKind postgres_kind() {
  return {.name = "postgres",
          .make = [](std::filesystem::path folder) { return std::make_unique<PostgresUnderTest>(std::move(folder)); },
          .keeps_users = true,
          .keeps_sent_mails = true,
          .missing = PostgreSql::missing};
}

}  // namespace flexi::conformance
