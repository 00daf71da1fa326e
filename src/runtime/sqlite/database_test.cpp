// SPDX-License-Identifier: Apache-2.0
#include "runtime/sqlite/database.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "runtime/shards.hpp"

namespace flexi::runtime::sqlite {
namespace {

namespace asio = boost::asio;
using core::Result;

class DatabaseTest : public testing::Test {
 public:
  DatabaseTest() {
    std::string name = testing::TempDir() + "flexi-database-XXXXXX";
    folder_ = ::mkdtemp(name.data());
    reopen();
    static constexpr Migration kSteps[] = {{1, "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT UNIQUE)"}};
    EXPECT_TRUE(database_->migrate("test", kSteps));
  }
  ~DatabaseTest() override {
    database_.reset();
    std::filesystem::remove_all(folder_);
  }
  void reopen(std::size_t queue_limit = 20000, std::size_t queue_bytes = DatabaseOptions{}.write_queue_bytes) {
    database_.reset();
    database_ = std::move(Database::open({.path = file(), .write_queue_limit = queue_limit, .write_queue_bytes = queue_bytes}, LogSink::none(), metrics_)).value();
  }
  std::string file() const { return folder_ + "/test.db"; }

  static Result<void> insert(Connection& c, std::string_view v) {
    auto s = c.use("INSERT INTO t(v) VALUES(?1)");
    return s.bind(1, v).run();
  }
  static Result<std::int64_t> count(Connection& c) {
    auto s = c.use("SELECT count(*) FROM t");
    FLEXI_TRY(auto row, s.step());
    (void)row;
    return s.integer(0);
  }
  asio::awaitable<Result<void>> write(std::string v, Atomicity atomicity = Atomicity::single_statement) {
    co_return co_await database_->write(atomicity, [v](Connection& c) { return insert(c, v); }, {});
  }
  asio::awaitable<Result<std::int64_t>> rows() {
    co_return co_await database_->read([](Connection& c) { return count(c); }, {});
  }

  std::string folder_;
  Metrics metrics_;
  Shards shards_{2};
  std::unique_ptr<Database> database_;
};

TEST_F(DatabaseTest, ManyWritersShareTransactionsAndAllSurviveAReopen) {
  std::vector<std::future<void>> writers;
  auto writer = [](DatabaseTest* self, int base) -> asio::awaitable<void> {
    for (int i = 0; i < 50; ++i) {
      auto written = co_await self->write(std::to_string(base + i));
      EXPECT_TRUE(written);
    }
  };
  for (int w = 0; w < 20; ++w) writers.push_back(asio::co_spawn(shards_.executor(w % 2), writer(this, w * 1000), asio::use_future));
  for (auto& w : writers) w.get();
  const auto commits = metrics_.counter("flexi_database_commits_total", "Transactions of the embedded database that were committed").value();
  EXPECT_LT(commits, 1000) << "every write had a transaction of its own";
  reopen();
  auto check = [](DatabaseTest* self) -> asio::awaitable<void> { EXPECT_EQ((co_await self->rows()).value(), 1000); };
  shards_.run(check(this));
}

TEST_F(DatabaseTest, AFailedJobUndoesItselfAndNothingElse) {
  auto test = [](DatabaseTest* self) -> asio::awaitable<void> {
    EXPECT_TRUE(co_await self->write("a"));
    auto duplicate = co_await self->write("a");
    EXPECT_EQ(duplicate.error().kind, core::ErrorKind::conflict);
    // Two statements, of which the second fails: the savepoint undoes the first too.
    auto both = co_await self->database_->write(
        Atomicity::many_statements,
        [](Connection& c) -> Result<void> {
          FLEXI_TRY(insert(c, "b"));
          return insert(c, "a");
        },
        {});
    EXPECT_EQ(both.error().kind, core::ErrorKind::conflict);
    EXPECT_EQ((co_await self->rows()).value(), 1);
  };
  shards_.run(test(this));
}

TEST_F(DatabaseTest, AFullDiskRefusesTheBatchAndHeals) {
  auto test = [](DatabaseTest* self) -> asio::awaitable<void> {
    EXPECT_TRUE(co_await self->write("before"));
    auto limit = [](const char* pragma) {
      return [pragma](Connection& c) { return c.execute(pragma); };
    };
    EXPECT_TRUE(self->database_->write_now(limit("PRAGMA max_page_count=8")));
    auto refused = co_await self->write(std::string(200000, 'x'));
    EXPECT_EQ(refused.error().kind, core::ErrorKind::unavailable);
    EXPECT_EQ((co_await self->rows()).value(), 1);
    EXPECT_TRUE(self->database_->write_now(limit("PRAGMA max_page_count=1000000")));
    EXPECT_TRUE(co_await self->write(std::string(200000, 'x')));
    EXPECT_EQ((co_await self->rows()).value(), 2);
  };
  shards_.run(test(this));
}

TEST_F(DatabaseTest, AFullDiskIsReportedAndItsEndIsNoticedWithoutWrites) {
  std::promise<core::Error> refused;
  std::promise<void> healed;
  database_.reset();
  DatabaseOptions options;
  options.path = file();
  options.on_health = [&](const core::Error* failure) { failure ? refused.set_value(*failure) : healed.set_value(); };
  database_ = std::move(Database::open(options, LogSink::none(), metrics_)).value();
  auto limit = [](const char* pragma) {
    return [pragma](Connection& c) { return c.execute(pragma); };
  };
  ASSERT_TRUE(database_->write_now(limit("PRAGMA max_page_count=8")));
  auto fill = [](DatabaseTest* self) -> asio::awaitable<void> { EXPECT_FALSE(co_await self->write(std::string(200000, 'x'))); };
  shards_.run(fill(this));
  auto reported = refused.get_future();
  ASSERT_EQ(reported.wait_for(std::chrono::seconds(10)), std::future_status::ready);
  EXPECT_EQ(reported.get().kind, core::ErrorKind::unavailable);
  auto well = healed.get_future();
  EXPECT_EQ(well.wait_for(std::chrono::milliseconds(1500)), std::future_status::timeout) << "the disk is still full";
  ASSERT_TRUE(database_->write_now(limit("PRAGMA max_page_count=1000000")));
  EXPECT_EQ(well.wait_for(std::chrono::seconds(10)), std::future_status::ready);
}

TEST_F(DatabaseTest, AFullDiskIsReportedThoughTheRestOfTheBatchIsCommitted) {
  std::atomic<int> refusals = 0;
  std::promise<void> healed;
  database_.reset();
  DatabaseOptions options;
  options.path = file();
  options.on_health = [&](const core::Error* failure) { failure ? void(++refusals) : healed.set_value(); };
  database_ = std::move(Database::open(options, LogSink::none(), metrics_)).value();
  auto test = [](DatabaseTest* self) -> asio::awaitable<void> {
    // The job itself runs into the limit and undoes its one statement; the transaction, with nothing in it, is committed.
    auto refused = co_await self->database_->write(Atomicity::many_statements, [](Connection& c) -> Result<void> {
      FLEXI_TRY(c.execute("PRAGMA max_page_count=8"));
      auto full = insert(c, std::string(200000, 'x'));
      FLEXI_TRY(c.execute("PRAGMA max_page_count=1000000"));
      return full;
    }, {});
    EXPECT_EQ(refused.error().kind, core::ErrorKind::unavailable);
    EXPECT_EQ(refused.error().sent, core::Sent::no);
  };
  shards_.run(test(this));
  EXPECT_EQ(refusals, 1);
  EXPECT_EQ(healed.get_future().wait_for(std::chrono::seconds(10)), std::future_status::ready);
}

/// Files of this process can't grow while it lives.
class NoRoomForFiles {
 public:
  explicit NoRoomForFiles(rlim_t bytes) {
    handler_ = ::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    rlimit now = before_;
    now.rlim_cur = bytes;
    EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &now), 0);
  }
  ~NoRoomForFiles() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  sighandler_t handler_;
};

TEST_F(DatabaseTest, ACommitThatFailsHalfWayMayHaveBeenWritten) {
  auto test = [](DatabaseTest* self) -> asio::awaitable<void> {
    EXPECT_TRUE(co_await self->write("before"));
    {
      // A write beyond the limit is EFBIG, an I/O error to SQLite, which happens when the commit writes the log.
      NoRoomForFiles limit(std::filesystem::file_size(self->file() + "-wal"));
      auto failed = co_await self->write("lost");
      EXPECT_EQ(failed.error().kind, core::ErrorKind::unavailable);
      EXPECT_EQ(failed.error().sent, core::Sent::maybe);
      EXPECT_EQ(failed.error().message.find("nothing was stored"), std::string::npos) << failed.error().message;
    }
    EXPECT_TRUE(co_await self->write("after"));
    EXPECT_EQ((co_await self->rows()).value(), 2);
  };
  shards_.run(test(this));
}

TEST_F(DatabaseTest, AFileThatIsNoDatabaseIsNamedWithWhatToDo) {
  for (auto size : {100, 100'000}) {
    const auto path = folder_ + "/garbage.db";
    std::ofstream(path, std::ios::binary | std::ios::trunc) << std::string(static_cast<std::size_t>(size), 'g');
    auto opened = Database::open({.path = path}, LogSink::none(), metrics_);
    ASSERT_FALSE(opened) << size;
    EXPECT_EQ(opened.error().kind, core::ErrorKind::unavailable);
    EXPECT_NE(opened.error().message.find("backup"), std::string::npos) << opened.error().message;
    EXPECT_NE(opened.error().detail.find(path), std::string::npos) << opened.error().detail;
    EXPECT_NE(opened.error().detail.find("restore"), std::string::npos) << opened.error().detail;
  }
}

TEST_F(DatabaseTest, ADamagedPageIsUnavailableAndNotABug) {
  auto fill = [](DatabaseTest* self) -> asio::awaitable<void> { EXPECT_TRUE(co_await self->write(std::string(100'000, 'x'))); };
  shards_.run(fill(this));
  database_.reset();
  {
    std::fstream out(file(), std::ios::binary | std::ios::in | std::ios::out);
    const auto size = std::filesystem::file_size(file());
    for (std::size_t at = 4096; at < size; at += 4096) out.seekp(static_cast<std::streamoff>(at)).write("damage damage damage", 20);
  }
  auto opened = Database::open({.path = file()}, LogSink::none(), metrics_);
  const auto error = [&] {
    if (!opened) return opened.error();
    database_ = std::move(opened).value();
    return database_->write_now([](Connection& c) { return insert(c, "more"); }).error();
  }();
  EXPECT_EQ(error.kind, core::ErrorKind::unavailable) << error.message << error.detail;
  EXPECT_NE(error.detail.find(file()), std::string::npos) << error.detail;
}

TEST_F(DatabaseTest, IdleWorkThatWasTakenAwayDoesNotRunAnyMore) {
  for (int round = 0; round < 20; ++round) {
    std::promise<void> began;
    auto in_hand = std::make_unique<std::atomic<bool>>(false);
    database_->set_idle_work([&began, first = true, busy = in_hand.get()](Connection&) mutable {
      *busy = true;
      if (std::exchange(first, false)) began.set_value();
      std::this_thread::sleep_for(std::chrono::milliseconds(5));  // a step's length
      *busy = false;
      return true;
    });
    began.get_future().wait();
    database_->set_idle_work({});
    EXPECT_FALSE(*in_hand) << "it still ran";
    in_hand.reset();
  }
}

TEST_F(DatabaseTest, AReaderThatWasLeftInATransactionSeesNewRowsAgain) {
  database_.reset();
  database_ = std::move(Database::open({.path = file(), .readers = 1}, LogSink::none(), metrics_)).value();
  auto test = [](DatabaseTest* self) -> asio::awaitable<void> {
    auto begin = [](Connection& c) -> Result<std::int64_t> {
      FLEXI_TRY(c.execute("BEGIN"));
      return count(c);
    };
    EXPECT_EQ((co_await self->database_->read(begin, {})).value(), 0);
    EXPECT_TRUE(co_await self->write("a"));
    EXPECT_EQ((co_await self->rows()).value(), 1);
  };
  shards_.run(test(this));
}

TEST_F(DatabaseTest, AFullQueueIsOverloaded) {
  reopen(0);
  auto test = [](DatabaseTest* self) -> asio::awaitable<void> {
    auto refused = co_await self->write("x");
    EXPECT_EQ(refused.error().kind, core::ErrorKind::overloaded);
    EXPECT_TRUE(refused.error().retry_after.has_value());
  };
  shards_.run(test(this));
}

TEST_F(DatabaseTest, MigrationsRunOnceAndANewerFileIsRefused) {
  static constexpr Migration kTwo[] = {{1, "CREATE TABLE u(x)"}, {2, "ALTER TABLE u ADD COLUMN y"}};
  EXPECT_TRUE(database_->migrate("two", std::span(kTwo, 1)));
  EXPECT_TRUE(database_->migrate("two", kTwo));
  EXPECT_TRUE(database_->migrate("two", kTwo));
  auto older = database_->migrate("two", std::span(kTwo, 1));
  EXPECT_EQ(older.error().kind, core::ErrorKind::conflict);
  EXPECT_NE(older.error().message.find("format 2"), std::string::npos);
}

TEST_F(DatabaseTest, ABackupOfARunningDatabaseIsWhole) {
  auto fill = [](DatabaseTest* self) -> asio::awaitable<void> { EXPECT_TRUE(co_await self->write("kept")); };
  shards_.run(fill(this));
  EXPECT_TRUE(database_->backup(folder_ + "/copy.db"));
  EXPECT_FALSE(database_->backup(folder_ + "/copy.db")) << "a backup must not overwrite a file";
  auto copy = std::move(Connection::open(folder_ + "/copy.db", Connection::Mode::read_only)).value();
  EXPECT_EQ(count(*copy).value(), 1);
}

TEST_F(DatabaseTest, IdleWorkRunsUntilItHasNothingLeft) {
  std::promise<void> done;
  database_->set_idle_work([&done, left = 3](Connection& c) mutable {
    EXPECT_TRUE(insert(c, "idle" + std::to_string(left)));
    if (--left == 0) done.set_value();
    return left > 0;
  });
  ASSERT_EQ(done.get_future().wait_for(std::chrono::seconds(10)), std::future_status::ready);
  database_->set_idle_work(nullptr);
  auto check = [](DatabaseTest* self) -> asio::awaitable<void> {
    EXPECT_TRUE(co_await self->write("after"));
    EXPECT_EQ((co_await self->rows()).value(), 4);
  };
  shards_.run(check(this));
}

TEST_F(DatabaseTest, BytesThatWaitHaveALimit) {
  reopen(20000, 1000);
  std::promise<void> blocked, release;
  auto block = [](DatabaseTest* self, std::promise<void>* entered, std::shared_future<void> end) -> asio::awaitable<void> {
    auto job = [entered, end](Connection&) -> Result<bool> {
      entered->set_value();
      end.wait();
      return true;
    };
    EXPECT_TRUE(co_await self->database_->write(Atomicity::single_statement, std::move(job), {}));
  };
  using Outcome = std::optional<Result<void>>;
  auto put = [](DatabaseTest* self, std::string v, std::size_t bytes, Outcome* out) -> asio::awaitable<void> {
    out->emplace(co_await self->database_->write(Atomicity::single_statement, [v](Connection& c) { return insert(c, v); }, {}, bytes));
  };
  auto blocker = asio::co_spawn(shards_.executor(0), block(this, &blocked, release.get_future().share()), asio::use_future);
  blocked.get_future().wait();
  Outcome large, small, more, after;
  auto taken = asio::co_spawn(shards_.executor(0), put(this, "large", 5000, &large), asio::use_future);  // alone: whatever its size
  auto light = asio::co_spawn(shards_.executor(0), put(this, "small", 0, &small), asio::use_future);
  auto over = asio::co_spawn(shards_.executor(0), put(this, "more", 1, &more), asio::use_future);
  std::promise<void> asked;  // behind them on the same thread
  asio::post(shards_.executor(0), [&asked] { asked.set_value(); });
  asked.get_future().wait();
  release.set_value();
  for (auto* write : {&blocker, &taken, &light, &over}) write->get();
  EXPECT_TRUE(*large);
  EXPECT_TRUE(*small);
  ASSERT_FALSE(*more);
  EXPECT_EQ(more->error().kind, core::ErrorKind::overloaded);
  EXPECT_TRUE(more->error().retry_after);
  shards_.run(put(this, "after", 900, &after));
  EXPECT_TRUE(*after) << "what was written waits no more";
}

}  // namespace
}  // namespace flexi::runtime::sqlite
